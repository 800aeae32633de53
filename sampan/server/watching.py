"""One watcher: the queue between what happens and one reader, and its clock.

The queue holds references to shared batches. A reader that is `QUEUE_CHANGES` behind is cut off and
watches again from where it was, as upstream; it is never waited for. A reader that waits, with
nothing queued, may be told without being woken: by its `sink`, which says if it took the batch.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from .changes import Change
from .fanout import Batch, Entry, Group
from .selection import Selection

if TYPE_CHECKING:
    from .app import Server

QUEUE_CHANGES = 8_192
"""What a reader may be behind; more is cheaper to list."""
PAST_CHANGES = 256
"""Changes of the past looked at in one turn of the loop."""
BOOKMARK_S = 60.0
"""Between bookmarks, as upstream; up to a quarter longer, so that they do not come all at once."""
LAST_BOOKMARK_S = 2.0
"""Before the end of a watch there is one more, as upstream: the next watch begins there."""


class Watcher:
    """What one watch is to be sent. `open` begins, `close` ends it."""

    __slots__ = (
        "_behind", "_bookmarks", "_end_s", "_group", "_past", "_queue", "_server", "_since",
        "_waiter", "bookmark_due", "ended", "namespace", "selection", "sink",
    )  # fmt: skip

    def __init__(self, server: Server, selection: Selection, namespace: str) -> None:
        self._server = server
        self.selection = selection
        self.namespace = namespace
        self.bookmark_due = False
        self.ended = False
        self.sink: Callable[[Batch], bool] | None = None
        """Writes a batch at once, where that is possible now. Must not raise."""
        self._waiter: asyncio.Future[None] | None = None
        self._queue: list[Batch] = []
        self._behind = 0
        self._group: Group | None = None
        self._past: Iterator[Change] | None = None
        self._since = 0
        self._end_s = 0.0
        self._bookmarks = False

    def open(self, timeout_s: float, *, bookmarks: bool) -> None:
        """Begin to queue what happens from now on."""
        server = self._server
        # The group may still be telling its members what happened before.
        self._since = server.store.revision
        self._group = server.cache.join(self.selection, self.namespace, self)
        server.watchers.add(self)
        self._end_s = server.clock.monotonic() + timeout_s
        self._bookmarks = bookmarks
        self._set_clock()
        if server.closing:
            self.close()

    def replay(self, after: int) -> None:
        """Begin behind revision `after`. Raises Compacted, FutureRevision."""
        self._past = self._server.cache.history(self.selection.resource, self.namespace, after)

    def _set_clock(self) -> None:
        server = self._server
        now_s = server.clock.monotonic()
        next_s = self._end_s
        if self._bookmarks:
            last_s = self._end_s - LAST_BOOKMARK_S
            if last_s > now_s:
                next_s = min(last_s, now_s + BOOKMARK_S * (1 + random.random() * 0.25))
        server.deadlines.put(self, next_s)

    def ring(self, now_s: float) -> None:
        """A bookmark is due, or the watch is over."""
        if now_s >= self._end_s:
            self.close()
            return
        if self._bookmarks:
            self.bookmark_due = True
            self.wake()
        self._set_clock()

    def offer(self, batch: Batch) -> None:
        if self.ended:
            return
        if self._since:
            batch = batch.after(self._since)
            if not batch.entries:
                return
            self._since = 0
        if self._idle and self.sink is not None and self.sink(batch):
            return
        self._behind += len(batch.entries)
        if self._behind > QUEUE_CHANGES:
            self._queue.clear()
            self.close()
            return
        self._queue.append(batch)
        self.wake()

    @property
    def caught_up(self) -> bool:
        """Has everything up to now been taken?"""
        group = self._group
        # One that was cut off has lost what it was to get: it is never told that it is here.
        if self.ended or group is None:
            return False
        return self._past is None and not self._queue and group.idle

    @property
    def _idle(self) -> bool:
        """Does the reader wait, with everything before written?"""
        waiter = self._waiter
        return waiter is not None and not waiter.done()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self) -> list[Batch]:
        """What is queued; waits until there is something, a bookmark is due, or it ended (then
        the list may be empty)."""
        while self._past is not None:
            picked = self._next_past()
            if picked:
                return [Batch(picked)]
            if self._past is not None:
                # Nothing selected so far, and more to look at: let others in between.
                await asyncio.sleep(0)
        while not self._queue and not self.ended and not (self.bookmark_due and self.caught_up):
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
            self._waiter = None
        batches, self._queue = self._queue, []
        self._behind = 0
        return batches

    def _next_past(self) -> list[Entry]:
        past, group = self._past, self._group
        assert past is not None
        assert group is not None
        seen = 0
        picked = []
        for change in islice(past, PAST_CHANGES):
            seen += 1
            kind = group.kind_of(change)
            if kind:
                picked.append(Entry(kind, change))
        if not seen:
            self._past = None
        return picked

    def close(self) -> None:
        """No more events. The reader gets what is queued, then the end."""
        if not self.ended:
            self.ended = True
            server = self._server
            if self._group is not None:
                server.cache.leave(self._group, self.namespace, self)
            server.watchers.discard(self)
            server.deadlines.drop(self)
        self.wake()
