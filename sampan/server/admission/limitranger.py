"""LimitRanger: a namespace's default requests and limits, and the bounds they must keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from sampan.api.errors import Object, aggregate
from sampan.api.kinds.core.podspec.resources import is_pod_level, total_limits, total_requests
from sampan.wire import quantity

from ..exchange import Write
from .plugin import Plugin, refuse

if TYPE_CHECKING:
    from ..app import Server

ANNOTATION = "kubernetes.io/limit-ranger"
FIELDS = (("containers", "container"), ("initContainers", "init container"))

Amounts = Mapping[str, str]


class Usage(NamedTuple):
    """What one container, pod or claim asks for."""

    kind: str
    requests: Amounts
    limits: Amounts


def mutate(server: Server, write: Write) -> None:
    """Fill in a pod's missing requests and limits."""
    if _plural(write) != "pods" or write.operation != "CREATE":
        return
    for items in server.admission.lookups.limits(write.attributes.namespace):
        notes: list[str] = []
        for item in items:
            if item.get("type") == "Container":
                requests, limits = item.get("defaultRequest") or {}, item.get("default") or {}
                notes += _fill(write.obj, requests, limits)
        if notes:
            meta = write.obj["metadata"]
            text = "LimitRanger plugin set: " + "; ".join(notes)
            meta["annotations"] = {**(meta.get("annotations") or {}), ANNOTATION: text}


def _fill(pod: Object, requests: Amounts, limits: Amounts) -> list[str]:
    """Set defaults in every container; says what was set, as upstream's annotation does."""
    notes: list[str] = []
    spec = pod.get("spec") or {}
    for field, word in FIELDS:
        for container in spec.get(field) or ():
            have = container.get("resources") or {}
            # A limit without a request means a request of the same amount.
            own_requests = {**(have.get("limits") or {}), **(have.get("requests") or {})}
            own_limits = dict(have.get("limits") or {})
            for label, own, wanted in (
                ("request", own_requests, requests),
                ("limit", own_limits, limits),
            ):
                added = sorted(set(wanted) - set(own))
                own.update((name, wanted[name]) for name in added)
                if added:
                    name = container.get("name", "")
                    notes.append(f"{', '.join(added)} {label} for {word} {name}")
            resources = {**have}
            if own_requests:
                resources["requests"] = own_requests
            if own_limits:
                resources["limits"] = own_limits
            container["resources"] = resources
    return notes


def validate(server: Server, write: Write) -> None:
    if (write.obj.get("metadata") or {}).get("deletionTimestamp"):
        return
    ranges = server.admission.lookups.limits(write.attributes.namespace)
    if not ranges:
        return
    usages = list(_usages(write))
    for items in ranges:
        why = aggregate(
            text
            for item in items
            for usage in usages
            if usage.kind == item.get("type")
            for text in _problems(usage, item)
        )
        if why:
            raise refuse(write, why)


def _usages(write: Write) -> Iterator[Usage]:
    spec = write.obj.get("spec") or {}
    if _plural(write) == "persistentvolumeclaims":
        yield Usage(
            "PersistentVolumeClaim", (spec.get("resources") or {}).get("requests") or {}, {}
        )
        return
    for field, _ in FIELDS:
        for container in spec.get(field) or ():
            resources = container.get("resources") or {}
            yield Usage("Container", resources.get("requests") or {}, resources.get("limits") or {})
    yield Usage("Pod", _pod_total(spec, "requests"), _pod_total(spec, "limits"))


def _pod_total(spec: Object, field: str) -> Amounts:
    """Containers (and sidecars) together, or the largest step on the way to them if it is more;
    what the pod says for itself goes before (KEP-2837)."""
    total = total_requests(spec) if field == "requests" else total_limits(spec)
    own = (spec.get("resources") or {}).get(field) or {}
    return {**total, **{name: value for name, value in own.items() if is_pod_level(name)}}


def _problems(usage: Usage, item: Object) -> Iterator[str]:
    kind = usage.kind
    is_claim = kind == "PersistentVolumeClaim"
    for name, bound in (item.get("min") or {}).items():
        rule = f"minimum {name} usage per {kind} is {quantity.canonical(bound)}"
        request, limit = usage.requests.get(name), usage.limits.get(name)
        if request is None:
            yield f"{rule}.  No request is specified"
        elif quantity.compare(request, bound) < 0:
            yield f"{rule}, but request is {quantity.canonical(request)}"
        elif limit is not None and quantity.compare(limit, bound) < 0:
            yield f"{rule}, but limit is {quantity.canonical(limit)}"
    for name, bound in (item.get("max") or {}).items():
        rule = f"maximum {name} usage per {kind} is {quantity.canonical(bound)}"
        request, limit = usage.requests.get(name), usage.limits.get(name)
        if limit is None and not is_claim:
            yield f"{rule}.  No limit is specified"
        elif request is None and is_claim:
            yield f"{rule}.  No request is specified"
        elif limit is not None and quantity.compare(limit, bound) > 0:
            yield f"{rule}, but limit is {quantity.canonical(limit)}"
        elif request is not None and quantity.compare(request, bound) > 0:
            yield f"{rule}, but request is {quantity.canonical(request)}"
    for name, bound in ({} if is_claim else item.get("maxLimitRequestRatio") or {}).items():
        yield from _ratio_problem(usage, name, bound)


def _ratio_problem(usage: Usage, name: str, bound: str) -> Iterator[str]:
    rule = f"{name} max limit to request ratio per {usage.kind} is {quantity.canonical(bound)}"
    request = quantity.nanos(usage.requests.get(name, "0"))
    limit = quantity.nanos(usage.limits.get(name, "0"))
    if request == 0:
        yield f"{rule}, but no request is specified or request is 0"
    elif limit == 0:
        yield f"{rule}, but no limit is specified or limit is 0"
    elif limit / request > quantity.nanos(bound) / quantity.NANO:
        yield f"{rule}, but provided ratio is {limit / request:f}"


def _plural(write: Write) -> str:
    return write.attributes.resource.plural if write.attributes.resource else ""


PLUGIN = Plugin(
    "LimitRanger",
    {
        ("", "pods"): ("CREATE",),
        ("", "pods/resize"): ("UPDATE",),
        ("", "persistentvolumeclaims"): ("CREATE", "UPDATE"),
    },
    mutate,
    validate,
)
