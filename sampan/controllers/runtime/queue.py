"""The work queue of one controller: names to reconcile, each at most once at a time.

Tasks: up to `workers` at once, started when there is work and ended when there is none; they
catch whatever a reconcile raises. `run_timer`, under the supervisor, adds what was put off.
Bound: a name is in the queue once, however often it is added, so the queue is never longer than
there are objects. Nothing is taken out before `open`, when the caches are filled.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from sampan.aio.clock import Clock
from sampan.api.errors import Conflict, StatusError

from .metrics import QueueMetrics, Reading

log = logging.getLogger("sampan.controllers")

# client-go's DefaultTypedItemBasedRateLimiter: 5 ms, doubled with each failure. Its cap of 1000 s
# is lowered to two minutes: a cluster that was mended should not look broken for a quarter hour.
RETRY_FIRST_S, RETRY_CAP_S = 0.005, 120.0

# Sooner than this is now: a clock's own rounding must not make a timer that never ends.
RESOLUTION_S = 1e-5

# Shorter rests are not worth a timer.
REST_MIN_S = 0.01
# So many rests are remembered before those that are over are swept out.
RESTING_LENGTH = 256


class Request(NamedTuple):
    """What to reconcile; `namespace` is "" for cluster-scoped objects."""

    namespace: str
    name: str


class Requeue(NamedTuple):
    """A result: reconcile again after this long, even if nothing changes."""

    after_s: float


Process = Callable[[Request], Awaitable[Requeue | None]]


class Queue:
    """Deduplicates, retries with backoff, and runs `process`. Used from one event loop."""

    def __init__(self, name: str, process: Process, clock: Clock, workers: int = 5) -> None:
        self.name = name
        self.metrics = QueueMetrics()
        self._process = process
        self._clock = clock
        self._limit = workers
        self._open = False
        self._ready: deque[Request] = deque()
        self._added: dict[Request, float] = {}
        """Names that wait, here or behind their own running reconcile; and since when."""
        self._running: dict[Request, float] = {}
        self._failures: dict[Request, int] = {}
        self._later: list[tuple[float, Request]] = []
        self._due: dict[Request, float] = {}
        self._resting: dict[Request, float] = {}
        """Until when a name is not taken up again."""
        self._sooner = asyncio.Event()
        self._workers: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs (what was put off does not count)."""
        return not self._added and not self._running

    def open(self) -> None:
        """Begin to work."""
        self._open = True
        self._spawn()

    def add(self, request: Request) -> None:
        """Reconcile `request` soon; once, if it already waits."""
        if request in self._added:
            return
        left = self._rest_left(request)
        if left > RESOLUTION_S and request not in self._running:
            self.add_after(request, left)
            return
        self.metrics.adds += 1
        self._added[request] = self._clock.monotonic()
        # One that is running is taken up again when it is done.
        if request not in self._running:
            self._ready.append(request)
            self._spawn()

    def rest(self, request: Request, seconds: float) -> None:
        """Take the name up again no sooner than this, however often it is added: for reconciles
        whose cost grows with their object, so that a storm of changes is a few of them. Below
        `REST_MIN_S` there is no rest."""
        if seconds < REST_MIN_S:
            return
        now = self._clock.monotonic()
        if len(self._resting) >= RESTING_LENGTH:
            # Names of objects that are gone are never looked at again.
            self._resting = {name: end for name, end in self._resting.items() if end > now}
        self._resting[request] = now + seconds

    def _rest_left(self, request: Request) -> float:
        until = self._resting.get(request)
        if until is None:
            return 0.0
        left = until - self._clock.monotonic()
        if left <= RESOLUTION_S:
            del self._resting[request]
        return left

    def add_after(self, request: Request, seconds: float) -> None:
        """Reconcile `request` in a while; an earlier appointment of the same name stands."""
        if seconds <= 0:
            self.add(request)
            return
        when = self._clock.monotonic() + seconds
        if self._due.get(request, when + 1) <= when:
            return
        self._due[request] = when
        heapq.heappush(self._later, (when, request))
        if self._later[0][1] == request:
            self._sooner.set()

    def retry(self, request: Request) -> None:
        """Reconcile `request` after its backoff."""
        count = self._failures.get(request, 0)
        self._failures[request] = count + 1
        self.metrics.retries += 1
        self.add_after(request, min(RETRY_CAP_S, RETRY_FIRST_S * 2 ** min(count, 32)))

    async def run_timer(self) -> None:
        """Add what was put off when its time comes, for ever."""
        while True:
            self._sooner.clear()
            if not self._later:
                await self._sooner.wait()
                continue
            when, request = self._later[0]
            wait = when - self._clock.monotonic()
            if wait > RESOLUTION_S:
                await self._wait(wait)
                continue
            heapq.heappop(self._later)
            if self._due.get(request) == when:
                del self._due[request]
                self.add(request)

    async def _wait(self, seconds: float) -> None:
        """Until the time has passed, or something is due sooner."""
        tasks = [
            asyncio.ensure_future(self._clock.sleep(seconds)),
            asyncio.ensure_future(self._sooner.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def stop(self) -> None:
        """Take nothing more, and end what runs."""
        self._open = False
        for task in [*self._workers]:
            task.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    def read(self) -> Reading:
        now = self._clock.monotonic()
        running = [now - since for since in self._running.values()]
        return Reading(self.name, self.metrics, len(self._ready), running)

    def _spawn(self) -> None:
        if self._open and self._ready and len(self._workers) < self._limit:
            task = asyncio.create_task(self._work(), name=f"{self.name} worker")
            self._workers.add(task)
            # Of one that is cancelled before it begins.
            task.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        try:
            await self._drain()
        finally:
            # At once, not by the callback: a name added before that one runs would find this
            # worker counted, start none, and wait for ever.
            task = asyncio.current_task()
            assert task is not None
            self._workers.discard(task)

    async def _drain(self) -> None:
        """Work until nothing is ready."""
        while self._ready and self._open:
            request = self._ready.popleft()
            now = self._clock.monotonic()
            self.metrics.waited.add(now - self._added.pop(request))
            self._running[request] = now
            try:
                await self._handle(request)
            finally:
                del self._running[request]
                self.metrics.worked.add(self._clock.monotonic() - now)
                if request in self._added:
                    left = self._rest_left(request)
                    if left > RESOLUTION_S:
                        del self._added[request]
                        self.add_after(request, left)
                    else:
                        self._ready.append(request)
            # A reconcile may end without having waited for anything; others get their turn.
            await asyncio.sleep(0)

    async def _handle(self, request: Request) -> None:
        """One reconcile; every outcome but cancellation ends here."""
        try:
            result = await self._process(request)
        except Conflict as error:
            # The cache was behind; the event that is on its way, or the retry, mends it.
            self.metrics.conflicts += 1
            log.debug("%s %s: %s", self.name, "/".join(request), error)
            self.retry(request)
        except (StatusError, OSError) as error:
            self.metrics.failures += 1
            log.info("%s %s: %s: %s", self.name, "/".join(request), type(error).__name__, error)
            self.retry(request)
        except Exception:
            self.metrics.failures += 1
            log.exception("%s %s failed", self.name, "/".join(request))
            self.retry(request)
        else:
            self._failures.pop(request, None)
            if result is not None:
                self.add_after(request, result.after_s)
