"""watch: events of a collection from a version on, each line made once for all who watch.

One watcher is a member of a group of equals (`fanout`), a queue (`watching`), and the reader of
that queue: the connection's task, or a component in process.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from sampan.api import errors
from sampan.api.errors import BadRequest, Expired
from sampan.client.interface import WatchEvent
from sampan.store.interface import Compacted, FutureRevision, Record

from ..events import Lines, lines_of
from ..exchange import Attributes, Request, Stream, Upgrade
from ..fanout import Batch, Entry
from ..listoptions import ListOptions, check_not_ahead, list_options, too_large
from ..negotiate import JSON, PLAIN, watch_form_of
from ..selection import NAME, Selection, selection_of
from ..watching import Watcher
from .list import NOW, Page, find

if TYPE_CHECKING:
    from ..app import Server

LEAST_TIMEOUT_S = 1800.0
"""A watch without timeoutSeconds ends after this to twice this, as upstream's, so that watches of
many clients do not end at once."""
BATCH_BYTES = 1 << 20
"""Initial objects are handed over in parts of about this size."""


class Start(Struct, frozen=True):
    """Where a watch begins."""

    revision: int
    """It shows what happened behind this one; 0 is now."""
    lists_first: bool
    """What is there is shown first, as added."""
    marked: bool
    """The end of what was there is marked by a bookmark."""


def handle(server: Server, request: Request, attributes: Attributes) -> Stream | Upgrade:
    resource = attributes.resource
    assert resource is not None
    form = PLAIN if request.local else watch_form_of(request.headers.get("accept", ""))
    options = list_options(request, watch=True)
    selection = _selection(request, attributes)
    start = _start(server, options)
    timeout_s = options.timeout_s or LEAST_TIMEOUT_S * (1 + random.random())
    namespace = attributes.namespace if resource.namespaced else ""
    # Nothing waits for a webhook while it is told to the watchers: what only a conversion tells is
    # looked at by the reader.
    told = replace(selection, fields=None) if selection.sifts else selection
    watch = _Watch(server, Watcher(server, told, namespace), start, timeout_s)
    watch.sieve = None if told is selection else selection
    watch.bookmarks = options.bookmarks
    lines = Lines(server, selection, form, request.param("includeObject"))
    if request.local:
        return Stream(watch.events(lines), content_type=JSON)
    if request.upgradable:
        # Browsers' clients alone ask so.
        from ..watchsockets import is_websocket, watch_by_messages

        if is_websocket(request):
            return watch_by_messages(request, watch.lines(lines))
    direct = watch.write_by if lines.plain and told is selection else None
    return Stream(watch.lines(lines), content_type=JSON, direct=direct)


def _selection(request: Request, attributes: Attributes) -> Selection:
    """The selection; a name in the old form of path, /watch/.../name, counts as a field."""
    resource = attributes.resource
    assert resource is not None
    selection = selection_of(request, resource)
    if not attributes.name or selection.name == attributes.name:
        return selection
    if selection.fields is not None:
        raise BadRequest("fieldSelector metadata.name doesn't match requested name")
    request.query = {**request.query, "fieldSelector": [f"{NAME}={attributes.name}"]}
    return selection_of(request, resource)


def _start(server: Server, options: ListOptions) -> Start:
    revision = check_not_ahead(server, options.version)
    initial = options.initial
    if initial is None:
        return Start(revision, not revision, marked=False)
    if initial:
        # Not older than the version: what is there now is.
        return Start(revision, lists_first=True, marked=options.bookmarks)
    return Start(revision, lists_first=False, marked=False)


class _Watch:
    """One watch under way. Everything begins when the first batch is asked for, so that an answer
    nobody reads leaves nothing behind."""

    def __init__(self, server: Server, watcher: Watcher, start: Start, timeout_s: float) -> None:
        self._server = server
        self._watcher = watcher
        self._start = start
        self._timeout_s = timeout_s
        self.bookmarks = False
        self.sieve: Selection | None = None
        """Picks from what the watcher is told, once that is converted."""

    def _open(self) -> Page:
        """Begin to listen, and what to show first: what is there, or nothing when what happened
        since the start is in the queue. Raises Expired, Timeout."""
        watcher, start = self._watcher, self._start
        watcher.open(self._timeout_s, bookmarks=self.bookmarks)
        if start.lists_first:
            # In the same turn as the subscription: nothing is missed, nothing comes twice.
            return find(self._server, watcher.selection, watcher.namespace, NOW)
        if start.revision:
            try:
                watcher.replay(start.revision)
            except Compacted as error:
                oldest = error.oldest - 1
                raise Expired(f"too old resource version: {start.revision} ({oldest})") from None
            except FutureRevision:
                raise too_large(start.revision, self._server.store.revision) from None
        return Page((), start.revision)

    async def _run(
        self,
        on_records: Callable[[list[Record]], Any],
        on_batches: Callable[[list[Batch]], Any],
        on_bookmark: Callable[[int, bool], Any],
    ) -> AsyncIterator[Any]:
        """The watch, in parts as `on_...` make them."""
        watcher, server = self._watcher, self._server
        view = watcher.selection.view
        prepare = None if view is None else view.prepare
        try:
            page = self._open()
            if prepare is not None:
                there = list(map(server.cache.peek, page.records))
                await prepare(lambda: there)
            part: list[Record] = []
            size = 0
            for record in page.records:
                if self.sieve is not None and not self.sieve.matches(server.cache.peek(record)):
                    continue
                part.append(record)
                size += len(record.value)
                if size > BATCH_BYTES:
                    yield on_records(part)
                    part, size = [], 0
            if part:
                yield on_records(part)
            if self._start.marked:
                yield on_bookmark(page.revision, True)
            del page, part
            while True:
                batches = await watcher.take()
                if batches:
                    server.metrics.watch_events += sum(len(batch.entries) for batch in batches)
                    if self.sieve is not None:
                        batches = await _sifted(self.sieve, batches)
                    if prepare is not None:
                        await prepare(lambda got=batches: _objects(got))  # type: ignore[misc]
                    if batches:
                        yield on_batches(batches)
                elif watcher.ended:
                    return
                if watcher.bookmark_due and watcher.caught_up:
                    watcher.bookmark_due = False
                    yield on_bookmark(server.store.revision, False)
        finally:
            watcher.close()

    def write_by(self, write: Callable[[bytes], bool]) -> None:
        """Write plain lines at once while the reader waits. Nothing is looked at or converted for
        them, and they are made once for all: a task woken for each would cost more than they do."""
        metrics = self._server.metrics

        def sink(batch: Batch) -> bool:
            taken = write(lines_of(batch))
            if taken:
                metrics.watch_events += len(batch.entries)
            return taken

        self._watcher.sink = sink

    async def events(self, lines: Lines) -> AsyncIterator[WatchEvent]:
        """For a reader in this process: shared objects, one event at a time."""
        decode = self._server.cache.decode

        def on_records(records: list[Record]) -> list[WatchEvent]:
            return [WatchEvent("ADDED", lines.shown(decode(record))) for record in records]

        def on_batches(batches: list[Batch]) -> list[WatchEvent]:
            return [
                WatchEvent(entry.kind, lines.shown(_object(entry)))
                for batch in batches
                for entry in batch.entries
            ]

        def on_bookmark(revision: int, initial: bool) -> list[WatchEvent]:
            return [WatchEvent("BOOKMARK", lines.bookmark(revision, initial=initial))]

        parts = self._run(on_records, on_batches, on_bookmark)
        try:
            async for part in parts:
                for event in part:
                    yield event
        finally:
            await parts.aclose()  # type: ignore[attr-defined]

    async def lines(self, lines: Lines) -> AsyncIterator[bytes]:
        """For HTTP: a line of JSON per event."""
        parts = self._run(lines.of_records, lines.of_batches, lines.of_bookmark)
        try:
            async for part in parts:
                yield part
        except errors.StatusError as error:
            # Upstream has answered 200 by now, and says it with an event.
            yield lines.of_error(error)
        finally:
            await parts.aclose()  # type: ignore[attr-defined]


async def _sifted(sieve: Selection, batches: list[Batch]) -> list[Batch]:
    """The same events as a selection sees them that needs both their objects converted."""
    changes = [entry.change for batch in batches for entry in batch.entries]
    sides = [obj for change in changes for obj in (change.previous, change.obj) if obj is not None]
    assert sieve.view is not None
    assert sieve.view.prepare is not None
    await sieve.view.prepare(lambda: sides)
    entries = []
    for change in changes:
        was = change.previous is not None and sieve.matches(change.previous)
        if change.obj is not None and sieve.matches(change.obj):
            entries.append(Entry("MODIFIED" if was else "ADDED", change))
        elif was:
            entries.append(Entry("DELETED", change))
    return [Batch(entries)] if entries else []


def _objects(batches: list[Batch]) -> list[Any]:
    return [_object(entry) for batch in batches for entry in batch.entries]


def _object(entry: Entry) -> Any:
    change = entry.change
    return change.gone if entry.kind == "DELETED" else change.obj
