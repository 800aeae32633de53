"""The state of the store: live records in key order, and a window of the latest events. Pure.

Nothing here knows of time, disks or tasks: `apply` takes durable events in order. The window is
what watches start from and older reads are computed by: the state as of revision r is the live
state with the events behind r undone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from sortedcontainers import SortedList

from .interface import Compacted, Event, FutureRevision, Range, Record


class State:
    """Live records and history. `revision` is that of the last applied event."""

    def __init__(self) -> None:
        self.revision = 0
        self.oldest = 1
        """Oldest revision whose event is kept."""
        self.floor = 0
        """Oldest revision `range` answers for: as etcd, the one that was compacted to, and not the
        one before it, though it could still be computed."""
        self.window_bytes = 0
        self._live: dict[str, Record] = {}
        self._keys: SortedList[str] = SortedList()
        self._window: deque[Event] = deque()

    @classmethod
    def restored(cls, records: Iterable[Record], revision: int) -> State:
        """A state that holds `records` and is at `revision`, with no history before it."""
        state = cls()
        state._live = {record.key: record for record in records}
        state._keys = SortedList(state._live)
        state.revision = revision
        state.oldest = revision + 1
        state.floor = revision
        return state

    def __len__(self) -> int:
        return len(self._live)

    @property
    def window_length(self) -> int:
        return len(self._window)

    def get(self, key: str) -> Record | None:
        return self._live.get(key)

    def apply(self, event: Event) -> None:
        """Take in the next event; revisions must not go back."""
        record, previous = event.record, event.previous
        if record is not None:
            if previous is None:
                self._keys.add(record.key)
            self._live[record.key] = record
        elif previous is not None:
            self._keys.remove(previous.key)
            del self._live[previous.key]
        self.revision = event.revision
        # The note is for those who see the event happen: kept, it would be most of the memory.
        self._window.append(event if event.note is None else event._replace(note=None))
        self.window_bytes += _size(event)

    def forget(self, before: int) -> list[Event]:
        """Drop the events before revision `before`, and return them."""
        dropped = []
        while self._window and self._window[0].revision < before:
            event = self._window.popleft()
            self.window_bytes -= _size(event)
            dropped.append(event)
        self.oldest = max(self.oldest, min(before, self.revision + 1))
        self.floor = max(self.floor, min(before, self.revision))
        return dropped

    def since(self, after: int) -> list[Event]:
        """The events with revisions greater than `after`, in order."""
        if after < self.oldest - 1:
            raise Compacted(after, self.oldest)
        if after > self.revision:
            raise FutureRevision(f"revision {after} is ahead of {self.revision}")
        return list(reversed(list(self._newest_until(after))))

    def _newest_until(self, revision: int) -> Iterator[Event]:
        """Events behind `revision`, newest first: cost is what changed since, not the window."""
        for event in reversed(self._window):
            if event.revision <= revision:
                return
            yield event

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        start = max(prefix, after)
        # The greatest code point closes the range of a prefix.
        return iter(
            self._keys.irange(start, prefix + "\U0010ffff", inclusive=(start != after, True))
        )

    def count(self, prefix: str) -> int:
        keys = self._keys
        return keys.bisect_right(prefix + "\U0010ffff") - keys.bisect_left(prefix)

    def range(self, prefix: str, after: str, limit: int, revision: int) -> Range:
        """Records under `prefix` behind key `after`, as of `revision` (0: now)."""
        if revision and revision != self.revision:
            return self._range_at(prefix, after, limit, revision)
        live = self._live
        records: list[Record] = []
        for key in self.keys(prefix, after):
            records.append(live[key])
            if limit and len(records) == limit:
                left = self.count(prefix) - self._position(prefix, key) - 1
                return Range(records, self.revision, left > 0, left)
        return Range(records, self.revision, False, 0)

    def _position(self, prefix: str, key: str) -> int:
        return self._keys.bisect_left(key) - self._keys.bisect_left(prefix)

    def _range_at(self, prefix: str, after: str, limit: int, revision: int) -> Range:
        if revision < self.floor:
            raise Compacted(revision, self.floor)
        if revision > self.revision:
            raise FutureRevision(f"revision {revision} is ahead of {self.revision}")
        then: dict[str, Record | None] = {}
        for event in self._newest_until(revision):
            record = event.record or event.previous
            if record is not None and record.key.startswith(prefix):
                then[record.key] = event.previous
        merged = set(self.keys(prefix, after)) | {key for key in then if key > after}
        records: list[Record] = []
        for key in sorted(merged):
            found = then[key] if key in then else self._live[key]
            if found is not None:
                records.append(found)
        if limit and len(records) > limit:
            return Range(records[:limit], revision, True, len(records) - limit)
        return Range(records, revision, False, 0)


def _size(event: Event) -> int:
    return len(event.record.value) if event.record is not None else 0


def replay(events: Sequence[Event]) -> State:
    """The state after `events`, from nothing."""
    state = State()
    for event in events:
        state.apply(event)
    return state
