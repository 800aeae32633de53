"""Watches: durable events out to those who asked, in order, each at its own pace.

A watch has a queue of at most `QUEUE_EVENTS`; one that falls behind further is cut off with
WatcherTooSlow and never waited for, so a slow reader costs its queue and nothing else. Subscribers
are synchronous callbacks and have no queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

from .interface import Event, WatcherTooSlow

QUEUE_EVENTS = 20_000
"""What one watch may lag behind. A list of as many objects is cheaper than queueing more."""

Callback = Callable[[Sequence[Event]], None]


class Watch:
    """One watcher's events, as an async iterator of batches."""

    def __init__(self, hub: Hub, prefix: str, backlog: Sequence[Event]) -> None:
        self._hub = hub
        self._prefix = prefix
        self._queue: list[Event] = list(backlog)
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._closed = False

    def push(self, events: Sequence[Event]) -> None:
        if self._closed or self._error is not None:
            return
        if len(self._queue) + len(events) > QUEUE_EVENTS:
            self._queue.clear()
            self._error = WatcherTooSlow(f"watch of {self._prefix} fell {QUEUE_EVENTS} behind")
        else:
            self._queue.extend(events)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def end(self) -> None:
        """No more events; the iterator ends behind those that are queued."""
        self._closed = True
        self._wake()

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Sequence[Event]:
        while not self._queue:
            if self._error is not None:
                raise self._error
            if self._closed:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        batch, self._queue = self._queue, []
        return batch

    async def aclose(self) -> None:
        self._hub.remove(self._prefix, self.push)
        self.end()


class Hub:
    """Who wants which prefix. Prefixes that end in "/" are found by lookup, not by search."""

    def __init__(self) -> None:
        self._callbacks: dict[str, list[Callback]] = {}

    def watch(self, prefix: str, backlog: Sequence[Event]) -> Watch:
        watch = Watch(self, prefix, backlog)
        self.add(prefix, watch.push)
        return watch

    def add(self, prefix: str, callback: Callback) -> None:
        if not prefix.endswith("/"):
            raise ValueError(f"a watched prefix ends in '/': {prefix}")
        self._callbacks.setdefault(prefix, []).append(callback)

    def remove(self, prefix: str, callback: Callback) -> None:
        callbacks = self._callbacks.get(prefix, [])
        if callback in callbacks:
            callbacks.remove(callback)
        if not callbacks:
            self._callbacks.pop(prefix, None)

    def publish(self, events: Sequence[Event]) -> None:
        """Hand `events` out, batched by prefix; the order within a prefix is kept."""
        batches: dict[str, list[Event]] = {}
        for event in events:
            record = event.record or event.previous
            if record is not None:
                for prefix in _prefixes(record.key):
                    if prefix in self._callbacks:
                        batches.setdefault(prefix, []).append(event)
        for prefix, batch in batches.items():
            for callback in tuple(self._callbacks.get(prefix, ())):
                callback(batch)

    def end(self) -> None:
        """End every watch (the store closes)."""
        for callbacks in tuple(self._callbacks.values()):
            for callback in tuple(callbacks):
                owner = getattr(callback, "__self__", None)
                if isinstance(owner, Watch):
                    owner.end()


def _prefixes(key: str) -> Iterator[str]:
    at = key.find("/")
    while at >= 0:
        yield key[: at + 1]
        at = key.find("/", at + 1)
