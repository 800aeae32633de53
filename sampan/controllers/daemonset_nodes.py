"""On which nodes a DaemonSet runs, and the pods made for them. Pure.

The default scheduler binds the pods: each is pinned to its node by node affinity. So the rules
here are those it would apply to such a pod, but for what may pass (resources, ports).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object
from sampan.api.placement import NAME_FIELD, REQUIRED, selects, tolerates

from .runtime.history import REVISION_LABEL
from .runtime.owners import controller_reference

NO_EXECUTE, NO_SCHEDULE = "NoExecute", "NoSchedule"
GENERATION_LABEL = "pod-template-generation"
GENERATION = "deprecated.daemonset.template.generation"

# Daemons stay on nodes in trouble: they may be what mends them.
TOLERATED = (
    ("node.kubernetes.io/not-ready", NO_EXECUTE),
    ("node.kubernetes.io/unreachable", NO_EXECUTE),
    ("node.kubernetes.io/disk-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/memory-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/pid-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/unschedulable", NO_SCHEDULE),
)
ON_HOST_NETWORK = ("node.kubernetes.io/network-unavailable", NO_SCHEDULE)


class Fit(NamedTuple):
    """Should a pod be made for a node, and may one that is there stay?"""

    run: bool
    stay: bool


def fits(owner: Object) -> Callable[[Object], Fit]:
    """What a DaemonSet wants of a node (upstream's NodeShouldRunDaemonPod)."""
    spec = owner["spec"]["template"].get("spec") or {}
    only = spec.get("nodeName") or ""
    tolerations = with_tolerations(spec)

    def fit(node: Object) -> Fit:
        name = node["metadata"]["name"]
        if only not in ("", name):
            return Fit(False, False)
        if not selects(spec, name, node["metadata"].get("labels") or {}):
            return Fit(False, False)
        taints = (node.get("spec") or {}).get("taints")
        if not taints:
            return Fit(True, True)
        effects = {
            taint.get("effect")
            for taint in taints
            if not any(tolerates(item, taint) for item in tolerations)
        }
        if NO_EXECUTE in effects:
            return Fit(False, False)
        return Fit(NO_SCHEDULE not in effects, True)

    return fit


def with_tolerations(spec: Object) -> list[Object]:
    """The pod's tolerations and those every daemon has."""
    added = [*TOLERATED, *((ON_HOST_NETWORK,) if spec.get("hostNetwork") else ())]
    out = [*(spec.get("tolerations") or ())]
    for key, effect in added:
        wanted = {"key": key, "operator": "Exists", "effect": effect}
        places = [place for place, item in enumerate(out) if _is_same(item, key, effect)]
        if places:
            # One that ends after some seconds is made to last.
            out[places[0]] = wanted
        else:
            out.append(wanted)
    return out


def _is_same(item: Object, key: str, effect: str) -> bool:
    named = (item.get("key"), item.get("operator"), item.get("effect"))
    return named == (key, "Exists", effect) and not item.get("value")


def new_pod(resource: Descriptor, owner: Object, digest: str, node: str) -> Object:
    """A pod for a node, from the present template, whose revision has this hash."""
    meta, template = owner["metadata"], owner["spec"]["template"]
    given, spec = template.get("metadata") or {}, template.get("spec") or {}
    kept = {key: given[key] for key in ("annotations", "finalizers") if given.get(key)}
    labels = {**(given.get("labels") or {}), REVISION_LABEL: digest}
    generation = (meta.get("annotations") or {}).get(GENERATION)
    if generation is not None:
        labels[GENERATION_LABEL] = str(generation)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **kept,
            "generateName": f"{meta['name']}-",
            "namespace": meta["namespace"],
            "labels": labels,
            "ownerReferences": [controller_reference(resource, owner)],
        },
        "spec": {
            **spec,
            "tolerations": with_tolerations(spec),
            "affinity": pinned(spec.get("affinity") or {}, node),
        },
    }


def pinned(affinity: Object, node: str) -> Object:
    """The affinity with this node as the only one: the node matches what it replaces."""
    term = {"matchFields": [{"key": NAME_FIELD, "operator": "In", "values": [node]}]}
    given = affinity.get("nodeAffinity") or {}
    return {**affinity, "nodeAffinity": {**given, REQUIRED: {"nodeSelectorTerms": [term]}}}


def node_of(pod: Object) -> str:
    """The node a pod is on or pinned to; "" if it is neither."""
    spec = pod.get("spec") or {}
    if spec.get("nodeName"):
        return str(spec["nodeName"])
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(REQUIRED) or {}
    for term in required.get("nodeSelectorTerms") or ():
        for item in term.get("matchFields") or ():
            values: list[str] = item.get("values") or []
            if (item.get("key"), item.get("operator"), len(values)) == (NAME_FIELD, "In", 1):
                return values[0]
    return ""
