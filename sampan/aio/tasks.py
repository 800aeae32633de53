"""Supervised tasks: nothing in the house is fire-and-forget.

A `Supervisor` owns background tasks by name. One that fails is logged, counted and started again
with backoff; a task marked `vital` takes the process down instead, by failing `wait()`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from .backoff import Backoff
from .clock import Clock, SystemClock

log = logging.getLogger("sampan.tasks")

# A task that ran this long before it failed starts over with the shortest delay.
STABLE_S = 60.0


class Supervisor:
    """Runs named tasks until `stop`. Used from one event loop only."""

    def __init__(
        self,
        clock: Clock | None = None,
        failed: Callable[[str, Exception], None] | None = None,
    ) -> None:
        """`failed(name, error)` is told of every failure, besides the log."""
        self._failed = failed
        self._clock = clock or SystemClock()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        """Those that were cancelled; their names are free at once."""
        self._fatal: asyncio.Future[None] | None = None
        self.restarts: dict[str, int] = {}
        """How often each task was started again, for metrics."""
        self.failing: dict[str, str] = {}
        """Why those failed that wait to be started again."""

    def start(
        self, name: str, run: Callable[[], Awaitable[None]], *, vital: bool = False
    ) -> asyncio.Task[None]:
        """Run `run()` under `name`. Returning normally ends it; raising restarts it."""
        if name in self._tasks and not self._tasks[name].done():
            raise RuntimeError(f"task {name} is already running")
        task = asyncio.create_task(self._keep(name, run, vital), name=name)
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._forget(name, task))
        return task

    def _forget(self, name: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(name) is task:
            del self._tasks[name]

    async def _keep(self, name: str, run: Callable[[], Awaitable[None]], vital: bool) -> None:
        backoff = Backoff(initial_s=0.1, cap_s=30.0)
        while True:
            began = self._clock.monotonic()
            try:
                await run()
                return
            except asyncio.CancelledError:
                raise
            except Exception as error:
                why = str(error) or type(error).__name__
                log.exception("task %s failed", name)
                if self._failed is not None:
                    self._failed(name, error)
                if vital:
                    self._fail(error)
                    return
            if self._clock.monotonic() - began > STABLE_S:
                backoff.reset()
            self.restarts[name] = self.restarts.get(name, 0) + 1
            self.failing[name] = why
            try:
                await self._clock.sleep(backoff.next_s())
            finally:
                del self.failing[name]

    def trouble(self, prefix: str) -> str:
        """What is wrong with the tasks of these names; "" when none waits for another start."""
        found = (f"{name}: {why}" for name, why in self.failing.items() if name.startswith(prefix))
        return next(found, "")

    def _fail(self, error: Exception) -> None:
        if self._fatal is None:
            self._fatal = asyncio.get_running_loop().create_future()
        if not self._fatal.done():
            self._fatal.set_exception(error)

    async def wait(self) -> None:
        """Block until a vital task fails, and raise what it raised."""
        if self._fatal is None:
            self._fatal = asyncio.get_running_loop().create_future()
        await self._fatal

    def cancel(self, name: str) -> None:
        """Stop one task; unknown names are fine. One of that name may be started at once."""
        task = self._tasks.pop(name, None)
        if task is not None:
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
            task.cancel()

    async def stop(self) -> None:
        """Cancel every task and wait until all have ended."""
        tasks = [*self._tasks.values(), *self._ending]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
