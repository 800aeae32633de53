"""The store: MVCC state, subscriptions, and group commit in front of a journal.

Flow of a write: `put` checks the guard against the newest state (durable or not), takes the next
revision and joins the open batch. One batch at a time is with the journal; while it is, the next
one fills. When the journal says a batch is durable, its events are applied to the readable state,
handed to subscribers, and its writers are answered, in this order. So nobody ever sees, or builds
on something they saw, that a power cut could take back.

Bounds: the open batch holds at most one write per waiting request (the server bounds those); the
window of history is cut by `WINDOW_EVENTS`, `WINDOW_BYTES` and `WINDOW_AGE_S`, whichever is first.

A journal that fails once is never asked again: the state on disk is unknown (a page whose fsync
failed is marked clean), so every later write fails and `failed()` raises, which ends the process.
So does a subscriber that raises: what is in memory may no longer be what is stored.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from .hub import Callback, Hub
from .interface import Event, Range, Record, RevisionMismatch, StoreError
from .mvcc import State

log = logging.getLogger("sampan.store")

WINDOW_EVENTS = 50_000
"""Most events kept for watches and older reads: about two minutes at full write speed."""
WINDOW_BYTES = 64 << 20
"""Most memory their values may hold."""
WINDOW_AGE_S = 300.0
"""Events older than this go; as etcd's compaction by the API server, every five minutes."""
AGE_STEP_S = 1.0
"""How finely ages are kept: one note a second, so their number is bounded too."""
BATCH_WRITES = 4_096
"""Most writes in one journal batch, so that one fsync never waits for an unbounded insert."""


STUCK_S = 10.0
"""A disk that takes longer for one batch is told of as trouble: busy ones need a second or two."""


class Journal(Protocol):
    """Where batches become durable."""

    def append(
        self, events: Sequence[Event], dead: Sequence[int], oldest: int
    ) -> asyncio.Future[None]:
        """Make `events` durable, as one. The rows of the revisions in `dead` may go at any later
        time, along with a mark that history is whole only from `oldest` on. One call at a time.
        The future fails when durability is uncertain."""
        ...

    async def close(self) -> None: ...


class _Write(NamedTuple):
    event: Event
    done: asyncio.Future[Record]


class Engine:
    """Implements `interface.Store`. All methods are for one event loop."""

    def __init__(self, state: State, journal: Journal) -> None:
        self._state = state
        self._journal = journal
        self._hub = Hub()
        self._next = state.revision
        # Newest writes that are not durable yet: key -> record, or None for a deletion.
        self._pending: dict[str, tuple[int, Record | None]] = {}
        self._open: deque[_Write] = deque()
        self._busy = False
        self._begun = 0.0
        """When the batch was closed that the journal has, or will have at the end of this turn."""
        self._dead: list[int] = []
        self._ages: deque[tuple[float, int]] = deque()
        self.stale: set[int] = set()
        """Revisions of values that are stored as they would not be now."""
        self._failure: BaseException | None = None
        self._failed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def revision(self) -> int:
        return self._state.revision

    @property
    def oldest(self) -> int:
        return self._state.oldest

    def get(self, key: str, *, pending: bool = False) -> Record | None:
        if pending and key in self._pending:
            return self._pending[key][1]
        return self._state.get(key)

    def is_stale(self, record: Record) -> bool:
        return record.modified in self.stale

    def outdate(self, changed: Callable[[str], bool]) -> None:
        """Values of the keys that `changed` says would be stored otherwise from now on: an update
        that changes nothing writes them anew."""
        keys = [key for key in self._state.keys("") if changed(key)]
        found = (self._state.get(key) for key in keys)
        self.stale.update(record.modified for record in found if record is not None)
        for key, (revision, _) in self._pending.items():
            if changed(key):
                self.stale.add(revision)

    def range(self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0) -> Range:
        return self._state.range(prefix, after, limit, revision)

    def count(self, prefix: str) -> int:
        return self._state.count(prefix)

    async def put(
        self, key: str, value: bytes, *, expected: int | None = None, note: Any = None
    ) -> Record:
        current = self._guard(key, expected)
        self._next += 1
        created = current.created if current is not None else self._next
        record = Record(key, value, created, self._next)
        return await self._submit(key, record, Event(self._next, record, current, note))

    async def delete(self, key: str, *, expected: int | None = None, note: Any = None) -> Record:
        current = self._guard(key, expected)
        if current is None:
            raise RevisionMismatch(key, None)
        self._next += 1
        return await self._submit(key, None, Event(self._next, None, current, note))

    def _guard(self, key: str, expected: int | None) -> Record | None:
        if self._failure is not None:
            raise StoreError("the store has failed and takes no writes") from self._failure
        current = self.get(key, pending=True)
        if expected is not None and expected != (current.modified if current else 0):
            raise RevisionMismatch(key, current)
        return current

    def _submit(self, key: str, record: Record | None, event: Event) -> asyncio.Future[Record]:
        done: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        self._pending[key] = (event.revision, record)
        self._open.append(_Write(event, done))
        if not self._busy:
            self._busy = True
            self._begun = time.monotonic()
            self._idle.clear()
            # The batch closes at the end of this turn of the loop: requests that arrived
            # together share one fsync.
            asyncio.get_running_loop().call_soon(self._flush)
        return done

    def _flush(self) -> None:
        if not self._open:
            self._busy = False
            self._idle.set()
            return
        count = min(len(self._open), BATCH_WRITES)
        batch = [self._open.popleft() for _ in range(count)]
        dead, self._dead = self._dead, []
        events = [write.event for write in batch]
        try:
            future = self._journal.append(events, dead, self._state.oldest)
        except Exception as failure:
            # Nobody would answer these writers, nor any later one.
            self._fail(failure, batch)
            return
        self._begun = time.monotonic()
        future.add_done_callback(lambda done: self._landed(batch, done))

    def _landed(self, batch: Sequence[_Write], done: asyncio.Future[None]) -> None:
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is not None:
            self._fail(error, batch)
            return
        for write in batch:
            event = write.event
            self._state.apply(event)
            key = (event.record or event.previous).key  # type: ignore[union-attr]
            if self._pending[key][0] == event.revision:
                del self._pending[key]
        try:
            self._hub.publish([write.event for write in batch])
        except Exception as failure:
            # Who missed an event knows less than the store from now on, and would not learn it: a
            # process that begins anew lists what is durable.
            log.exception("a subscriber failed at revision %d", batch[-1].event.revision)
            self._fail(failure, batch)
            return
        for write in batch:
            if not write.done.done():
                write.done.set_result(_result(write.event))
        self._trim(batch[-1].event.revision)
        self._flush()

    def _fail(self, error: BaseException, batch: Sequence[_Write]) -> None:
        self._failure = error
        for write in (*batch, *self._open):
            if not write.done.done():
                write.done.set_exception(StoreError(f"the write may not be durable: {error}"))
        self._open.clear()
        self._idle.set()
        self._failed.set()

    def trouble(self) -> str:
        if self._failure is not None:
            return f"the store has failed: {self._failure}"
        if self._busy and time.monotonic() - self._begun > STUCK_S:
            return f"a write has not become durable for {STUCK_S:g} s"
        return ""

    async def failed(self) -> None:
        """Wait until a write could not be made durable, and raise why. The process must end."""
        await self._failed.wait()
        raise StoreError("a write could not be made durable") from self._failure

    def _trim(self, revision: int) -> None:
        """Cut the window to its bounds; what falls out frees its superseded rows on disk."""
        now = time.monotonic()
        if not self._ages or now - self._ages[-1][0] >= AGE_STEP_S:
            self._ages.append((now, revision))
        before = self._state.oldest
        while self._ages and now - self._ages[0][0] > WINDOW_AGE_S:
            before = self._ages.popleft()[1] + 1
        overflow = self._state.window_length - WINDOW_EVENTS
        if overflow > 0:
            before = max(before, self._state.oldest + overflow)
        if self._state.window_bytes > WINDOW_BYTES:
            before = max(before, self._state.oldest + self._state.window_length // 4)
        if before > self._state.oldest:
            self._forget(before)

    def _forget(self, before: int) -> None:
        for event in self._state.forget(before):
            if event.previous is not None:
                self._dead.append(event.previous.modified)
            if event.record is None:
                self._dead.append(event.revision)

    def history(self, prefix: str, after: int) -> list[Event]:
        return [
            event
            for event in self._state.since(after)
            if (event.record or event.previous).key.startswith(prefix)  # type: ignore[union-attr]
        ]

    def subscribe(self, prefix: str, callback: Callback) -> Callable[[], None]:
        self._hub.add(prefix, callback)
        return lambda: self._hub.remove(prefix, callback)

    async def compact(self, before: int) -> None:
        self._forget(min(before, self._state.revision))

    async def close(self) -> None:
        """Finish what was begun, then close the journal."""
        await self._idle.wait()
        await self._journal.close()


def _result(event: Event) -> Record:
    if event.record is not None:
        return event.record
    previous = event.previous
    assert previous is not None
    return previous._replace(modified=event.revision)
