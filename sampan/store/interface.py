"""The store as the API server sees it: etcd's model in four verbs.

One counter numbers all writes. A record carries the revision that created it and the one that
changed it last; writes are guarded by the expected one. Reads are synchronous and never touch the
disk: an implementation keeps the live state in memory. What a read or a watch shows is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol


class Record(NamedTuple):
    """A live key. `value` is what was put, byte for byte."""

    key: str
    value: bytes
    created: int
    """Revision of the put that created the key."""
    modified: int
    """Revision of its last put."""


class Event(NamedTuple):
    """One write, as a watcher sees it."""

    revision: int
    record: Record | None
    """The record written; None when the key was deleted."""
    previous: Record | None
    """The record before; None when the key was created."""
    note: Any = None
    """Whatever the writer attached (in this process only): see `Store.put`. Those who see the
    event happen get it; events of the window have none."""


class Range(NamedTuple):
    records: Sequence[Record]
    """In key order."""
    revision: int
    """The store's revision the read is true of."""
    more: bool
    """True when `limit` cut it."""
    remaining: int
    """How many records of the range were left out."""


class StoreError(Exception):
    pass


class RevisionMismatch(StoreError):
    """The key is not at the expected revision; `current` is what is there (None: nothing)."""

    def __init__(self, key: str, current: Record | None) -> None:
        super().__init__(f"{key}: not at the expected revision")
        self.key = key
        self.current = current


class Compacted(StoreError):
    """The revision asked for is older than what is kept; `oldest` is the first still served."""

    def __init__(self, revision: int, oldest: int) -> None:
        super().__init__(f"revision {revision} is compacted; the oldest kept is {oldest}")
        self.revision = revision
        self.oldest = oldest


class FutureRevision(StoreError):
    """The revision asked for is ahead of the store's."""


class Damaged(StoreError):
    """The data on disk cannot be trusted; the text says how to restore it."""


class Store(Protocol):
    @property
    def revision(self) -> int:
        """Revision of the last durable write."""
        ...

    @property
    def oldest(self) -> int:
        """The oldest revision a read or watch may start from."""
        ...

    def get(self, key: str, *, pending: bool = False) -> Record | None:
        """The live record. With `pending`, the newest write even if it is not durable yet: only
        to compute a guarded write from, never to answer a reader."""
        ...

    def is_stale(self, record: Record) -> bool:
        """Is the record stored as it would not be now (in plain, or by a former key)? Then even a
        put of the same value is worth it."""
        ...

    def range(self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0) -> Range:
        """Records whose key starts with `prefix`, beginning behind key `after`.

        `revision` 0 means now; an older one gives the state as of then (for continued lists).
        Raises Compacted, FutureRevision.
        """
        ...

    def count(self, prefix: str) -> int: ...

    async def put(
        self, key: str, value: bytes, *, expected: int | None = None, note: Any = None
    ) -> Record:
        """Write and return once durable. `expected`: 0 = must not exist, n = must be at revision
        n, None = unguarded. `note` travels to this process's watchers with the event (the decoded
        object, so that nobody decodes again); it is not stored. Raises RevisionMismatch at once."""
        ...

    async def delete(self, key: str, *, expected: int | None = None, note: Any = None) -> Record:
        """Delete and return the last record with `modified` = the deletion's revision, once
        durable. Raises RevisionMismatch (also when there is no such key)."""
        ...

    def history(self, prefix: str, after: int) -> Sequence[Event]:
        """The kept events under `prefix` with revisions greater than `after`, in order; with
        `subscribe` in the same turn of the loop, a watch without gap or queue. Raises Compacted,
        FutureRevision."""
        ...

    def subscribe(
        self, prefix: str, callback: Callable[[Sequence[Event]], None]
    ) -> Callable[[], None]:
        """Call `callback` with every batch of durable events under `prefix`, synchronously and
        before the `put` that made them returns: for indexes that must never lag behind a read.
        Returns a function that ends it. A callback must not raise."""
        ...

    def trouble(self) -> str:
        """Why writes fail or hang; "" while they do not."""
        ...

    async def compact(self, before: int) -> None:
        """Forget history before revision `before`."""
        ...

    async def close(self) -> None: ...
