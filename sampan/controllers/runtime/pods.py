"""What a pod's status says (upstream's pkg/api/v1/pod and controller_utils)."""

from __future__ import annotations

from sampan.api.errors import Object
from sampan.api.times import parse_time

from .conditions import condition


def phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


def is_finished(pod: Object) -> bool:
    return phase(pod) in ("Succeeded", "Failed")


def is_terminating(pod: Object) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def is_active(pod: Object) -> bool:
    """Neither finished nor on its way out: one that counts as a replica."""
    return not is_finished(pod) and not is_terminating(pod)


def ready_condition(pod: Object) -> Object | None:
    return condition((pod.get("status") or {}).get("conditions"), "Ready")


def is_ready(pod: Object) -> bool:
    found = ready_condition(pod)
    return found is not None and found.get("status") == "True"


def ready_since_s(pod: Object) -> float:
    """When it became ready; 0 if it is not, or does not say."""
    found = ready_condition(pod)
    if found is None or found.get("status") != "True" or not found.get("lastTransitionTime"):
        return 0.0
    return parse_time(found["lastTransitionTime"])


def available_in_s(pod: Object, min_ready_s: int, now_s: float) -> float | None:
    """0 if the pod is available, how long until it is; None if it is not ready."""
    if not is_ready(pod):
        return None
    if not min_ready_s:
        return 0.0
    return max(0.0, ready_since_s(pod) + min_ready_s - now_s)


def restarts(pod: Object) -> int:
    """The highest restart count of its containers."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return max((int(item.get("restartCount") or 0) for item in statuses), default=0)
