"""The descriptors of a definition, with as much of the previous ones as still holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object

from .codec import Storage
from .resource import decoder, descriptors_of

if TYPE_CHECKING:
    from ..app import Server


def build(server: Server, definition: Object, before: list[Descriptor]) -> list[Descriptor]:
    """Descriptors of all versions of an established definition."""
    spec = definition["spec"]
    names = definition["status"]["acceptedNames"]
    versions = spec["versions"]
    stored = next(item["name"] for item in versions if item.get("storage"))
    storage = Storage(
        server,
        f"/registry/{spec['group']}/{names['plural']}/",
        f"{spec['group']}/{stored}",
        uniform=all(item.get("schema") == versions[0].get("schema") for item in versions),
        webhook=_webhook(server, definition),
    )
    return descriptors_of(definition, storage, decoder)


def _webhook(server: Server, definition: Object) -> object:
    conversion = definition["spec"].get("conversion") or {}
    if conversion.get("strategy") != "Webhook" or len(definition["spec"]["versions"]) == 1:
        return None
    from .webhook import Webhook

    return Webhook(server, definition)
