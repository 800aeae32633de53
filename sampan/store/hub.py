"""Subscriptions: durable events out to those who asked for a prefix, in order.

Subscribers are synchronous callbacks and have no queue: whoever serves slow readers keeps theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from .interface import Event

Callback = Callable[[Sequence[Event]], None]


class Hub:
    """Who wants which prefix. Prefixes that end in "/" are found by lookup, not by search."""

    def __init__(self) -> None:
        self._callbacks: dict[str, list[Callback]] = {}

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


def _prefixes(key: str) -> Iterator[str]:
    at = key.find("/")
    while at >= 0:
        yield key[: at + 1]
        at = key.find("/", at + 1)
