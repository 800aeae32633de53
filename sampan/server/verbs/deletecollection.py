"""deletecollection: delete everything a list would show, one object at a time.

The answer is that list, as it was, as upstream's.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from sampan.api import errors
from sampan.api.errors import Object
from sampan.store.interface import Compacted

from ..body import read_value
from ..deleteoptions import delete_options
from ..exchange import Attributes, Request, Response
from ..listoptions import list_options, revision_of
from ..options import WriteOptions
from ..routes import method_not_allowed
from ..selection import selection_of
from ..writing import Context
from .delete import delete
from .list import Query, expired, find

if TYPE_CHECKING:
    from ..app import Server

WORKERS = 64
"""Deletions under way at once: enough to share a commit, few enough to let others in between."""


async def handle(server: Server, request: Request, attributes: Attributes) -> Response:
    resource = attributes.resource
    assert resource is not None
    if resource.namespaced and not attributes.namespace:
        raise method_not_allowed()
    options = delete_options(request, read_value(request) if request.body else None)
    asked = list_options(request)
    selection = selection_of(request, resource)
    prefix = selection.resource.prefix(attributes.namespace)
    revision, after = revision_of(server, asked, prefix)
    try:
        page = find(server, selection, attributes.namespace, Query(asked.limit, after, revision))
    except Compacted:
        raise expired(asked.token, after, prefix) from None
    objects = [server.cache.peek(record) for record in page.records]

    async def delete_one(obj: Object) -> None:
        name = obj["metadata"]["name"]
        target = Attributes(
            attributes.user, "deletecollection", resource, "", attributes.namespace, name,
            attributes.path,
        )  # fmt: skip
        context = Context(server, target, resource, WriteOptions(dry_run=options.dry_run))
        with suppress(errors.NotFound):
            await delete(context, name, options)

    for start in range(0, len(objects), WORKERS):
        await asyncio.gather(*map(delete_one, objects[start : start + WORKERS]))
    view = selection.view
    answer = {
        "kind": resource.list_kind,
        "apiVersion": resource.api_version,
        "metadata": {"resourceVersion": str(server.store.revision)},
        "items": objects if view is None else list(map(view.from_hub, objects)),
    }
    return Response(200, obj=answer)
