"""Pods under quota (pkg/quota/v1/evaluator/core/pods, component-helpers/resource)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..errors import Object
from ..kinds.core.podspec.quality import BEST_EFFORT, qos_class
from ..times import parse_time
from .amounts import Amounts, add, count, largest, read
from .scopes import Requirement

COUNT = "count/pods"
COMPUTE = ("cpu", "memory")
STANDARD = ("cpu", "memory", "ephemeral-storage")
NAMES = frozenset(
    {COUNT, "pods", *STANDARD}
    | {f"{what}.{name}" for what in ("requests", "limits") for name in STANDARD}
)
EXPLICIT = frozenset(
    {*COMPUTE} | {f"{what}.{name}" for what in ("requests", "limits") for name in COMPUTE}
)
"""Under a quota of these every container must say how much it wants."""
HUGE = "hugepages-"
FINISHED = ("Succeeded", "Failed")


def counts(obj: Object, now_s: float) -> bool:
    """Does the pod still use what it asked for? Not one that is over, nor one that should have
    been gone by now (its node may be lost)."""
    metadata = obj["metadata"]
    if (obj.get("status") or {}).get("phase") in FINISHED:
        return False
    gone, grace_s = metadata.get("deletionTimestamp"), metadata.get("deletionGracePeriodSeconds")
    return gone is None or grace_s is None or now_s <= parse_time(gone) + grace_s


def usage(obj: Object, now_s: float) -> Amounts:
    used = {COUNT: count(1)}
    if not counts(obj, now_s):
        return used
    return used | charged(*_totals(obj))


def charged(requests: Amounts, limits: Amounts) -> Amounts:
    """Requests and limits under the names quotas have for them."""
    used = {"pods": count(1)}
    for name in STANDARD:
        if name in requests:
            used[name] = used[f"requests.{name}"] = requests[name]
        if name in limits:
            used[f"limits.{name}"] = limits[name]
    for name, amount in requests.items():
        if name.startswith(HUGE):
            used[name] = used[f"requests.{name}"] = amount
        elif is_extended(name):
            used[f"requests.{name}"] = amount
    return used


def is_extended(name: str) -> bool:
    """A resource of somebody's own domain, such as example.com/gpu."""
    domain, slash, _ = name.partition("/")
    native = not slash or domain == "kubernetes.io" or domain.endswith(".kubernetes.io")
    return not native and not name.startswith("requests.")


def matching(names: Iterable[str]) -> list[str]:
    """Those of a quota's names that pods count under."""
    return [name for name in names if name in NAMES or _is_huge(name) or _is_asked(name)]


def _is_huge(name: str) -> bool:
    return name.startswith((HUGE, f"requests.{HUGE}"))


def _is_asked(name: str) -> bool:
    return name.startswith("requests.") and is_extended(name.removeprefix("requests."))


def constraint(obj: Object, names: Iterable[str]) -> str:
    """What the pod must say and does not, in upstream's words; "" when nothing."""
    required = EXPLICIT.intersection(names)
    spec = obj.get("spec") or {}
    if not required or spec.get("resources"):
        return ""
    missing: dict[str, set[str]] = {}
    for container in _containers(spec):
        resources = container.get("resources") or {}
        said = charged(read(resources.get("requests")), read(resources.get("limits")))
        for name in required.difference(said):
            missing.setdefault(name, set()).add(container.get("name", ""))
    return "; ".join(
        f"{name} for: {','.join(sorted(containers))}"
        for name, containers in sorted(missing.items())
    )


def _containers(spec: Object) -> Iterator[Object]:
    yield from spec.get("containers") or ()
    yield from spec.get("initContainers") or ()


def in_scope(obj: Object, scope: Requirement) -> bool:
    spec = obj.get("spec") or {}
    deadline = spec.get("activeDeadlineSeconds")
    terminating = deadline is not None and deadline >= 0
    match scope.name:
        case "Terminating":
            return terminating
        case "NotTerminating":
            return not terminating
        case "BestEffort":
            return qos_class(spec) == BEST_EFFORT
        case "NotBestEffort":
            return qos_class(spec) != BEST_EFFORT
        case "PriorityClass":
            name = spec.get("priorityClassName") or ""
            return scope.holds({name} if name else set())
        case "CrossNamespacePodAffinity":
            return _reaches_out(spec.get("affinity") or {})
    return False


def _reaches_out(affinity: Object) -> bool:
    """Does an affinity term look at pods of other namespaces?"""
    for side in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(side) or {}
        terms = [*(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ())]
        for weighted in rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ():
            terms.append(weighted.get("podAffinityTerm") or {})
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None
               for term in terms):  # fmt: skip
            return True
    return False


def _totals(obj: Object) -> tuple[Amounts, Amounts]:
    """(requests, limits) of the whole pod."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    actual = {
        item.get("name"): item
        for kind in ("containerStatuses", "initContainerStatuses")
        for item in status.get(kind) or ()
    }
    requests, limits = (_total(spec, what, actual) for what in ("requests", "limits"))
    own = spec.get("resources") or {}
    for total, what in ((requests, "requests"), (limits, "limits")):
        for name, amount in read(own.get(what)).items():
            if name in COMPUTE or name.startswith(HUGE):
                total[name] = amount
    overhead = read(spec.get("overhead"))
    limited = {name: amount for name, amount in overhead.items() if name in limits}
    return add(requests, overhead), add(limits, limited)


def _total(spec: Object, what: str, actual: dict[str | None, Object]) -> Amounts:
    """Containers and sidecars together, or the largest step on the way there if it is more."""
    total: Amounts = {}
    peak: Amounts = {}
    sidecars: Amounts = {}
    for container in spec.get("containers") or ():
        total = add(total, _amounts(container, what, actual))
    for container in spec.get("initContainers") or ():
        amounts = _amounts(container, what, actual)
        if container.get("restartPolicy") == "Always":
            sidecars = add(sidecars, amounts)
            peak = largest(peak, sidecars)
        else:
            peak = largest(peak, add(sidecars, amounts))
    return largest(add(total, sidecars), peak)


def _amounts(container: Object, what: str, actual: dict[str | None, Object]) -> Amounts:
    """What a container asks for, or still has while a resize is under way, if that is more."""
    wanted = read((container.get("resources") or {}).get(what))
    status = actual.get(container.get("name"))
    if status is None:
        return wanted
    wanted = largest(wanted, read((status.get("resources") or {}).get(what)))
    return largest(wanted, read(status.get("allocatedResources"))) if what == "requests" else wanted
