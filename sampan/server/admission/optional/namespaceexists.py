"""NamespaceExists: nothing is written in a namespace that is not there; also deletions, which
NamespaceLifecycle lets pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.errors import not_found
from sampan.api.resources import resource

from ...exchange import Write
from ..configuration import Settings
from ..plugin import EVERYTHING, Plugin

if TYPE_CHECKING:
    from ...app import Server


def validate(server: Server, write: Write) -> None:
    target, namespace = write.attributes.resource, write.attributes.namespace
    if not namespace or (target is not None and target.kind == "Namespace" and not target.group):
        return
    if server.find_object(resource("namespaces"), "", namespace) is None:
        raise not_found("", "namespaces", namespace)


def make(settings: Settings) -> Plugin:
    """It has no configuration."""
    return Plugin(settings.name, {EVERYTHING: ("CREATE", "UPDATE", "DELETE")}, validate=validate)
