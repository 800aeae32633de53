"""list: a collection as of one revision, whole or in pages.

A page names the revision of the first one in its continue token, so that all pages show the same
moment; when that moment is compacted the client gets 410 with a token to go on inconsistently.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct
from orjson import dumps

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Expired, Object
from sampan.store.interface import Compacted, Record
from sampan.wire.json import splice_version

from .. import table
from ..answer import encode
from ..conversion import View
from ..exchange import Attributes, Request, Response
from ..listoptions import NO_OPTIONS, list_options, make_token, revision_of
from ..negotiate import PLAIN, Form, form_of
from ..pages import Asked, Made
from ..selection import Selection, selection_of

if TYPE_CHECKING:
    from ..app import Server

PAGE = 500
"""Records read at a time when a selector has to look at each."""

TOO_OLD_LIST = "The resourceVersion for the provided list is too old."
TOO_OLD_TOKEN = (
    "The provided continue parameter is too old to display a consistent list result. You can "
    "start a new list without the continue parameter, or use the continue token in this response "
    "to retrieve the remainder of the results. Continuing with the provided token results in an "
    "inconsistent list - objects that were created, modified, or deleted between the time the "
    "first chunk was returned and now may show up in the list."
)


class Page(NamedTuple):
    """What a list found."""

    records: Sequence[Record]
    revision: int
    token: str = ""
    remaining: int | None = None


class Query(Struct, frozen=True):
    """The paging parameters of a list."""

    limit: int = 0
    after: str = ""
    """Storage key the page begins behind."""
    revision: int = 0
    """0 is now."""


NOW = Query()


def handle(server: Server, request: Request, attributes: Attributes) -> Response:
    resource = attributes.resource
    assert resource is not None
    namespace = attributes.namespace
    selection = selection_of(request, resource)
    query = _query(server, request, resource.prefix(namespace))
    form = PLAIN if request.local else form_of(request.headers.get("accept", ""))
    if selection.whole and form.plain and not query.revision and not request.local:
        return Response(200, _whole(server, resource, namespace, query))
    try:
        page = find(server, selection, namespace, query)
    except Compacted:
        raise expired(request.param("continue"), query.after, resource.prefix(namespace)) from None
    view = selection.view
    if request.local:
        return Response(200, obj=_decoded(server, resource, page, view))
    if form.plain and view is None:
        return Response(200, _enclosed(resource, page, _joined(page.records)))
    return _converted(server, request, selection, page, form)


def find(server: Server, selection: Selection, namespace: str, query: Query) -> Page:
    """The records a selection picks, in key order. Raises Compacted."""
    store, prefix = server.store, selection.resource.prefix(namespace)
    if selection.everything:
        found = store.range(prefix, after=query.after, limit=query.limit, revision=query.revision)
        if not found.more:
            return Page(found.records, found.revision)
        token = make_token(found.revision, found.records[-1].key, prefix)
        return Page(found.records, found.revision, token, found.remaining)
    if not query.revision:
        keys = selection.candidates(server.cache, namespace)
        if keys is not None:
            return _pick(server, selection, keys, query, prefix)
    return _scan(server, selection, prefix, query)


def _pick(server: Server, selection: Selection, keys: list[str], query: Query, prefix: str) -> Page:
    store, cache = server.store, server.cache
    picked: list[Record] = []
    for key in keys:
        record = store.get(key)
        if record is None or key <= query.after or not selection.matches(cache.decode(record)):
            continue
        if query.limit and len(picked) == query.limit:
            token = make_token(store.revision, picked[-1].key, prefix)
            return Page(picked, store.revision, token)
        picked.append(record)
    return Page(picked, store.revision)


def _scan(server: Server, selection: Selection, prefix: str, query: Query) -> Page:
    store, cache = server.store, server.cache
    picked: list[Record] = []
    after, revision = query.after, query.revision
    while True:
        found = store.range(prefix, after=after, limit=PAGE, revision=revision)
        # Every part is of the first part's moment; nothing else runs in between when it is now.
        for record in found.records:
            if selection.matches(cache.peek(record)):
                if query.limit and len(picked) == query.limit:
                    token = make_token(found.revision, picked[-1].key, prefix)
                    return Page(picked, found.revision, token)
                picked.append(record)
        if not found.more:
            return Page(picked, found.revision)
        after = found.records[-1].key


def _query(server: Server, request: Request, prefix: str) -> Query:
    options = list_options(request)
    if options is NO_OPTIONS:
        return NOW
    revision, after = revision_of(server, options, prefix)
    # A negative limit is none, as upstream; so is any of a list that may be of whatever version,
    # which upstream's watch cache gives whole: some of its clients count on that.
    limit = 0 if options.version == "0" and not options.token else max(options.limit, 0)
    return Query(limit, after, revision)


def expired(token: str, after: str, prefix: str) -> Expired:
    """What to say when the moment asked for is compacted; whoever has the `token` of a page gets
    one to go on with, behind key `after`."""
    if not token:
        return Expired(TOO_OLD_LIST)
    error = Expired(TOO_OLD_TOKEN)
    error.continue_token = make_token(-1, after, prefix)  # type: ignore[attr-defined]
    return error


def _metadata(page: Page) -> Object:
    metadata: Object = {"resourceVersion": str(page.revision)}
    if page.token:
        metadata["continue"] = page.token
        if page.remaining:
            metadata["remainingItemCount"] = page.remaining
    return metadata


def _whole(server: Server, resource: Descriptor, namespace: str, query: Query) -> bytes:
    """A page of a whole collection as it is now, from its stored bytes."""
    prefix = resource.prefix(namespace)
    changed = server.cache.collection(resource).changed
    asked = Asked(prefix, query.after, query.limit)
    made = server.pages.find(asked, changed)
    if made is None:
        found = server.store.range(prefix, after=query.after, limit=query.limit)
        last_key = found.records[-1].key if found.more else ""
        made = Made(changed, _joined(found.records), last_key, found.remaining)
        server.pages.keep(asked, made)
    revision = server.store.revision
    token = make_token(revision, made.last_key, prefix) if made.last_key else ""
    return _enclosed(resource, Page((), revision, token, made.remaining), made.items)


def _joined(records: Sequence[Record]) -> bytes:
    return b",".join([splice_version(record.value, record.modified) for record in records])


def _enclosed(resource: Descriptor, page: Page, items: bytes) -> bytes:
    head = dumps(
        {
            "kind": resource.list_kind,
            "apiVersion": resource.api_version,
            "metadata": _metadata(page),
            "items": [],
        }
    )
    return b"%b%b]}" % (head[:-2], items)


def _decoded(server: Server, resource: Descriptor, page: Page, view: View | None) -> Object:
    objects = [server.cache.decode(record) for record in page.records]
    return {
        "kind": resource.list_kind,
        "apiVersion": resource.api_version,
        "metadata": _metadata(page),
        "items": objects if view is None else list(map(view.from_hub, objects)),
    }


def _converted(
    server: Server, request: Request, selection: Selection, page: Page, form: Form
) -> Response:
    resource, view = selection.resource, selection.view
    objects: Iterable[Object] = map(server.cache.peek, page.records)
    if view is not None:
        objects = map(view.from_hub, objects)
    if form.convert == "Table":
        include = table.include_of(request.param("includeObject"))
        answer = table.table_of(resource, objects, form.version, include, server.clock.now())
        answer["metadata"] = _metadata(page)
    elif form.partial:
        answer = table.partial_list_of(objects, form.version, _metadata(page))
    else:
        answer = _decoded(server, resource, page, view)
    return encode(answer, form)
