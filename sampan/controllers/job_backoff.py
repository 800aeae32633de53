"""How long a job waits before it replaces failed pods: 10 s, doubled up to 10 min. Pure.

The record of a job is kept in memory, for its pods may be deleted; after a restart it begins with
what its pods tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sampan.api.errors import Object
from sampan.api.times import parse_time

from .runtime import pods as podlib

# Upstream's DefaultJobPodFailureBackOff and MaxJobPodFailureBackOff.
FIRST_S, CAP_S = 10.0, 600.0


class Backoff(NamedTuple):
    """Of one job."""

    failures: int = 0
    """Since its last success."""
    last_s: float = 0.0
    """When the last of them happened."""

    def left_s(self, now_s: float) -> float:
        return left_s(self.failures, self.last_s, now_s)


def left_s(failures: int, last_s: float, now_s: float) -> float:
    """How much of the wait after so many failures in a row is left."""
    if failures <= 0:
        return 0.0
    # The exponent is capped so that no count overflows a float.
    wait = min(CAP_S, FIRST_S * 2.0 ** min(failures - 1, 32))
    return max(0.0, last_s + wait - now_s)


def after(record: Backoff | None, succeeded: Iterable[Object], failed: Iterable[Object]) -> Backoff:
    """The record with pods that have finished since. A success forgets the failures before it."""
    known = record or Backoff()
    successes = [finished_s(pod) for pod in succeeded]
    failures = [finished_s(pod) for pod in failed]
    if successes:
        last = max(successes)
        failures = [when for when in failures if when > last]
        known = Backoff()
    if not failures:
        return known
    return Backoff(known.failures + len(failures), max(failures))


def finished_s(pod: Object) -> float:
    """When a pod finished: by its containers, by its readiness, by its deletion."""
    meta, status = pod["metadata"], pod.get("status") or {}
    ended = [
        ((item.get("state") or {}).get("terminated") or {}).get("finishedAt")
        for item in status.get("containerStatuses") or ()
    ]
    if ended and all(ended):
        return max(parse_time(str(when)) for when in ended)
    ready = podlib.ready_condition(pod)
    if ready is not None and ready.get("status") == "False" and ready.get("lastTransitionTime"):
        return parse_time(ready["lastTransitionTime"])
    if meta.get("deletionTimestamp"):
        grace_s = meta.get("deletionGracePeriodSeconds") or 0
        return float(parse_time(meta["deletionTimestamp"]) - grace_s)
    return parse_time(meta["creationTimestamp"]) if meta.get("creationTimestamp") else 0.0
