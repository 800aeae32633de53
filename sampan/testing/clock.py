"""A clock the test turns: nothing waits, time moves when told to."""

from __future__ import annotations

import asyncio
import heapq

QUIET_TURNS = 50
"""Turns of the loop that everything ready gets at each instant."""


class VirtualClock:
    """Starts at `now_s`; `advance` wakes the sleepers whose time has come, in order."""

    def __init__(self, now_s: float = 1_700_000_000.0) -> None:
        self._now = now_s
        self._base = now_s
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now - self._base

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        self._count += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, self._count, future))
        await future

    async def advance(self, seconds: float) -> None:
        """Let time pass; whatever is due happens at its own moment, in order."""
        end = self._now + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            when, _, future = heapq.heappop(self._sleepers)
            if future.done():
                continue
            self._now = when
            future.set_result(None)
            await settle()
        self._now = end
        await settle()


async def settle(turns: int = QUIET_TURNS) -> None:
    """Let every ready task run until nothing more happens at this instant."""
    for _ in range(turns):
        await asyncio.sleep(0)
