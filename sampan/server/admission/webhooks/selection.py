"""Which webhooks a write goes to, beyond their rules: namespace and object selectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sampan.api.errors import not_found
from sampan.api.resources import resource

from ...exchange import Write

if TYPE_CHECKING:
    from sampan.api.selectors import Selector

    from ...app import Server


class Selecting(Protocol):
    """A webhook or a policy: what has both selectors."""

    @property
    def namespaces(self) -> Selector: ...

    @property
    def objects(self) -> Selector: ...


def selects(server: Server, write: Write, hook: Selecting) -> bool:
    """Do the namespace and object selectors pick this write? Raises NotFound for a namespace
    that is not there."""
    return _selects_namespace(server, write, hook) and _selects_object(write, hook)


def _selects_namespace(server: Server, write: Write, hook: Selecting) -> bool:
    selector, attributes = hook.namespaces, write.attributes
    target = attributes.resource
    assert target is not None
    of_namespaces = target.plural == "namespaces" and not target.group
    if selector.everything or not (attributes.namespace or of_namespaces):
        return True
    if of_namespaces and not attributes.subresource and write.operation in ("CREATE", "UPDATE"):
        labels = (write.obj.get("metadata") or {}).get("labels") or {}
    else:
        namespaces = resource("namespaces")
        found = server.find_object(namespaces, "", attributes.namespace)
        if found is None:
            raise not_found("", "namespaces", attributes.namespace)
        labels = found["metadata"].get("labels") or {}
    return bool(selector.matches(labels))


def _selects_object(write: Write, hook: Selecting) -> bool:
    selector = hook.objects
    if selector.everything:
        return True
    if write.operation == "CONNECT":
        # Options have no labels.
        return False
    return any(
        isinstance(obj.get("metadata"), dict)
        and selector.matches(obj["metadata"].get("labels") or {})
        for obj in (write.obj, write.old or {})
    )
