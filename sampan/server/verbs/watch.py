"""watch: events of a collection from a version on, each line made once for all who watch.

One watcher is a synchronous callback of the cache (it filters, and queues what it wants) and the
reader of that queue (the connection's task, or a component in process). The queue holds references
to shared changes; a reader that is `QUEUE_CHANGES` behind is cut off, and lists again, as upstream
does. A task per watcher sleeps until the next bookmark or the end of the watch, nothing else.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from orjson import dumps

from sampan.api import errors, fields
from sampan.api.errors import Expired, Object
from sampan.client.interface import WatchEvent
from sampan.store.interface import Compacted, FutureRevision
from sampan.wire.json import splice_version

from .. import table
from ..answer import dump_yaml
from ..cache import Change
from ..exchange import Attributes, Request, Stream
from ..negotiate import JSON, PLAIN, YAML, Form, form_of
from ..routes import TRUE
from ..selection import Selection, selection_of
from .get import check_not_ahead, too_large
from .list import Page, Query, find

if TYPE_CHECKING:
    from ..app import Server

QUEUE_CHANGES = 8_192
"""What a reader may be behind; more is cheaper to list."""
PAST_CHANGES = 256
"""Changes of the past looked at in one turn of the loop."""
BOOKMARK_S = 60.0
"""Between bookmarks, as upstream."""
LEAST_TIMEOUT_S = 1800.0
"""A watch without timeoutSeconds ends after this to twice this, as upstream's, so that watches of
many clients do not end at once."""
BATCH_BYTES = 1 << 20
"""Initial objects are handed over in parts of about this size."""

INITIAL_END = "k8s.io/initial-events-end"


class Watcher:
    """The queue between the store's events and one reader."""

    def __init__(self, server: Server, selection: Selection, namespace: str) -> None:
        self._server = server
        self.selection = selection
        self.namespace = namespace
        self._waiter: asyncio.Future[None] | None = None
        self._queue: list[tuple[str, Change]] = []
        self.bookmark_due = False
        self.ended = False
        name = selection.name
        # The commonest selector, one object by name, is decided without looking at the object.
        self._suffix = f"/{name}" if name else ""
        self._filtered = not (
            selection.everything
            or (name and selection.labels is None and len(selection.fields.terms) == 1)  # type: ignore[union-attr]
        )
        self._end: Callable[[], None] | None = None
        self._past: Iterator[Change] | None = None

    def open(self) -> None:
        """Begin to queue."""
        resource, cache = self.selection.resource, self._server.cache
        self._end = cache.watch(resource, self.namespace, self.push)
        self._server.watchers.add(self)
        if self._server.closing:
            self.close()

    def replay(self, after: int) -> None:
        """Begin behind revision `after`. Raises Compacted, FutureRevision."""
        self._past = self._server.cache.history(self.selection.resource, self.namespace, after)

    def push(self, change: Change) -> None:
        kind = self._kind(change)
        if kind and not self.ended:
            if len(self._queue) >= QUEUE_CHANGES:
                self._queue.clear()
                self.close()
                return
            self._queue.append((kind, change))
            self.wake()

    def _kind(self, change: Change) -> str:
        """The event's type as this selection sees it; "" when it does not."""
        if self._suffix and not change.key.endswith(self._suffix):
            return ""
        if not self._filtered:
            if change.after is None:
                return "DELETED"
            return "ADDED" if change.before is None else "MODIFIED"
        matches = self.selection.matches
        was = change.before is not None and matches(change.previous)  # type: ignore[arg-type]
        is_now = change.after is not None and matches(change.obj)  # type: ignore[arg-type]
        if is_now:
            return "MODIFIED" if was else "ADDED"
        return "DELETED" if was else ""

    @property
    def caught_up(self) -> bool:
        """Has everything up to now been taken?"""
        return self._past is None and not self._queue

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self) -> list[tuple[str, Change]]:
        """What is queued; waits until there is something, a bookmark is due, or it ended (then
        the list may be empty)."""
        while self._past is not None:
            batch = [(self._kind(change), change) for change in islice(self._past, PAST_CHANGES)]
            if not batch:
                self._past = None
            elif picked := [entry for entry in batch if entry[0]]:
                return picked
            else:
                # Nothing selected so far, and many more to look at: let others in between.
                await asyncio.sleep(0)
        while not self._queue and not self.ended and not self.bookmark_due:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
            self._waiter = None
        batch, self._queue = self._queue, []
        return batch

    def close(self) -> None:
        """No more events. The reader gets what is queued, then the end."""
        if not self.ended:
            self.ended = True
            if self._end is not None:
                self._end()
            self._server.watchers.discard(self)
        self.wake()


def handle(server: Server, request: Request, attributes: Attributes) -> Stream:
    resource = attributes.resource
    assert resource is not None
    form = PLAIN if request.local else form_of(request.headers.get("accept", ""))
    selection = _selection(request, attributes)
    timeout_s = _timeout_s(request)
    version = request.param("resourceVersion")
    initial = _wants_initial(request)
    namespace = attributes.namespace if resource.namespaced else ""
    start = check_not_ahead(server, version) if version and version != "0" else 0
    plan = _Plan(server, request, Watcher(server, selection, namespace), form)
    plan.start, plan.timeout_s = start, timeout_s
    plan.lists_first, plan.ends_initial = initial or not start, initial
    chunks = plan.local_events() if request.local else plan.lines()
    return Stream(chunks, content_type=f"{YAML};stream=watch" if form.media == YAML else JSON)


def _selection(request: Request, attributes: Attributes) -> Selection:
    resource = attributes.resource
    assert resource is not None
    selection = selection_of(request, resource)
    by_path = attributes.name and not selection.name and request.path.endswith(attributes.name)
    if by_path:
        # The old form, a watch of one object's path.
        request.query = {**request.query, "fieldSelector": [f"metadata.name={attributes.name}"]}
        selection = selection_of(request, resource)
    return selection


def _timeout_s(request: Request) -> float:
    text = request.param("timeoutSeconds")
    if text:
        try:
            seconds = int(text)
        except ValueError:
            raise errors.BadRequest(
                f'strconv.ParseInt: parsing "{text[:40]}": invalid syntax'
            ) from None
        if seconds > 0:
            return float(seconds)
    return LEAST_TIMEOUT_S * (1 + random.random())


def _wants_initial(request: Request) -> bool:
    """sendInitialEvents (KEP-3157), with upstream's rules for what must come with it."""
    text = request.param("sendInitialEvents")
    match = request.param("resourceVersionMatch")
    causes = []
    if text:
        if match != "NotOlderThan":
            causes.append(
                fields.forbidden(
                    "resourceVersionMatch",
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                )
            )
    elif match:
        causes.append(
            fields.forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )
        )
    if causes:
        raise errors.invalid("meta.k8s.io", "ListOptions", "", causes)
    return text in TRUE


class _Plan:
    """How one watch is written out."""

    def __init__(self, server: Server, request: Request, watcher: Watcher, form: Form) -> None:
        self.start = 0
        self.timeout_s = LEAST_TIMEOUT_S
        self.lists_first = False
        self.ends_initial = False
        self._server = server
        self._watcher = watcher
        self._form = form
        self._resource = watcher.selection.resource
        self._view = watcher.selection.view
        self._bookmarks = request.param("allowWatchBookmarks") in TRUE
        self._include = request.param("includeObject") or "Metadata"
        self._columns_sent = False

    async def _keep_time(self) -> None:
        """Wake the reader for bookmarks, and end the watch in time."""
        clock, watcher = self._server.clock, self._watcher
        end = clock.monotonic() + self.timeout_s
        while (left := end - clock.monotonic()) > 0:
            await clock.sleep(min(left, BOOKMARK_S * (1 + random.random() * 0.25)))
            if self._bookmarks:
                watcher.bookmark_due = True
                watcher.wake()
        watcher.close()

    def _open(self) -> Page:
        """Begin to listen, and what to show first: what is there, or nothing when what happened
        since `start` is in the queue. Raises Expired, Timeout."""
        watcher = self._watcher
        watcher.open()
        if self.lists_first:
            # In the same turn as the subscription: nothing is missed, nothing comes twice.
            return find(self._server, watcher.selection, watcher.namespace, Query())
        try:
            watcher.replay(self.start)
        except Compacted as error:
            oldest = error.oldest - 1
            raise Expired(f"too old resource version: {self.start} ({oldest})") from None
        except FutureRevision:
            raise too_large(self.start, self._server.store.revision) from None
        return Page((), self.start)

    async def _run(
        self,
        on_record: Callable[[Any], Any],
        on_change: Callable[[str, Change], Any],
        on_bookmark: Callable[[int, bool], Any],
    ) -> AsyncIterator[list[Any]]:
        """The watch, in batches. Everything begins when the first one is asked for, so that an
        answer nobody reads leaves nothing behind."""
        watcher = self._watcher
        timer: asyncio.Task[None] | None = None
        try:
            page = self._open()
            timer = asyncio.create_task(self._keep_time())
            part: list[Any] = []
            size = 0
            for record in page.records:
                part.append(on_record(record))
                size += len(record.value)
                if size > BATCH_BYTES:
                    yield part
                    part, size = [], 0
            if self.ends_initial and self._bookmarks:
                part.append(on_bookmark(page.revision, True))
            del page
            if part:
                yield part
            while True:
                batch = await watcher.take()
                out = [on_change(kind, change) for kind, change in batch]
                self._server.metrics.watch_events += len(out)
                if watcher.bookmark_due and watcher.caught_up:
                    watcher.bookmark_due = False
                    # Every change up to the store's revision was queued, and is in `out`.
                    out.append(on_bookmark(self._server.store.revision, False))
                if out:
                    yield out
                if watcher.ended and not batch:
                    return
        finally:
            if timer is not None:
                timer.cancel()
            watcher.close()

    async def local_events(self) -> AsyncIterator[WatchEvent]:
        decode, shown = self._server.cache.decode, self._shown

        def on_change(kind: str, change: Change) -> WatchEvent:
            obj = change.gone if kind == "DELETED" else change.obj
            assert obj is not None
            return WatchEvent(kind, shown(obj))

        batches = self._run(
            lambda record: WatchEvent("ADDED", shown(decode(record))),
            on_change,
            lambda revision, initial: WatchEvent("BOOKMARK", self._bookmark(revision, initial)),
        )
        try:
            async for batch in batches:
                for event in batch:
                    yield event
        finally:
            await batches.aclose()  # type: ignore[attr-defined]

    async def lines(self) -> AsyncIterator[bytes]:
        if self._form.plain and self._view is None:
            batches = self._run(_record_line, _change_line, self._bookmark_line)
        else:
            batches = self._run(self._formed_record, self._formed_change, self._bookmark_line)
        try:
            async for batch in batches:
                yield batch[0] if len(batch) == 1 else b"".join(batch)
        except errors.StatusError as error:
            # Upstream has answered 200 by now, and says it with an event.
            yield self._line("ERROR", error.status_object())
        finally:
            await batches.aclose()  # type: ignore[attr-defined]

    def _bookmark(self, revision: int, initial: bool) -> Object:
        metadata: Object = {"resourceVersion": str(revision), "creationTimestamp": None}
        if initial:
            metadata["annotations"] = {INITIAL_END: "true"}
        resource = self._resource
        return {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}

    def _bookmark_line(self, revision: int, initial: bool) -> bytes:
        bookmark = self._bookmark(revision, initial)
        if self._form.convert == "Table":
            row = {"cells": [], "object": table.partial_of(bookmark, self._form.version)}
            bookmark = {
                "kind": "Table",
                "apiVersion": f"meta.k8s.io/{self._form.version}",
                "metadata": {"resourceVersion": bookmark["metadata"]["resourceVersion"]},
                "columnDefinitions": None,
                "rows": [row],
            }
        elif self._form.partial:
            bookmark = table.partial_of(bookmark, self._form.version)
        return self._line("BOOKMARK", bookmark)

    def _formed_record(self, record: Any) -> bytes:
        return self._line("ADDED", self._formed(self._server.cache.peek(record)))

    def _formed_change(self, kind: str, change: Change) -> bytes:
        obj = change.gone if kind == "DELETED" else change.obj
        assert obj is not None
        return self._line(kind, self._formed(obj))

    def _shown(self, obj: Object) -> Object:
        return obj if self._view is None else self._view.from_hub(obj)

    def _formed(self, obj: Object) -> Object:
        form = self._form
        obj = self._shown(obj)
        if form.convert == "Table":
            made = table.table_of(
                self._resource, [obj], form.version, self._include, self._server.clock.now()
            )
            made["metadata"] = {"resourceVersion": obj["metadata"]["resourceVersion"]}
            if self._columns_sent:
                # Only the first table of a watch says what its columns are.
                made["columnDefinitions"] = None
            self._columns_sent = True
            return made
        return table.partial_of(obj, form.version) if form.partial else obj

    def _line(self, kind: str, obj: Object) -> bytes:
        event = {"type": kind, "object": obj}
        if self._form.media == YAML:
            return b"---\n" + dump_yaml(event)
        return dumps(event) + b"\n"


def _record_line(record: Any) -> bytes:
    return b'{"type":"ADDED","object":%b}\n' % splice_version(record.value, record.modified)


def _change_line(kind: str, change: Change) -> bytes:
    line = change.lines.get(kind)
    if line is None:
        line = change.lines[kind] = b'{"type":"%b","object":%b}\n' % (
            kind.encode(),
            change.body(kind),
        )
    return line
