"""Between the verbs and the store: decoded objects, label and field indexes, what happens next.

One synchronous subscription to the store sees every durable write before its writer is answered,
so nothing here ever lags behind a read. It turns each event into one `Change`, shared by all who
look at it: observers, indexes and watchers. An object is decoded at most once (the writer leaves
the decoded object as the event's note) and its watch line is made at most once.

Bounds: `DECODED_BYTES` of encoded size and `DECODED_OBJECTS` in the decoded cache (the least
recently used goes), `RECENT_CHANGES` changes for watchers that come back, `INDEXED_NAMES` label
keys and as many fields per collection (beyond that a selector scans).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from orjson import loads

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object
from sampan.store.interface import Event, Record, Store
from sampan.wire.json import splice_version

DECODED_BYTES = 4 << 20
"""Encoded size of the objects kept decoded; decoded they take some six times as much."""
DECODED_OBJECTS = 1_024
"""Enough for what is written again and again (leases, statuses); decoding anew takes some ten
microseconds, but each object kept costs memory and every full pass of the garbage collector."""
RECENT_CHANGES = 512
"""Changes kept with their decoded objects and lines for watches that start a little late."""
INDEXED_NAMES = 16
"""Label keys (and fields) indexed per collection: each costs a set entry per object."""

ROOT = "/registry/"


class Note(NamedTuple):
    """What a writer leaves with its event: the objects it had decoded anyway."""

    obj: Object | None
    """The object written, without resourceVersion until the event is durable; None if deleted."""
    previous: Object | None
    """The object before, as the cache gave it."""


def with_version(obj: Object, revision: int) -> Object:
    """A copy of `obj` that names another resourceVersion; shares everything but metadata."""
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(revision)}}


class Change:
    """One durable write. Decoded forms and encoded lines are made when first asked for."""

    __slots__ = ("_cache", "_gone", "_obj", "_previous", "after", "before", "lines", "revision")

    def __init__(self, cache: Cache, event: Event) -> None:
        self._cache = cache
        self.revision = event.revision
        self.after = event.record
        self.before = event.previous
        note = event.note
        self._obj: Object | None = None
        self._previous: Object | None = None
        if note is not None:
            self._previous = note.previous
            if note.obj is not None:
                # The writer's private object becomes everybody's here, and is final from now on.
                note.obj["metadata"]["resourceVersion"] = str(event.revision)
                self._obj = note.obj
        self._gone: Object | None = None
        self.lines: dict[Any, bytes] = {}
        """Encoded watch events by (form, type)."""

    @property
    def key(self) -> str:
        record = self.after or self.before
        assert record is not None
        return record.key

    @property
    def obj(self) -> Object | None:
        """The object after the write; None when it was deleted."""
        if self._obj is None and self.after is not None:
            self._obj = self._cache.decode(self.after)
        return self._obj

    @property
    def previous(self) -> Object | None:
        """The object before the write; None when it was created."""
        if self._previous is None and self.before is not None:
            self._previous = decode_record(self.before)
        return self._previous

    @property
    def gone(self) -> Object:
        """The last state of an object that left (deleted, or no longer selected), at this
        change's revision."""
        if self._gone is None:
            previous = self.previous
            assert previous is not None
            self._gone = with_version(previous, self.revision)
        return self._gone

    def body(self, kind: str) -> bytes:
        """The object's JSON for an event of type `kind`."""
        record = self.before if kind == "DELETED" else self.after
        assert record is not None
        return splice_version(record.value, self.revision)


def decode_record(record: Record) -> Object:
    obj: Object = loads(record.value)
    obj["metadata"]["resourceVersion"] = str(record.modified)
    return obj


Observer = Callable[[str, Object, Object | None], None]


class Collection:
    """What is known of the objects under one storage prefix."""

    __slots__ = (
        "changed",
        "fields",
        "labels",
        "namespaced",
        "observers",
        "prefix",
        "selectable",
        "watchers",
    )

    def __init__(self, resource: Descriptor) -> None:
        self.prefix = resource.storage
        self.namespaced = resource.namespaced
        self.selectable = resource.rules.fields
        self.changed = 0
        """Revision of the last change since the collection is known; 0: none."""
        self.observers: list[Observer] = []
        self.watchers: dict[str, list[Callable[[Change], None]]] = {}
        """By namespace; "" watches all."""
        self.labels: dict[str, dict[str, set[str]]] = {}
        """Indexed label keys: key -> value -> storage keys."""
        self.fields: dict[str, dict[str, set[str]]] = {}

    def reindex(self, key: str, old: Object | None, new: Object | None) -> None:
        for index, pairs in ((self.labels, labels_of), (self.fields, self._fields_of)):
            if index:
                before = pairs(old) if old is not None else {}
                after = pairs(new) if new is not None else {}
                for name, values in index.items():
                    _move(values, key, before.get(name), after.get(name))

    def _fields_of(self, obj: Object) -> Mapping[str, str]:
        return self.selectable(obj)


def labels_of(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("labels") or {}


def _move(values: dict[str, set[str]], key: str, before: str | None, after: str | None) -> None:
    if before == after:
        return
    if before is not None and (keys := values.get(before)) is not None:
        keys.discard(key)
        if not keys:
            del values[before]
    if after is not None:
        values.setdefault(after, set()).add(key)


class Cache:
    """All collections of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._collections: dict[str, Collection] = {}
        self._decoded: OrderedDict[str, tuple[int, Object, int]] = OrderedDict()
        self._decoded_bytes = 0
        self._recent: deque[Change] = deque()
        self._by_revision: dict[int, Change] = {}
        self._unsubscribe: Callable[[], None] | None = None

    def open(self) -> None:
        self._unsubscribe = self._store.subscribe(ROOT, self._on_events)

    def close(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def decode(self, record: Record) -> Object:
        """The record's object, shared: never change it."""
        entry = self._decoded.get(record.key)
        if entry is not None and entry[0] == record.modified:
            self._decoded.move_to_end(record.key)
            return entry[1]
        obj = decode_record(record)
        if entry is None or entry[0] < record.modified:
            self._keep(record, obj)
        return obj

    def peek(self, record: Record) -> Object:
        """The same for a scan, which must not push what is in use out of the cache."""
        entry = self._decoded.get(record.key)
        if entry is not None and entry[0] == record.modified:
            return entry[1]
        return decode_record(record)

    def _keep(self, record: Record, obj: Object) -> None:
        self._drop(record.key)
        size = len(record.value)
        self._decoded[record.key] = (record.modified, obj, size)
        self._decoded_bytes += size
        while self._decoded_bytes > DECODED_BYTES or len(self._decoded) > DECODED_OBJECTS:
            _, (_, _, size) = self._decoded.popitem(last=False)
            self._decoded_bytes -= size

    def _drop(self, key: str) -> None:
        entry = self._decoded.pop(key, None)
        if entry is not None:
            self._decoded_bytes -= entry[2]

    def collection(self, resource: Descriptor) -> Collection:
        found = self._collections.get(resource.storage)
        if found is None:
            found = self._collections[resource.storage] = Collection(resource)
        return found

    def _on_events(self, events: Sequence[Event]) -> None:
        for event in events:
            change = Change(self, event)
            self._remember(change)
            if change.after is not None:
                if event.note is not None and change.obj is not None:
                    self._keep(change.after, change.obj)
            else:
                self._drop(change.key)
            self._publish(change)

    def _remember(self, change: Change) -> None:
        self._recent.append(change)
        self._by_revision[change.revision] = change
        if len(self._recent) > RECENT_CHANGES:
            del self._by_revision[self._recent.popleft().revision]

    def _publish(self, change: Change) -> None:
        key = change.key
        collection = self._find(key)
        if collection is None:
            return
        collection.changed = change.revision
        if collection.labels or collection.fields:
            collection.reindex(key, change.previous, change.obj)
        for observer in collection.observers:
            notify(observer, change)
        watchers = collection.watchers
        if watchers:
            for watcher in tuple(watchers.get("", ())):
                watcher(change)
            if collection.namespaced:
                namespace = key[len(collection.prefix) : key.rfind("/")]
                for watcher in tuple(watchers.get(namespace, ())):
                    watcher(change)

    def _find(self, key: str) -> Collection | None:
        """The collection with the longest prefix of `key` (custom resources nest by group)."""
        found = None
        at = key.find("/", len(ROOT))
        while at >= 0:
            found = self._collections.get(key[: at + 1]) or found
            at = key.find("/", at + 1)
        return found

    def watch(
        self, resource: Descriptor, namespace: str, watcher: Callable[[Change], None]
    ) -> Callable[[], None]:
        """Call `watcher` with each change from now on; the result ends it."""
        watchers = self.collection(resource).watchers
        watchers.setdefault(namespace, []).append(watcher)

        def end() -> None:
            entries = watchers.get(namespace)
            if entries is not None and watcher in entries:
                entries.remove(watcher)
                if not entries:
                    del watchers[namespace]

        return end

    def history(self, resource: Descriptor, namespace: str, after: int) -> Iterator[Change]:
        """The changes behind revision `after` up to now; they are made as they are taken. Raises
        Compacted, FutureRevision."""
        recent = self._by_revision
        events = self._store.history(resource.prefix(namespace), after)
        return (recent.get(event.revision) or Change(self, event) for event in events)

    def observe(self, resource: Descriptor, observer: Observer) -> None:
        for record in self._store.range(resource.storage).records:
            observer("ADDED", self.decode(record), None)
        self.collection(resource).observers.append(observer)

    def keys_with_label(self, resource: Descriptor, name: str, value: str) -> set[str] | None:
        """Storage keys of the objects with this label; None when there is no room for an index."""
        collection = self.collection(resource)
        # Label keys need no escapes in JSON, so bytes without the key are not even decoded.
        mark = f'"{name}":"'.encode()
        return self._indexed(collection.labels, labels_of, (name, value), collection, mark)

    def keys_with_field(self, resource: Descriptor, name: str, value: str) -> set[str] | None:
        """The same for a selectable field of the kind's own."""
        collection = self.collection(resource)
        pairs = collection.selectable
        return self._indexed(collection.fields, pairs, (name, value), collection, b"")

    def _indexed(
        self,
        index: dict[str, dict[str, set[str]]],
        pairs: Callable[[Object], Mapping[str, str]],
        wanted: tuple[str, str],
        collection: Collection,
        mark: bytes,
    ) -> set[str] | None:
        name, value = wanted
        values = index.get(name)
        if values is None:
            if len(index) >= INDEXED_NAMES:
                return None
            values = index[name] = {}
            for record in self._store.range(collection.prefix).records:
                if mark not in record.value:
                    continue
                found = pairs(self.peek(record)).get(name)
                if found is not None:
                    values.setdefault(found, set()).add(record.key)
        return values.get(value, _NOTHING)

    def sizes(self) -> dict[str, int]:
        """How many objects each known collection holds, for metrics."""
        return {prefix: self._store.count(prefix) for prefix in self._collections}


_NOTHING: set[str] = set()


def notify(observer: Observer, change: Change) -> None:
    """Tell an observer in watch terms."""
    if change.after is None:
        observer("DELETED", change.gone, change.previous)
    else:
        obj = change.obj
        assert obj is not None
        observer("ADDED" if change.before is None else "MODIFIED", obj, change.previous)
