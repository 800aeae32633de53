"""Watch events as they are written: stored bytes, tables or metadata, a line of JSON each.

Lines of the plain form are made once per change and joined once per batch, whoever watches.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

from orjson import dumps

from sampan.api.errors import Object, StatusError
from sampan.store.interface import Record
from sampan.wire.json import splice_version

from . import table
from .changes import Change
from .fanout import Batch, Entry
from .negotiate import Form
from .selection import Selection

if TYPE_CHECKING:
    from .app import Server

INITIAL_END = "k8s.io/initial-events-end"
BLUEPRINT = "kubernetes.io/initial-events-list-blueprint"
"""An empty list of the kind, encoded: clients make a list of the initial events with it."""


class Lines:
    """How one watch is written. Tables remember that their columns were sent."""

    def __init__(self, server: Server, selection: Selection, form: Form, include: str) -> None:
        self._server = server
        self._resource = selection.resource
        self._view = selection.view
        self._form = form
        self._include = table.include_of(include) if form.convert == "Table" else ""
        self._columns_sent = False

    @property
    def plain(self) -> bool:
        """Are they the stored bytes, the same for all?"""
        return self._form.plain and self._view is None

    def shown(self, obj: Object) -> Object:
        return obj if self._view is None else self._view.from_hub(obj)

    def of_records(self, records: list[Record]) -> bytes:
        if self.plain:
            return b"".join([_record_line(record) for record in records])
        peek = self._server.cache.peek
        return b"".join([_line("ADDED", self._formed(peek(record))) for record in records])

    def of_batches(self, batches: list[Batch]) -> bytes:
        if not self.plain:
            return b"".join(
                [self._formed_entry(entry) for item in batches for entry in item.entries]
            )
        if len(batches) == 1:
            return lines_of(batches[0])
        return b"".join(map(lines_of, batches))

    def of_bookmark(self, revision: int, initial: bool) -> bytes:
        bookmark = self.bookmark(revision, initial=initial)
        version = self._form.version
        if self._form.convert == "Table":
            made = table.empty(version)
            made["metadata"] = {"resourceVersion": bookmark["metadata"]["resourceVersion"]}
            if initial:
                made["metadata"]["annotations"] = bookmark["metadata"]["annotations"]
            made["columnDefinitions"] = self._columns(table.columns_of(self._resource))
            made["rows"] = [{"cells": [], "object": table.partial_of(bookmark, version)}]
            bookmark = made
        elif self._form.partial:
            bookmark = table.partial_of(bookmark, version)
        return _line("BOOKMARK", bookmark)

    def of_error(self, error: StatusError) -> bytes:
        return _line("ERROR", error.status_object())

    def bookmark(self, revision: int, *, initial: bool) -> Object:
        """An object of the kind that says nothing but how far the watch is."""
        resource = self._resource
        metadata: Object = {"resourceVersion": str(revision), "creationTimestamp": None}
        if initial:
            metadata["annotations"] = {INITIAL_END: "true"}
            if not self._form.convert:
                metadata["annotations"][BLUEPRINT] = _blueprint(
                    resource.list_kind, resource.api_version
                )
        return {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}

    def _formed_entry(self, entry: Entry) -> bytes:
        kind, change = entry
        obj = change.gone if kind == "DELETED" else change.obj
        assert obj is not None
        return _line(kind, self._formed(obj))

    def _formed(self, obj: Object) -> Object:
        form = self._form
        obj = self.shown(obj)
        if form.convert == "Table":
            now_s = self._server.clock.now()
            made = table.table_of(self._resource, [obj], form.version, self._include, now_s)
            made["metadata"] = {"resourceVersion": obj["metadata"]["resourceVersion"]}
            made["columnDefinitions"] = self._columns(made["columnDefinitions"])
            return made
        return table.partial_of(obj, form.version) if form.partial else obj

    def _columns(self, columns: list[Object]) -> list[Object] | None:
        """Only the first table of a watch says what its columns are."""
        if self._columns_sent:
            return None
        self._columns_sent = True
        return columns


def _blueprint(kind: str, api_version: str) -> str:
    empty: Object = {"kind": kind, "apiVersion": api_version, "metadata": {}, "items": None}
    return b64encode(dumps(empty)).decode()


def _line(kind: str, obj: Object) -> bytes:
    return dumps({"type": kind, "object": obj}) + b"\n"


def _record_line(record: Record) -> bytes:
    return b'{"type":"ADDED","object":%b}\n' % splice_version(record.value, record.modified)


def lines_of(batch: Batch) -> bytes:
    """The plain lines of a batch, made once for all who watch."""
    entries = batch.entries
    if len(entries) == 1:
        return _change_line(*entries[0])
    made = batch.made.get("")
    if made is None:
        made = batch.made[""] = b"".join([_change_line(*entry) for entry in entries])
    return made


def _change_line(kind: str, change: Change) -> bytes:
    line = change.lines.get(kind)
    if line is None:
        line = change.lines[kind] = b'{"type":"%b","object":%b}\n' % (
            kind.encode(),
            change.body(kind),
        )
    return line
