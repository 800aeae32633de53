"""NamespaceAutoProvision: a namespace is made when something is created in it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from sampan.api.errors import AlreadyExists, StatusError
from sampan.api.principals import AUTHENTICATED, MASTERS
from sampan.api.resources import resource

from ...exchange import User, Write
from ..configuration import Settings
from ..plugin import EVERYTHING, Plugin, refuse

if TYPE_CHECKING:
    from ...app import Server

SELF = User("system:apiserver", (MASTERS, AUTHENTICATED))


def mutate(server: Server, write: Write) -> Awaitable[None] | None:
    target, namespace = write.attributes.resource, write.attributes.namespace
    if write.dry_run or not namespace or target is None:
        return None
    if target.kind == "Namespace" and not target.group:
        return None
    if server.find_object(resource("namespaces"), "", namespace) is not None:
        return None
    return _make(server, write, namespace)


async def _make(server: Server, write: Write, name: str) -> None:
    from sampan.client.api import Client

    try:
        client = Client(server.local_transport(SELF))
        await client.create(resource("namespaces"), {"metadata": {"name": name}})
    except AlreadyExists:
        return
    except StatusError as error:
        raise refuse(write, error.message) from None


def make(settings: Settings) -> Plugin:
    """It has no configuration."""
    return Plugin(settings.name, {EVERYTHING: ("CREATE",)}, mutate)
