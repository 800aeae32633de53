"""A broadcast to whoever waits for a pod's worker: probes' ends, exits, changes of the pod."""

from __future__ import annotations

import asyncio

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

    async def wait(self, seconds: float | None = None) -> None:
        """Until the next beat, or that long."""
        waiter = self._event.wait()
        if seconds is None:
            await waiter
            return
        tasks = [asyncio.ensure_future(waiter), asyncio.ensure_future(self._clock.sleep(seconds))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
