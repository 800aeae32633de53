"""Objects of custom resources for those who look at one without writing it: its Scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object, not_found

if TYPE_CHECKING:
    from ..app import Server


async def stored_object(server: Server, resource: Descriptor, namespace: str, name: str) -> Object:
    """The object as the resource's version has it, shared. Raises NotFound, InternalError."""
    if resource.custom is None:
        return server.get_object(resource, namespace, name)
    record = server.store.get(resource.key(namespace, name))
    if record is None:
        raise not_found(resource.group, resource.plural, name)
    opened: tuple[Object, Object] = await resource.custom.codec.opened(record)
    return opened[0]
