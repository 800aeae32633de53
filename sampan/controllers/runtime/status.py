"""Writes what a controller has found into the status of its object."""

from __future__ import annotations

from sampan.api.descriptor import Descriptor
from sampan.api.errors import NotFound, Object
from sampan.client.api import Client


async def write_status(
    client: Client,
    resource: Descriptor,
    known: Object,
    status: Object,
    *,
    metadata: Object | None = None,
) -> Object | None:
    """The object with this status, written if it differs from the one `known` has; None if there
    is no such object any more. With `metadata`, the write carries that, too, and is made anyway.

    Guarded by the version of `known`: raises Conflict, and what else the client raises."""
    body = {**known, "status": status}
    if metadata is not None:
        body["metadata"] = metadata
    elif status == (known.get("status") or {}):
        return known
    try:
        return await client.update(resource, body, "status")
    except NotFound:
        return None
