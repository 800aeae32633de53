"""The pods of a job, made from its template. Pure."""

from __future__ import annotations

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object

from .job_indexes import INDEX
from .job_plan import FAILURES, FINALIZER, IGNORED, Survey, failures_of
from .job_policies import judge
from .runtime.owners import controller_reference

VARIABLE = "JOB_COMPLETION_INDEX"
MAX_PREFIX = 58
"""Of a generated name: a label's 63 characters without the five that are generated."""


def new_pod(resource: Descriptor, found: Survey, index: int | None) -> Object:
    """A pod for an index (None: for none)."""
    job, template = found.job, found.job["spec"]["template"]
    meta, given = job["metadata"], template.get("metadata") or {}
    finalizers = [*(given.get("finalizers") or ())]
    if FINALIZER not in finalizers:
        finalizers.append(FINALIZER)
    body: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"{meta['name']}-",
            "namespace": meta["namespace"],
            "labels": given.get("labels") or {},
            "annotations": given.get("annotations") or {},
            "finalizers": finalizers,
            "ownerReferences": [controller_reference(resource, job)],
        },
        "spec": template["spec"],
    }
    if index is not None:
        _place(body, found, index)
    return body


def _place(body: Object, found: Survey, index: int) -> None:
    """Tell the pod its index: by label, annotation, host name and variable."""
    meta, name, number = body["metadata"], found.job["metadata"]["name"], str(index)
    ending = f"-{number}-"
    meta["generateName"] = name[: MAX_PREFIX - len(ending)] + ending
    meta["labels"] = {**meta["labels"], INDEX: number}
    meta["annotations"] = {**meta["annotations"], INDEX: number}
    if found.job["spec"].get("backoffLimitPerIndex") is not None:
        meta["annotations"].update(_failures(found, index))
    spec = {**body["spec"], "hostname": f"{name}-{number}"}
    for kind in ("initContainers", "containers"):
        if spec.get(kind):
            spec[kind] = [_with_variable(container) for container in spec[kind]]
    body["spec"] = spec


def _with_variable(container: Object) -> Object:
    given = container.get("env") or []
    if any(item["name"] == VARIABLE for item in given):
        return container
    source = {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX}']"}}
    return {**container, "env": [*given, {"name": VARIABLE, "valueFrom": source}]}


def _failures(found: Survey, index: int) -> dict[str, str]:
    """How often the index has failed so far."""
    last = found.kept.get(index)
    if last is None:
        return {FAILURES: "0"}
    counts = judge(found.job, last).counts
    ignored = failures_of(last, IGNORED) + (not counts)
    out = {FAILURES: str(failures_of(last) + counts)}
    return out | ({IGNORED: str(ignored)} if ignored else {})
