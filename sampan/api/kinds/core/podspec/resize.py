"""What /resize may change of a pod (ValidatePodResize, KEP-1287, KEP-5419): the CPU and memory of
its containers, those that come first among them (since 1.36), and its own.

Everything else of what was sent is left out before it is checked, as upstream's strategy does.
"""

from __future__ import annotations

from collections.abc import Sequence

from .... import fields
from ....errors import Cause, Object
from .equality import same
from .quality import qos_class

RESIZED = ("resources", "resizePolicy")
"""Fields of a container that are taken of what was sent."""
LISTS = ("containers", "initContainers")
COMPUTE = ("cpu", "memory")
QUALITY = "Pod QOS Class may not change as a result of resizing"
ONLY = "only cpu and memory resources are mutable"
ONLY_SIDECARS = "only cpu and memory resources for sidecar containers are mutable"


def keep_unresized(pod: Object, old: Object) -> None:
    """Put back, in place, all of `pod` that /resize does not take; containers go by their name."""
    sent: Object = pod.get("spec") or {}
    before: Object = old.get("spec") or {}
    spec = {key: value for key, value in before.items() if key != "resources"}
    for name in LISTS:
        given = {item.get("name"): item for item in sent.get(name) or ()}
        if before.get(name):
            spec[name] = [_resized(was, given.get(was.get("name"))) for was in before[name]]
    if sent.get("resources") is not None:
        spec["resources"] = sent["resources"]
    pod["spec"] = spec


def _resized(was: Object, sent: Object | None) -> Object:
    if sent is None:
        return dict(was)
    kept = {key: value for key, value in was.items() if key not in RESIZED}
    return kept | {key: sent[key] for key in RESIZED if sent.get(key) is not None}


def check_resize(pod: Object, old: Object, out: list[Cause]) -> None:
    """`pod` has been through `keep_unresized` and the checks of a whole pod."""
    spec, before = pod["spec"], old.get("spec") or {}
    quality = (old.get("status") or {}).get("qosClass") or qos_class(before)
    if qos_class(spec) != quality:
        shown = (pod.get("status") or {}).get("qosClass", "")
        out.append(fields.invalid("spec", shown, QUALITY))
    inits, regular = _pairs(spec, before, "initContainers"), _pairs(spec, before, "containers")
    for name, pairs in (("initContainers", inits), ("containers", regular)):
        for position, (item, was) in enumerate(pairs):
            _check_kept(item, was, f"spec.{name}[{position}].resources", out)
    _check_kept(spec, before, "spec.resources", out)
    _check_fixed(regular, inits, out)
    if not same(_beyond(spec), _beyond(before)):
        out.append(fields.forbidden("spec", ONLY))


def _pairs(spec: Object, before: Object, name: str) -> list[tuple[Object, Object]]:
    # There are as many of both: `keep_unresized` makes the one of the other.
    return list(zip(spec.get(name) or (), before.get(name) or (), strict=False))


def _is_sidecar(container: Object) -> bool:
    return container.get("restartPolicy") == "Always"


def _check_kept(item: Object, was: Object, path: str, out: list[Cause]) -> None:
    """Requests and limits may not be taken away."""
    new, old = item.get("resources") or {}, was.get("resources") or {}
    for name in ("requests", "limits"):
        if (old.get(name) or {}).keys() - (new.get(name) or {}).keys():
            out.append(fields.forbidden(f"{path}.{name}", f"resource {name} cannot be removed"))


def _check_fixed(
    regular: Sequence[tuple[Object, Object]],
    inits: Sequence[tuple[Object, Object]],
    out: list[Cause],
) -> None:
    """Nothing of a container changes but its CPU and memory."""
    for item, was in (*regular, *inits):
        if not same(_without_compute(item), _without_compute(was)):
            out.append(fields.forbidden("spec", ONLY_SIDECARS if _is_sidecar(was) else ONLY))


def _beyond(spec: Object) -> Object:
    """The pod's own resources other than CPU and memory."""
    return _without_compute(spec).get("resources") or {}


def _without_compute(owner: Object) -> Object:
    resources = dict(owner.get("resources") or {})
    for name in ("requests", "limits"):
        amounts: Object = resources.pop(name, None) or {}
        rest = {key: value for key, value in amounts.items() if key not in COMPUTE}
        if rest:
            resources[name] = rest
    return {**owner, "resources": resources}
