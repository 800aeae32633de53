"""One durable write as readers see it: the objects before and after, and its encoded lines.

Everything is made when first asked for, and once: a change is shared by all who look at it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.json import Decoder
from orjson import loads

from sampan.api.errors import Object
from sampan.store.interface import Event, Record
from sampan.wire.json import splice_version

from .ownership.fieldsets import intern_set


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

    __slots__ = ("_decode", "_gone", "_obj", "_previous", "after", "before", "lines", "revision")

    def __init__(self, decode: Callable[[Record], Object], event: Event) -> None:
        self._decode = decode
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
    def size(self) -> int:
        """About the bytes of its event."""
        record = self.after or self.before
        assert record is not None
        return len(record.value)

    @property
    def obj(self) -> Object | None:
        """The object after the write; None when it was deleted."""
        if self._obj is None and self.after is not None:
            self._obj = self._decode(self.after)
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
    """The record's object. Objects of one origin share the sets of fields their managers own:
    those are half of what a decoded object takes."""
    obj: Object = loads(record.value)
    metadata = obj["metadata"]
    metadata["resourceVersion"] = str(record.modified)
    for entry in metadata.get("managedFields") or ():
        if "fieldsV1" in entry:
            entry["fieldsV1"] = intern_set(entry["fieldsV1"])
    return obj


Observer = Callable[[str, Object, Object | None], None]
"""Gets an event's type, the object, and the one before."""


def labels_of(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("labels") or {}


class _Metadata(Struct):
    labels: dict[str, Any] | None = None


class _Labelled(Struct):
    metadata: _Metadata


_labelled = Decoder(_Labelled).decode


def stored_labels(record: Record) -> Mapping[str, str]:
    """The same of what is stored, of which no more is decoded: a third of the time."""
    return _labelled(record.value).metadata.labels or {}


def notify(observer: Observer, change: Change) -> None:
    """Tell an observer in watch terms."""
    if change.after is None:
        observer("DELETED", change.gone, change.previous)
    else:
        obj = change.obj
        assert obj is not None
        observer("ADDED" if change.before is None else "MODIFIED", obj, change.previous)
