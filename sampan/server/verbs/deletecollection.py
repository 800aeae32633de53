"""deletecollection: delete everything a list would show, one object at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sampan.api import errors
from sampan.api.errors import Object

from ..body import read_value
from ..exchange import Attributes, Request, Response
from ..options import WriteOptions, delete_options
from ..routes import method_not_allowed
from ..selection import selection_of
from ..writing import Context
from .delete import delete

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
    selection = selection_of(request, resource)
    objects = [
        obj for obj in server.list_objects(resource, attributes.namespace) if selection.matches(obj)
    ]

    async def delete_one(obj: Object) -> Object | None:
        name = obj["metadata"]["name"]
        target = Attributes(
            attributes.user, "deletecollection", resource, "", attributes.namespace, name,
            attributes.path,
        )  # fmt: skip
        context = Context(server, target, resource, WriteOptions(dry_run=options.dry_run))
        try:
            return (await delete(context, name, options)).obj
        except errors.NotFound:
            return None

    gone: list[Object] = []
    for start in range(0, len(objects), WORKERS):
        batch = await asyncio.gather(*map(delete_one, objects[start : start + WORKERS]))
        gone.extend(obj for obj in batch if obj is not None)
    answer = {
        "kind": resource.list_kind,
        "apiVersion": resource.api_version,
        "metadata": {"resourceVersion": str(server.store.revision)},
        "items": gone,
    }
    return Response(200, obj=answer)
