"""What a Deployment reports: counts and conditions, with upstream's reasons and words. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from sampan.api.errors import Object
from sampan.api.times import format_time, parse_time

from .deployment_sizes import FOREVER_S, Set, desired, max_unavailable, total_replicas
from .runtime.conditions import condition, with_condition, without

AVAILABLE, PROGRESSING, FAILURE = "Available", "Progressing", "ReplicaFailure"
PAUSED, RESUMED = "DeploymentPaused", "DeploymentResumed"
CREATED, FOUND, UPDATED = "NewReplicaSetCreated", "FoundNewReplicaSet", "ReplicaSetUpdated"
COMPLETE, TIMED_OUT = "NewReplicaSetAvailable", "ProgressDeadlineExceeded"
CREATE_ERROR = "ReplicaSetCreateError"

# Seconds of the times in a status are cut off, so a deadline is looked at one second late.
SKEW_S = 1.0


def make_condition(kind: str, status: str, reason: str, message: str, now_s: float) -> Object:
    now = format_time(now_s)
    return {
        "type": kind,
        "status": status,
        "lastUpdateTime": now,
        "lastTransitionTime": now,
        "reason": reason,
        "message": message,
    }


def progressing(reason: str, message: str, now_s: float, status: str = "True") -> Object:
    return make_condition(PROGRESSING, status, reason, message, now_s)


def has_deadline(deployment: Object) -> bool:
    deadline = deployment["spec"].get("progressDeadlineSeconds")
    return deadline is not None and deadline != FOREVER_S


def counts(deployment: Object, sets: Sequence[Set], new: Set | None, now_s: float) -> Object:
    """The status without progress: sums over the sets, and the Available condition."""
    old = deployment.get("status") or {}
    available = sum(item.status("availableReplicas") for item in sets)
    values = {
        "observedGeneration": deployment["metadata"].get("generation", 0),
        "replicas": sum(item.status("replicas") for item in sets),
        "updatedReplicas": new.status("replicas") if new is not None else 0,
        "readyReplicas": sum(item.status("readyReplicas") for item in sets),
        "availableReplicas": available,
        "unavailableReplicas": max(0, total_replicas(sets) - available),
        "collisionCount": old.get("collisionCount") or 0,
    }
    status: Object = {key: value for key, value in values.items() if value}
    status["terminatingReplicas"] = sum(item.status("terminatingReplicas") for item in sets)
    if available >= desired(deployment) - max_unavailable(deployment):
        found = make_condition(
            AVAILABLE,
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
            now_s,
        )
    else:
        found = make_condition(
            AVAILABLE,
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
            now_s,
        )
    status["conditions"] = with_condition(old.get("conditions"), found)
    return status


def rollout_status(
    deployment: Object, sets: Sequence[Set], new: Set | None, now_s: float
) -> Object:
    """The status during a rollout: `counts`, progress against the deadline, failures of sets."""
    status = counts(deployment, sets, new, now_s)
    conditions = status["conditions"]
    if not has_deadline(deployment):
        conditions = without(conditions, PROGRESSING)
    old = condition((deployment.get("status") or {}).get("conditions"), PROGRESSING)
    settled = (
        old is not None
        and old.get("reason") == COMPLETE
        and status.get("replicas", 0) == status.get("updatedReplicas", 0)
    )
    if has_deadline(deployment) and not settled:
        conditions = _progress(deployment, status, new, now_s)
    failure = _failure(sets, new, now_s)
    if failure is not None:
        conditions = with_condition(conditions, failure)
    else:
        conditions = without(conditions, FAILURE)
    status["conditions"] = conditions
    return status


def _progress(
    deployment: Object, status: Object, new: Set | None, now_s: float
) -> Sequence[Object]:
    conditions: Sequence[Object] = status["conditions"]
    kind, name = (
        ("ReplicaSet", new.name)
        if new is not None
        else (
            "Deployment",
            deployment["metadata"]["name"],
        )
    )
    subject = f'{kind} "{name}"'
    if is_complete(deployment, status):
        found = progressing(COMPLETE, f"{subject} has successfully progressed.", now_s)
        return with_condition(conditions, found)
    if _has_progressed(deployment.get("status") or {}, status):
        found = progressing(UPDATED, f"{subject} is progressing.", now_s)
        old = condition(conditions, PROGRESSING)
        if old is not None and old.get("status") == "True":
            found["lastTransitionTime"] = old["lastTransitionTime"]
        # Not with_condition: the same reason again renews the time of the last update.
        return [*without(conditions, PROGRESSING), found]
    if _timed_out(deployment, conditions, now_s):
        found = progressing(TIMED_OUT, f"{subject} has timed out progressing.", now_s, "False")
        return with_condition(conditions, found)
    return conditions


def is_complete(deployment: Object, status: Object) -> bool:
    """Everything is new, and everything is available."""
    total = desired(deployment)
    return bool(
        status.get("updatedReplicas", 0) == total
        and status.get("replicas", 0) == total
        and status.get("availableReplicas", 0) == total
        and status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    )


def _has_progressed(old: Object, new: Object) -> bool:
    def outdated(status: Object) -> int:
        return int(status.get("replicas", 0)) - int(status.get("updatedReplicas", 0))

    return outdated(new) < outdated(old) or any(
        new.get(field, 0) > old.get(field, 0)
        for field in ("updatedReplicas", "readyReplicas", "availableReplicas")
    )


def _timed_out(deployment: Object, conditions: Sequence[Object], now_s: float) -> bool:
    found = condition(conditions, PROGRESSING)
    if found is None or found.get("reason") == COMPLETE:
        return False
    if found.get("reason") == TIMED_OUT:
        return True
    return deadline_s(deployment, found) < now_s


def deadline_s(deployment: Object, found: Object) -> float:
    """When a rollout whose last progress is `found` has taken too long."""
    since = parse_time(found["lastUpdateTime"]) if found.get("lastUpdateTime") else 0.0
    return since + int(deployment["spec"]["progressDeadlineSeconds"])


def check_again_s(deployment: Object, status: Object, now_s: float) -> float | None:
    """How long until the deadline must be looked at; None if it need not be."""
    found = condition(status.get("conditions"), PROGRESSING)
    if (
        not has_deadline(deployment)
        or found is None
        or found.get("reason") == TIMED_OUT
        or is_complete(deployment, status)
    ):
        return None
    return max(0.0, deadline_s(deployment, found) - now_s) + SKEW_S


def _failure(sets: Sequence[Set], new: Set | None, now_s: float) -> Object | None:
    """The failure of a set, the new one's before others', as a deployment's condition."""
    for item in [*([new] if new is not None else []), *sets]:
        found = condition((item.body.get("status") or {}).get("conditions"), FAILURE)
        if found is not None:
            # The set's own time stands for both, so that the same failure is the same status.
            when = found.get("lastTransitionTime") or format_time(now_s)
            return {**found, "lastUpdateTime": when, "lastTransitionTime": when}
    return None


def paused_condition(deployment: Object, now_s: float) -> Object | None:
    """The Progressing condition to set because of a pause or its end; None if there is none."""
    if not has_deadline(deployment):
        return None
    found = condition((deployment.get("status") or {}).get("conditions"), PROGRESSING)
    reason = found.get("reason") if found is not None else ""
    if reason == TIMED_OUT:
        # A lack of progress that was reported is not covered up by a pause.
        return None
    paused = bool(deployment["spec"].get("paused"))
    if paused and reason != PAUSED:
        return progressing(PAUSED, "Deployment is paused", now_s, "Unknown")
    if not paused and reason == PAUSED:
        return progressing(RESUMED, "Deployment is resumed", now_s, "Unknown")
    return None
