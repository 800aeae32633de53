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

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object
from sampan.store.interface import Event, Record, Store

from .changes import Change, Observer, decode_record, labels_of, notify, stored_labels
from .fanout import Fanout, Group, Member, Pump
from .selection import Selection

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


class Collection:
    """What is known of the objects under one storage prefix."""

    __slots__ = (
        "changed",
        "fanout",
        "fields",
        "labels",
        "namespaced",
        "observers",
        "prefix",
        "selectable",
    )

    def __init__(self, resource: Descriptor, pump: Pump) -> None:
        self.prefix = resource.storage
        self.namespaced = resource.namespaced
        self.selectable = resource.rules.fields
        self.changed = 0
        """Revision of the last change since the collection is known; 0: none."""
        self.observers: list[Observer] = []
        self.fanout = Fanout(pump, namespaced=resource.namespaced)
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
        self._pump = Pump()
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
            found = self._collections[resource.storage] = Collection(resource, self._pump)
        return found

    def _on_events(self, events: Sequence[Event]) -> None:
        for event in events:
            change = Change(self.decode, event)
            self._remember(change)
            if change.after is not None:
                if event.note is not None and change.obj is not None:
                    self._keep(change.after, change.obj)
            else:
                self._drop(change.key)
            self._publish(change)
        self._pump.tell()

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
        if collection.fanout:
            collection.fanout.publish(change, key[len(collection.prefix) : key.rfind("/")])

    def _find(self, key: str) -> Collection | None:
        """The collection with the longest prefix of `key` (custom resources nest by group)."""
        found = None
        at = key.find("/", len(ROOT))
        while at >= 0:
            found = self._collections.get(key[: at + 1]) or found
            at = key.find("/", at + 1)
        return found

    def join(self, selection: Selection, namespace: str, member: Member) -> Group:
        """Offer `member` what its selection sees from now on, until it `leave`s."""
        return self.collection(selection.resource).fanout.join(selection, namespace, member)

    def leave(self, group: Group, namespace: str, member: Member) -> None:
        self.collection(group.selection.resource).fanout.leave(group, namespace, member)

    def history(self, resource: Descriptor, namespace: str, after: int) -> Iterator[Change]:
        """The changes behind revision `after` up to now; they are made as they are taken. Raises
        Compacted, FutureRevision."""
        recent = self._by_revision
        events = self._store.history(resource.prefix(namespace), after)
        return (recent.get(event.revision) or Change(self.decode, event) for event in events)

    def observe(self, resource: Descriptor, observer: Observer) -> None:
        for record in self._store.range(resource.storage).records:
            observer("ADDED", self.decode(record), None)
        self.collection(resource).observers.append(observer)

    def redefine(self, resource: Descriptor) -> None:
        """Take the selectable fields of a custom resource as they are now."""
        collection = self.collection(resource)
        collection.selectable = resource.rules.fields
        collection.fields.clear()

    def keys_with_label(self, resource: Descriptor, name: str, value: str) -> set[str] | None:
        """Storage keys of the objects with this label; None when there is no room for an index."""
        collection = self.collection(resource)
        # Label keys need no escapes in JSON, so bytes without the key are not even decoded.
        mark = f'"{name}":"'.encode()
        return self._indexed(collection.labels, stored_labels, (name, value), collection, mark)

    def keys_with_field(self, resource: Descriptor, name: str, value: str) -> set[str] | None:
        """The same for a selectable field of the kind's own."""
        collection = self.collection(resource)
        pairs = collection.selectable

        def stored(record: Record) -> Mapping[str, str]:
            return pairs(self.peek(record))

        return self._indexed(collection.fields, stored, (name, value), collection, b"")

    def _indexed(
        self,
        index: dict[str, dict[str, set[str]]],
        pairs: Callable[[Record], Mapping[str, str]],
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
                found = pairs(record).get(name)
                if found is not None:
                    values.setdefault(found, set()).add(record.key)
        return values.get(value, _NOTHING)

    def sizes(self) -> dict[str, int]:
        """How many objects each known collection holds, for metrics."""
        return {prefix: self._store.count(prefix) for prefix in self._collections}


_NOTHING: set[str] = set()
