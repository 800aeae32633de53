"""Times at which watches are to do something, kept for all of them by one task.

Ten thousand sleeping tasks would be ten thousand timers and their memory. Deadlines fall into
buckets of `STEP_S`; the task sleeps until the first bucket, and not at all when there is none.
"""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from math import ceil
from typing import Protocol

from sampan.aio.clock import Clock

STEP_S = 1.0
"""Nobody promised a bookmark to the second."""


class Sleeper(Protocol):
    def ring(self, now_s: float) -> None:
        """It is time. Must not raise; may set the next deadline."""
        ...


class Deadlines:
    """Monotonic times; each sleeper has at most one. Bounded by the watches there are."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[int, dict[Sleeper, None]] = {}
        self._order: list[int] = []
        self._places: dict[Sleeper, int] = {}
        self._task: asyncio.Task[None] | None = None

    def put(self, sleeper: Sleeper, at_s: float) -> None:
        """Ring at `at_s` or up to `STEP_S` later, instead of at any earlier answer."""
        self.drop(sleeper)
        place = ceil(at_s / STEP_S)
        self._places[sleeper] = place
        bucket = self._buckets.get(place)
        if bucket is not None:
            bucket[sleeper] = None
            return
        self._buckets[place] = {sleeper: None}
        heappush(self._order, place)
        if self._order[0] == place:
            self._begin()

    def drop(self, sleeper: Sleeper) -> None:
        place = self._places.pop(sleeper, None)
        if place is not None:
            self._buckets[place].pop(sleeper, None)

    def _begin(self) -> None:
        """Sleep until what is first now."""
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while self._order:
            now_s = self._clock.monotonic()
            due = self._order[0] * STEP_S
            if due > now_s:
                await self._clock.sleep(due - now_s)
                continue
            for sleeper in self._buckets.pop(heappop(self._order)):
                del self._places[sleeper]
                sleeper.ring(now_s)
        self._task = None

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
