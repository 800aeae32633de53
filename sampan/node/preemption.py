"""Pods that have to end so that a critical one is admitted (pkg/kubelet/preemption). Pure.

As few as possible, Guaranteed ones last, of several the smaller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sampan.api.errors import Object

from .allocation import demands
from .manifests import is_static
from .quality import BEST_EFFORT, BURSTABLE, GUARANTEED, qos_class

CRITICAL = 2_000_000_000
"""The priority of system-cluster-critical; such pods, and higher ones, are critical."""
PREEMPTING = "Preempting"
PREEMPTED = "Preempted in order to admit critical pod"

Shortages = Mapping[str, int]
"""How much is missing of each resource; of `pods`, how many places."""


def is_critical(pod: Object) -> bool:
    """Static pods are, whatever their priority (IsCriticalPod)."""
    return is_static(pod) or priority_of(pod) >= CRITICAL


def priority_of(pod: Object) -> int:
    return int(pod["spec"].get("priority") or 0)


def victims(pod: Object, others: Sequence[Object], missing: Shortages) -> list[Object]:
    """Those of the `others` that make room for a critical pod. Raises LookupError with upstream's
    words when all together would not."""
    may = [other for other in others if _gives_way(other, pod)]
    sorts = {
        sort: [other for other in may if qos_class(other["spec"]) == sort]
        for sort in (BEST_EFFORT, BURSTABLE, GUARANTEED)
    }
    _nearest(may, missing)
    best, burstable, guaranteed = sorts.values()
    last = _nearest(guaranteed, _without(missing, [*best, *burstable]))
    middle = _nearest(burstable, _without(missing, [*best, *last]))
    return [*_nearest(best, _without(missing, [*middle, *last])), *middle, *last]


def _gives_way(other: Object, pod: Object) -> bool:
    return not is_critical(other) or priority_of(pod) > priority_of(other)


def _nearest(pods: Sequence[Object], missing: Shortages) -> list[Object]:
    """One after the other, whichever leaves least missing. Raises LookupError."""
    left, out = list(pods), []
    while missing:
        if not left:
            text = "".join(f"(res: {name}, q: {count}), " for name, count in missing.items())
            raise LookupError(f"no set of running pods found to reclaim resources: [{text}]")
        nearest = min(left, key=lambda pod: (_distance(pod, missing), *_size(pod)))
        left.remove(nearest)
        out.append(nearest)
        missing = _without(missing, [nearest])
    return out


def _distance(pod: Object, missing: Shortages) -> float:
    given = _given(pod)
    return sum(max(0.0, 1 - given.get(name, 0) / count) ** 2 for name, count in missing.items())


def _size(pod: Object) -> tuple[int, int]:
    given = _given(pod)
    return given.get("memory", 0), given.get("cpu", 0)


def _without(missing: Shortages, pods: Sequence[Object]) -> dict[str, int]:
    """What is still missing once these have ended."""
    given = [_given(pod) for pod in pods]
    left = {
        name: count - sum(item.get(name, 0) for item in given) for name, count in missing.items()
    }
    return {name: count for name, count in left.items() if count > 0}


def _given(pod: Object) -> dict[str, int]:
    return {**demands(pod["spec"]), "pods": 1}
