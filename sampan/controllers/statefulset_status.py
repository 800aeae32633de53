"""What a sync of a StatefulSet looks at, and what it reports. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from sampan.api.errors import Object

from .runtime import pods as podlib
from .statefulset_pods import is_available, is_ready, min_ready_s, revision_of, wanted


class Observed(Struct, frozen=True):
    """What a sync looks at."""

    owner: Object
    """The StatefulSet."""
    pods: Sequence[Object]
    """Those it controls and whose names are its own."""
    claims: Mapping[str, Object]
    """Volume claims by name: at least those of its pods."""
    current: Object
    """The revision pods below the partition have."""
    update: Object
    """The revision of its present template."""
    collisions: int = 0
    wait_s: Callable[[str], float] = lambda pod: 0.0
    """How long until a pod of this name that has ended may be deleted."""


def status_of(observed: Observed, now_s: float) -> Object:
    """The numbers, and the revisions; a rollout that has reached every pod is complete."""
    owner, seconds = observed.owner, min_ready_s(observed.owner)
    current, update = (item["metadata"]["name"] for item in (observed.current, observed.update))
    alive = [revision_of(pod) for pod in observed.pods if not podlib.is_terminating(pod)]
    counts = {
        "readyReplicas": sum(is_ready(pod) for pod in observed.pods),
        "currentReplicas": alive.count(current),
        "updatedReplicas": alive.count(update),
    }
    total, number = len(observed.pods), wanted(owner)
    rolling = (owner["spec"].get("updateStrategy") or {}).get("type") != "OnDelete"
    complete = counts["updatedReplicas"] == counts["readyReplicas"] == total == number
    if rolling and complete:
        current, counts["currentReplicas"] = update, counts["updatedReplicas"]
    kept = {
        key: value
        for key, value in (owner.get("status") or {}).items()
        if key == "conditions" and value
    }
    return {
        **kept,
        "observedGeneration": owner["metadata"].get("generation") or 0,
        "replicas": total,
        **{key: value for key, value in counts.items() if value},
        "currentRevision": current,
        "updateRevision": update,
        "collisionCount": observed.collisions,
        "availableReplicas": sum(is_available(pod, seconds, now_s) for pod in observed.pods),
    }


def later_s(observed: Observed, now_s: float) -> float | None:
    """When a pod will have been ready for long enough, or may be deleted; None if none waits."""
    seconds = min_ready_s(observed.owner)
    waits: list[float | None] = [
        observed.wait_s(pod["metadata"]["name"])
        for pod in observed.pods
        if podlib.is_finished(pod) and not podlib.is_terminating(pod)
    ]
    if seconds:
        ready = filter(is_ready, observed.pods)
        waits += [podlib.available_in_s(pod, seconds, now_s) for pod in ready]
    return min((wait for wait in waits if wait), default=None)
