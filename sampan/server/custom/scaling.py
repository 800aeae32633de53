"""The scale subresource of custom resources: replicas are where the definition says (apiextensions-
apiserver registry/customresource/etcd)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sampan.api.descriptor import Descriptor
from sampan.api.errors import NotFound, Object, not_found

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


def custom_replicas(obj: Object, resource: Descriptor, *, unset: int | None) -> tuple[int, Object]:
    """(replicas wanted, status of the Scale). `unset` stands for what the object does not say;
    without it that is NotFound: upstream has an internal error for it."""
    from sampan.api.structural.jsonpath import at, dotted

    assert resource.custom is not None
    paths = resource.custom.scale
    assert paths is not None
    wanted = at(obj, dotted(paths.spec_replicas))
    if wanted is None:
        wanted = unset
    if wanted is None:
        raise NotFound(f'the spec replicas field "{paths.spec_replicas}" does not exist')
    status: Object = {"replicas": _whole(at(obj, dotted(paths.status_replicas)))}
    selector = at(obj, dotted(paths.selector)) if paths.selector else None
    if isinstance(selector, str) and selector:
        status["selector"] = selector
    return _whole(wanted), status


def _whole(value: Any) -> int:
    """A number of replicas; what is none was refused when it was written."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def with_custom_replicas(obj: Object, resource: Descriptor, replicas: int) -> Object:
    """`obj`, which is private, with its replicas set."""
    from sampan.api.structural.jsonpath import dotted

    assert resource.custom is not None
    assert resource.custom.scale is not None
    *parents, last = dotted(resource.custom.scale.spec_replicas)
    inner = obj
    for name in parents:
        found = inner.get(name)
        if not isinstance(found, dict):
            found = inner[name] = {}
        inner = found
    inner[last] = replicas
    return obj
