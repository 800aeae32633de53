"""What a controller has done and not yet seen in its cache (client-go controller_utils).

A ReplicaSet that has just created three pods would create three more if it looked again before
the cache shows them. So it notes what it expects first, and acts again when all of it was seen.
Bound: one entry per object; it goes when the object does.
"""

from __future__ import annotations

from msgspec import Struct, field

from sampan.aio.clock import Clock

from .queue import Request

# Upstream's ExpectationsTimeout. What was not seen by then was lost (its watch event went to a
# cache that was listed anew, say), and the controller trusts the cache again.
TIMEOUT_S = 300.0


class _Expected(Struct):
    since_s: float
    creations: int = 0
    deletions: set[str] = field(default_factory=set)


class Expectations:
    """Counts of creations and uids of deletions that are outstanding, per request."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._expected: dict[Request, _Expected] = {}

    def expect_creations(self, request: Request, count: int) -> None:
        self._entry(request).creations += count

    def expect_deletions(self, request: Request, uids: set[str]) -> None:
        self._entry(request).deletions |= uids

    def created(self, request: Request, count: int = 1) -> None:
        """Seen in the cache; or it will never be, for the creation failed."""
        entry = self._expected.get(request)
        if entry is not None:
            entry.creations = max(0, entry.creations - count)

    def deleted(self, request: Request, uid: str) -> None:
        entry = self._expected.get(request)
        if entry is not None:
            entry.deletions.discard(uid)

    def outstanding_s(self, request: Request) -> float:
        """0 when everything was seen (or is overdue), else how long until it is overdue."""
        entry = self._expected.get(request)
        if entry is None or not (entry.creations or entry.deletions):
            return 0.0
        left = entry.since_s + TIMEOUT_S - self._clock.monotonic()
        if left > 0:
            return left
        self.forget(request)
        return 0.0

    def forget(self, request: Request) -> None:
        self._expected.pop(request, None)

    def _entry(self, request: Request) -> _Expected:
        now = self._clock.monotonic()
        entry = self._expected.setdefault(request, _Expected(now))
        entry.since_s = now
        return entry
