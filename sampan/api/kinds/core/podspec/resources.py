"""Resource names, quantities, requests and limits (pkg/apis/core/validation, core/helper)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sampan.wire.quantity import NANO, Quantity, QuantityError, parse

from .... import fields
from ....errors import Cause, Object
from ....names import label_key_problems
from ...formats import NEGATIVE, check_label

HUGE_PAGES = "hugepages-"
COMPUTE = frozenset({"cpu", "memory"})
CONTAINER = frozenset({"cpu", "memory", "ephemeral-storage"})
COUNTS = frozenset({
    "pods", "resourcequotas", "services", "replicationcontrollers", "secrets", "configmaps",
    "persistentvolumeclaims", "services.nodeports", "services.loadbalancers",
})  # fmt: skip
STANDARD = CONTAINER | COUNTS | frozenset({
    "requests.cpu", "requests.memory", "requests.ephemeral-storage", "limits.cpu",
    "limits.memory", "limits.ephemeral-storage", "storage", "requests.storage",
})  # fmt: skip

Check = Callable[[str, str, list[Cause]], None]


def is_native(name: str) -> bool:
    """Without a domain, or with Kubernetes' own."""
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    if is_native(name) or name.startswith("requests."):
        return False
    return not label_key_problems(f"requests.{name}")


def is_huge_pages(name: str) -> bool:
    return name.startswith(HUGE_PAGES)


def is_pod_level(name: str) -> bool:
    """May a pod say it for itself, instead of its containers (KEP-2837)?"""
    return name in COMPUTE or is_huge_pages(name)


def may_overcommit(name: str) -> bool:
    return is_native(name) and not is_huge_pages(name)


def is_integer(name: str) -> bool:
    return name in COUNTS or is_extended(name)


def check_resource_name(name: str, path: str, out: list[Cause]) -> None:
    problems = label_key_problems(name)
    if problems:
        out += [fields.invalid(path, name, why) for why in problems]
    elif "/" not in name and not (
        name in STANDARD or is_huge_pages(name) or name.startswith("requests.hugepages-")
    ):
        why = "must be a standard resource type or fully qualified"
        out.append(fields.invalid(path, name, why))


def check_container_resource_name(name: str, path: str, out: list[Cause]) -> None:
    if name in CONTAINER:
        return
    check_resource_name(name, path, out)
    if "/" not in name:
        if not is_huge_pages(name):
            out.append(fields.invalid(path, name, "must be a standard resource for containers"))
    elif not is_native(name) and not is_extended(name):
        why = "doesn't follow extended resource name standard"
        out.append(fields.invalid(path, name, why))


def check_pod_resource_name(name: str, path: str, out: list[Cause]) -> None:
    before = len(out)
    check_resource_name(name, path, out)
    if len(out) == before and name not in COMPUTE and not is_huge_pages(name):
        out.append(fields.not_supported(path, name, sorted([*COMPUTE, HUGE_PAGES])))


def check_quantity(name: str, value: Any, path: str, out: list[Cause]) -> Quantity | None:
    """The quantity, checked to suit the resource; None when it is none at all."""
    try:
        quantity = parse(value)
    except QuantityError as error:
        out.append(fields.invalid(path, value, str(error)))
        return None
    if quantity.nanos < 0:
        out.append(fields.invalid(path, str(quantity), NEGATIVE))
    if name not in CONTAINER and quantity.nanos % NANO and is_integer(name):
        out.append(fields.invalid(path, str(quantity), "must be an integer"))
    return quantity


def check_requirements(
    resources: Object,
    path: str,
    out: list[Cause],
    claims: frozenset[str] = frozenset(),
    check_name: Check = check_container_resource_name,
) -> None:
    """Requests and limits of a container, or of a pod with another `check_name`."""
    limits: Mapping[str, Any] = resources.get("limits") or {}
    requests: Mapping[str, Any] = resources.get("requests") or {}
    caps: dict[str, Quantity] = {}
    for name, value in limits.items():
        where = f"{path}.limits[{name}]"
        check_name(name, where, out)
        quantity = check_quantity(name, value, where, out)
        if quantity is not None:
            caps[name] = quantity
            _check_divisible(name, quantity, where, out)
    for name, value in requests.items():
        where = f"{path}.requests[{name}]"
        check_name(name, where, out)
        quantity = check_quantity(name, value, where, out)
        if quantity is not None:
            _check_against_limit(name, quantity, caps, path, out)
            _check_divisible(name, quantity, where, out)
    if limits or requests:
        names = limits.keys() | requests.keys()
        if not names & COMPUTE and any(map(is_huge_pages, names)):
            out.append(fields.forbidden(path, "HugePages require cpu or memory"))
    if resources.get("claims"):
        _check_claims(resources["claims"], claims, f"{path}.claims", out)


def _check_against_limit(
    name: str, quantity: Quantity, caps: Mapping[str, Quantity], path: str, out: list[Cause]
) -> None:
    limit = caps.get(name)
    if limit is None:
        if not may_overcommit(name):
            why = "Limit must be set for non overcommitable resources"
            out.append(fields.required(f"{path}.limits", why))
        return
    where = f"{path}.requests"
    if quantity.nanos != limit.nanos and not may_overcommit(name):
        why = f"must be equal to {name} limit of {limit}"
        out.append(fields.invalid(where, str(quantity), why))
    elif quantity.nanos > limit.nanos:
        why = f"must be less than or equal to {name} limit of {limit}"
        out.append(fields.invalid(where, str(quantity), why))


def _check_divisible(name: str, quantity: Quantity, path: str, out: list[Cause]) -> None:
    if not is_huge_pages(name):
        return
    try:
        page = parse(name.removeprefix(HUGE_PAGES)).nanos
    except QuantityError:
        page = 0
    if page <= 0 or quantity.nanos % page:
        why = f"{quantity} is not positive integer multiple of {name}"
        out.append(fields.invalid(path, str(quantity), why))


def _check_claims(claims: list[Object], known: frozenset[str], path: str, out: list[Cause]) -> None:
    seen: set[str] = set()
    for position, claim in enumerate(claims):
        where = f"{path}[{position}]"
        name = claim.get("name") or ""
        if not name:
            out.append(fields.required(where))
            continue
        key = f"{name}/{claim['request']}" if claim.get("request") else name
        if claim.get("request"):
            check_label(claim["request"], f"{where}.request", out)
        if key in seen or name in seen:
            out.append(fields.duplicate(where, key if key in seen else name))
        seen.add(key)
        if name not in known:
            rest = f": {', '.join(sorted(known))}" if known else " which is empty"
            why = f"must be one of the names in pod.spec.resourceClaims{rest}"
            out.append(Cause(where, f"Not found: {fields.show(name)}: {why}", fields.NOT_FOUND))


def total_requests(spec: Object) -> dict[str, str]:
    """What the containers of a pod request together: the sum of those that run at once, or the
    largest init container with the sidecars before it (component-helpers resource)."""
    return _total(spec, _requests)


def total_limits(spec: Object) -> dict[str, str]:
    """The same of their limits, of those containers that have them."""
    return _total(spec, _limits)


def _total(spec: Object, of: Callable[[Object], Mapping[str, Any]]) -> dict[str, str]:
    running: dict[str, Quantity] = {}
    for container in spec.get("containers") or ():
        _add(running, of(container))
    peak: dict[str, Quantity] = {}
    sidecars: dict[str, Quantity] = {}
    for container in spec.get("initContainers") or ():
        need = dict(sidecars)
        _add(need, of(container))
        if container.get("restartPolicy") == "Always":
            sidecars = need
            _add(running, of(container))
        for name, quantity in need.items():
            if name not in peak or peak[name].nanos < quantity.nanos:
                peak[name] = quantity
    for name, quantity in peak.items():
        if name not in running or running[name].nanos < quantity.nanos:
            running[name] = quantity
    return {name: str(quantity) for name, quantity in running.items()}


def _requests(container: Object) -> Mapping[str, Any]:
    return (container.get("resources") or {}).get("requests") or {}


def _limits(container: Object) -> Mapping[str, Any]:
    return (container.get("resources") or {}).get("limits") or {}


def _add(total: dict[str, Quantity], more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        try:
            quantity = parse(value)
        except QuantityError:
            continue
        before = total.get(name)
        total[name] = (
            quantity if before is None else Quantity(before.nanos + quantity.nanos, before.format)
        )


def _units(quantity: Quantity) -> int:
    """Whole units, rounded up: how upstream compares these (Quantity.Value)."""
    return -(-quantity.nanos // 10**9)


def check_pod_resources(spec: Object, path: str, out: list[Cause], claims: frozenset[str]) -> None:
    """spec.resources: the pod's own requests and limits (KEP-2837)."""
    resources = spec["resources"]
    if resources.get("claims") is not None:
        out.append(
            fields.forbidden(f"{path}.claims", "claims cannot be set for Resources at pod-level")
        )
    before = len(out)
    check_requirements(resources, path, out, claims, check_pod_resource_name)
    if len(out) > before:
        return
    requests = resources.get("requests") or {}
    for name, text in total_requests(spec).items():
        if name not in requests:  # A device, say, which is nothing the pod itself can ask for.
            continue
        own = parse(requests[name])
        if _units(parse(text)) > _units(own):
            why = f"must be greater than or equal to aggregate container requests of {text}"
            out.append(fields.invalid(f"{path}.requests[{name}]", str(own), why))
    limits = resources.get("limits") or {}
    for name, text in total_limits(spec).items():
        if name in limits and name.startswith("hugepages-"):
            own = parse(limits[name])
            if _units(parse(text)) > _units(own):
                why = f"must be greater than or equal to aggregate container limits of {text}"
                out.append(fields.invalid(f"{path}.limits[{name}]", str(own), why))
    for position, container in enumerate(spec.get("containers") or ()):
        for name, value in ((container.get("resources") or {}).get("limits") or {}).items():
            if name in limits and _units(parse(value)) > _units(parse(limits[name])):
                where = f"{path}.containers[{position}][{name}].limits"
                why = f"must be less than or equal to pod limits of {parse(limits[name])}"
                out.append(fields.invalid(where, str(parse(value)), why))
