"""watch: events of a collection from a version on, each line made once for all who watch.

One watcher is a synchronous callback of the cache (it filters, and queues what it wants) and the
reader of that queue (the connection's task, or a component in process). The queue holds references
to shared changes; a reader that is `QUEUE_CHANGES` behind is cut off, and lists again, as upstream
does. A task per watcher sleeps until the next bookmark or the end of the watch, nothing else.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable
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
from ..negotiate import PLAIN, YAML, Form, form_of
from ..routes import TRUE
from ..selection import Selection, selection_of
from .get import check_not_ahead, too_large
from .list import Query, find

if TYPE_CHECKING:
    from ..app import Server

QUEUE_CHANGES = 8_192
"""What a reader may be behind; more is cheaper to list."""
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
        self._waiter: asyncio.Future[None] | None = None
        self._queue: list[tuple[str, Change]] = []
        self._after = 0
        self.bookmark_due = False
        self.ended = False
        name = selection.name
        resource = selection.resource
        # The commonest selector, one object by name, is decided without looking at the object.
        self._suffix = f"/{name}" if name else ""
        self._filtered = not (
            selection.everything
            or (bool(name) and selection.labels is None and len(selection.fields.equals) == 1)  # type: ignore[union-attr]
        )
        self._end = server.cache.watch(resource, namespace, self.push)
        self._namespace = namespace
        server.watchers.add(self)

    def replay(self, after: int) -> None:
        """Queue what happened behind revision `after`. Raises Compacted, FutureRevision."""
        history = self._server.cache.history(self.selection.resource, self._namespace, after)
        for change in history:
            self.push(change)

    def push(self, change: Change) -> None:
        if self._suffix and not change.key.endswith(self._suffix):
            return
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

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self) -> list[tuple[str, Change]]:
        """What is queued; waits until there is something, a bookmark is due, or it ended (then
        the list may be empty)."""
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
    watcher = Watcher(server, selection, namespace)
    try:
        if initial or not start:
            first: Iterable[Object] | None = _initial(server, selection, namespace)
        else:
            first = None
            watcher.replay(start)
    except Compacted as error:
        watcher.close()
        return _failed(request, Expired(f"too old resource version: {start} ({error.oldest - 1})"))
    except FutureRevision:
        watcher.close()
        raise too_large(start, server.store.revision) from None
    except BaseException:
        watcher.close()
        raise
    plan = _Plan(server, request, watcher, form, timeout_s)
    if first is not None:
        plan.first = first
        plan.ends_initial = initial
    chunks = plan.local_events() if request.local else plan.lines()
    media = YAML if form.media == YAML else "application/json"
    return Stream(chunks, content_type=f"{media};stream=watch" if media == YAML else media)


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


def _initial(server: Server, selection: Selection, namespace: str) -> list[Any]:
    """Records of the collection now; the watcher was subscribed in the same turn."""
    return list(find(server, selection, namespace, Query()).records)


def _failed(request: Request, error: errors.StatusError) -> Stream:
    """A watch that could not begin: upstream answers 200 and an ERROR event."""

    async def lines() -> AsyncIterator[Any]:
        if request.local:
            raise error
        yield dumps({"type": "ERROR", "object": error.status_object()}) + b"\n"

    return Stream(lines())


class _Plan:
    """How one watch is written out."""

    def __init__(
        self, server: Server, request: Request, watcher: Watcher, form: Form, timeout_s: float
    ) -> None:
        self.first: Iterable[Any] = ()
        self.ends_initial = False
        self._server = server
        self._watcher = watcher
        self._form = form
        self._resource = watcher.selection.resource
        self._view = watcher.selection.view
        self._bookmarks = request.param("allowWatchBookmarks") in TRUE
        self._timeout_s = timeout_s
        self._include = request.param("includeObject") or "Metadata"
        self._columns_sent = False

    async def _keep_time(self) -> None:
        """Wake the reader for bookmarks, and end the watch in time."""
        clock, watcher = self._server.clock, self._watcher
        end = clock.monotonic() + self._timeout_s
        while (left := end - clock.monotonic()) > 0:
            await clock.sleep(min(left, BOOKMARK_S * (1 + random.random() * 0.25)))
            if self._bookmarks:
                watcher.bookmark_due = True
                watcher.wake()
        watcher.close()

    async def _run(
        self,
        on_record: Callable[[Any], Any],
        on_change: Callable[[str, Change], Any],
        on_bookmark: Callable[[bool], Any],
    ) -> AsyncIterator[list[Any]]:
        watcher = self._watcher
        timer = asyncio.create_task(self._keep_time())
        try:
            part: list[Any] = []
            size = 0
            for record in self.first:
                part.append(on_record(record))
                size += len(record.value)
                if size > BATCH_BYTES:
                    yield part
                    part, size = [], 0
            self.first = ()
            if self.ends_initial and self._bookmarks:
                part.append(on_bookmark(True))
            if part:
                yield part
            while True:
                batch = await watcher.take()
                out = [on_change(kind, change) for kind, change in batch]
                self._server.metrics.watch_events += len(out)
                if watcher.bookmark_due:
                    watcher.bookmark_due = False
                    out.append(on_bookmark(False))
                if out:
                    yield out
                if watcher.ended and not batch:
                    return
        finally:
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
            lambda initial: WatchEvent("BOOKMARK", self._bookmark(initial)),
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
        finally:
            await batches.aclose()  # type: ignore[attr-defined]

    def _bookmark(self, initial: bool) -> Object:
        # Every change up to the store's revision has been queued, and the queue is written out.
        metadata: Object = {
            "resourceVersion": str(self._server.store.revision),
            "creationTimestamp": None,
        }
        if initial:
            metadata["annotations"] = {INITIAL_END: "true"}
        resource = self._resource
        return {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}

    def _bookmark_line(self, initial: bool) -> bytes:
        bookmark = self._bookmark(initial)
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
