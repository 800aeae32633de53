"""A broadcast to whoever waits for a pod's worker: probes' ends, exits, changes of the pod."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from sampan.aio.clock import Clock


class Pulse:
    """A broadcast: wakes whoever waits, and remembers for who was about to."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._event = asyncio.Event()
        self.count = 0

    def beat(self) -> None:
        self.count += 1
        self._event.set()
        self._event = asyncio.Event()

    def wait(self, seconds: float | None = None) -> Awaitable[None]:
        """Until the next beat from now on, also one before this is awaited; or that long."""
        return self._wait(self._event, seconds)

    async def _wait(self, event: asyncio.Event, seconds: float | None) -> None:
        if seconds is None:
            await event.wait()
            return
        waiter = asyncio.ensure_future(event.wait())
        tasks = [waiter, asyncio.ensure_future(self._clock.sleep(seconds))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
