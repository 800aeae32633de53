"""Job (batch/v1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import BadRequest, Cause, Object
from ...names import label_problems
from ...selectors import from_label_selector
from ...times import TimeError, parse_time
from ..core.podspec.equality import same
from ..doubts import doubt_pod_name
from ..printing import (
    AGE,
    CONTAINERS,
    IMAGES,
    NAME,
    SELECTOR,
    age,
    condition_status,
    container_cells,
    human_duration,
    name,
    selector_text,
)
from .jobspec import check_job_spec, check_selector, default_job_spec, warn_job_spec
from .jobstatus import check_job_status

UID_LABEL = "batch.kubernetes.io/controller-uid"
LEGACY_UID_LABEL = "controller-uid"
NAME_LABEL = "batch.kubernetes.io/job-name"
LEGACY_NAME_LABEL = "job-name"
NODES = "nodeAffinity"
SCHEDULING = ("nodeSelector", "tolerations", "schedulingGates")
"""Fields of the pod spec a suspended job may still change, with nodeAffinity (KEP-2926) and its
containers' resources (KEP-5440)."""
CONTAINERS_OF = ("containers", "initContainers")


def prepare(obj: Object, old: Object | None) -> None:
    """A new job selects its pods by its own uid, unless the user chooses (manualSelector)."""
    spec = obj.setdefault("spec", {})
    if old is not None or spec.get("manualSelector"):
        return
    template = spec.setdefault("template", {})
    metadata = obj["metadata"]
    labels = template.setdefault("metadata", {}).setdefault("labels", {})
    for key, value in (
        (LEGACY_NAME_LABEL, metadata.get("name")),
        (NAME_LABEL, metadata.get("name")),
        (LEGACY_UID_LABEL, metadata.get("uid")),
        (UID_LABEL, metadata.get("uid")),
    ):
        # A user's own value stays, so that validation can refuse it.
        labels.setdefault(key, value or "")
    selector = spec.setdefault("selector", {})
    selector.setdefault("matchLabels", {}).setdefault(UID_LABEL, metadata.get("uid") or "")


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    default_job_spec(spec)
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if labels and not obj["metadata"].get("labels"):
        obj["metadata"]["labels"] = dict(labels)
    obj.setdefault("status", {})


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    if old is not None and spec == old.get("spec"):
        return out
    check_selector(spec.get("selector"), "spec.selector", out)
    if not out:
        _check_selected(obj, spec, out)
    check_job_spec(spec, "spec", out)
    if old is not None:
        _check_update(spec, old, out)
    else:
        _check_hosts(obj, spec, out)
    return out


def _check_hosts(obj: Object, spec: Object, out: list[Cause]) -> None:
    """The host names of an Indexed job's pods end in their indexes."""
    completions = spec.get("completions") or 0
    if spec.get("completionMode") != "Indexed" or completions <= 0:
        return
    own_name = obj["metadata"].get("name") or ""
    last = f"{own_name}-{completions - 1}"
    if label_problems(last):
        why = f"will not able to create pod with invalid DNS label: {last}"
        out.append(fields.invalid("metadata.name", own_name, why))


def _check_selected(obj: Object, spec: Object, out: list[Cause]) -> None:
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    if not spec.get("manualSelector"):
        metadata = obj["metadata"]
        path = "spec.template.metadata.labels"
        for key, expected in (
            (UID_LABEL, metadata.get("uid")),
            (LEGACY_UID_LABEL, metadata.get("uid")),
            (NAME_LABEL, metadata.get("name")),
            (LEGACY_NAME_LABEL, metadata.get("name")),
        ):
            if key not in labels:
                out.append(fields.required(f"{path}[{key}]", f"must be '{expected}'"))
            elif labels[key] != expected:
                out.append(fields.invalid(f"{path}[{key}]", labels, f"must be '{expected}'"))
        match = (spec.get("selector") or {}).get("matchLabels") or {}
        if match.get(UID_LABEL) != metadata.get("uid") and (
            match.get(LEGACY_UID_LABEL) != metadata.get("uid")
        ):
            why = "`selector` not auto-generated"
            out.append(fields.invalid("spec.selector", spec["selector"], why))
    try:
        matches = from_label_selector(spec["selector"]).matches(labels)
    except BadRequest:
        matches = False
    if not matches:
        why = "`selector` does not match template `labels`"
        out.append(fields.invalid("spec.template.metadata.labels", labels, why))


def _check_update(spec: Object, old: Object, out: list[Cause]) -> None:
    before = old["spec"]
    indexed = spec.get("completionMode") == "Indexed"
    completions, was = spec.get("completions"), before.get("completions")
    if indexed and completions != was:
        # Without one, the check of the mode has said so.
        if completions is not None and completions != spec.get("parallelism"):
            why = "can only be modified in tandem with spec.parallelism"
            out.append(fields.invalid("spec.completions", completions, why))
    else:
        out += fields.unchanged("spec.completions", completions, was)
    out += fields.unchanged("spec.selector", spec.get("selector"), before.get("selector"))
    template, stored = spec.get("template") or {}, before.get("template") or {}
    idle = before.get("suspend") and not (old.get("status") or {}).get("startTime")
    if not same(_fixed(template, idle), _fixed(stored, idle)):
        out.append(fields.immutable("spec.template", template))
    for field in (
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ):
        out += fields.unchanged(f"spec.{field}", spec.get(field), before.get(field))


def _fixed(template: Object, idle: bool) -> Object:
    if not idle:
        return template
    pod = template.get("spec") or {}
    fixed = {key: value for key, value in pod.items() if key not in SCHEDULING}
    for kind in CONTAINERS_OF:
        fixed[kind] = [
            {key: value for key, value in container.items() if key != "resources"}
            for container in pod.get(kind) or ()
        ]
    affinity = {key: value for key, value in (pod.get("affinity") or {}).items() if key != NODES}
    return {"spec": {**fixed, "affinity": affinity}}


def warnings(obj: Object, old: Object | None) -> list[str]:
    if old is None:
        return doubt_pod_name(obj) + warn_job_spec(obj["spec"], "spec")
    return [] if obj["spec"] == old.get("spec") else warn_job_spec(obj["spec"], "spec")


def selectable(obj: Object) -> Mapping[str, str]:
    return {"status.successful": str((obj.get("status") or {}).get("succeeded") or 0)}


def cells(obj: Object, now_s: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    done = status.get("succeeded") or 0
    if spec.get("completions") is not None:
        completions = f"{done}/{spec['completions']}"
    elif (spec.get("parallelism") or 0) > 1:
        completions = f"{done}/1 of {spec['parallelism']}"
    else:
        completions = f"{done}/1"
    return [
        name(obj),
        _state(obj),
        completions,
        _duration(status, now_s),
        age(obj, now_s),
        *container_cells(spec.get("template")),
        selector_text(spec.get("selector")),
    ]


def _state(obj: Object) -> str:
    for kind, text in (("Complete", "Complete"), ("Failed", "Failed")):
        if condition_status(obj, kind) == "True":
            return text
    if "deletionTimestamp" in obj["metadata"]:
        return "Terminating"
    for kind, text in (("Suspended", "Suspended"), ("FailureTarget", "FailureTarget")):
        if condition_status(obj, kind) == "True":
            return text
    return "Running"


def _duration(status: Object, now_s: float) -> str:
    if not status.get("startTime"):
        return ""
    try:
        end = parse_time(status["completionTime"]) if status.get("completionTime") else now_s
        return human_duration(end - parse_time(status["startTime"]))
    except TimeError:
        return ""


KIND = Kind(
    group="batch",
    version="v1",
    kind="Job",
    categories=("all",),
    storage="jobs",
    default=default,
    defaults_metadata=True,
    prepare=prepare,
    validate=validate,
    validate_status=check_job_status,
    warnings=warnings,
    fields=selectable,
    columns=(
        NAME,
        Column("Status", "string", "Status of the job."),
        Column("Completions", "string", "Pods that succeeded, of those wanted."),
        Column("Duration", "string", "Time required to complete the job."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ),
    cells=cells,
)
