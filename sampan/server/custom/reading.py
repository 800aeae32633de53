"""Reads of a version that a webhook makes of what is stored: first converted, then read as ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sampan.api.errors import InternalError, Object

from ..conversion import view_of
from ..exchange import Answer, Attributes, Request
from .webhook import Unconverted

if TYPE_CHECKING:
    from ..app import Server

RETRIES = 10_000
"""Objects of the past a read may come upon, each converted by a call of its own."""

Read = Callable[["Server", Request, Attributes], Answer]


async def read_prepared(
    server: Server, request: Request, attributes: Attributes, read: Read
) -> Answer:
    """Convert what a read will see, then read. Raises StatusErrors."""
    resource = attributes.resource
    assert resource is not None
    view = view_of(resource)
    if view is None or view.prepare is None:
        return read(server, request, attributes)

    def objects() -> list[Object]:
        if attributes.verb == "get":
            record = server.store.get(resource.key(attributes.namespace, attributes.name))
            return [] if record is None else [server.cache.peek(record)]
        namespace = attributes.namespace if resource.namespaced else ""
        records = server.store.range(resource.prefix(namespace)).records
        return [server.cache.peek(record) for record in records]

    if attributes.verb != "watch":
        await view.prepare(objects)
    for _ in range(RETRIES):
        try:
            return read(server, request, attributes)
        except Unconverted as missing:
            # A list of an older moment: objects as they were then.
            past = missing.obj
            await view.prepare(lambda past=past: [past])  # type: ignore[misc]
    raise InternalError("too many objects to convert")
