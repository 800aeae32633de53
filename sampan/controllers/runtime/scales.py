"""What can be scaled: resources by the kind that a reference names, and their Scale.

Built-in kinds are known by the schema, custom ones by their definitions, which are followed.
"""

from __future__ import annotations

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object
from sampan.client.api import Client
from sampan.client.informer import Informer

from .collections import owners
from .custom import custom_resource, definitions_resource, follow_custom

SCALE = "scale"


class NoKindError(LookupError):
    """No resource is of the kind; the text is that of upstream's mapper."""


class Scales:
    """Reads and writes the scale of any object."""

    def __init__(self, client: Client, definitions: Informer) -> None:
        """`definitions` are the custom resources' own, of `definitions_resource()`."""
        self._client = client
        self._definitions = definitions
        self._custom: dict[tuple[str, str], Descriptor] = {}
        follow_custom(definitions, self._add, self._remove)

    def _add(self, resource: Descriptor) -> None:
        self._custom[resource.group, resource.kind] = resource

    def _remove(self, resource: Descriptor) -> None:
        self._custom.pop((resource.group, resource.kind), None)

    def resource(self, api_version: str, kind: str) -> Descriptor:
        """The resource a reference speaks of, whatever its version. Raises NoKindError."""
        group, _, _ = api_version.rpartition("/")
        found = owners().get((group, kind)) or self._custom.get((group, kind))
        if found is None:
            raise NoKindError(f'no matches for kind "{kind}" in group "{group}"')
        return found

    def is_scalable(self, resource: Descriptor) -> bool:
        """Has it the subresource at all?"""
        if (resource.group, resource.kind) not in self._custom:
            return SCALE in resource.subresources
        definition = self._definitions.get("", f"{resource.plural}.{resource.group}")
        if definition is None or custom_resource(definition) is None:
            return False
        return any(
            SCALE in (version.get("subresources") or {})
            for version in definition["spec"]["versions"]
            if version["name"] == resource.version
        )

    async def get(self, resource: Descriptor, namespace: str, name: str) -> Object:
        """The Scale. Raises what the client raises."""
        return await self._client.get(resource, name, namespace, SCALE)

    async def update(self, resource: Descriptor, scale: Object, replicas: int) -> Object:
        """Write the Scale that was read with another number of replicas, guarded by its version.
        Raises what the client raises."""
        body = {**scale, "spec": {"replicas": replicas}}
        return await self._client.update(resource, body, SCALE)


def replicas_of(scale: Object) -> int:
    """How many a Scale asks for (zero is left out of it)."""
    return int((scale.get("spec") or {}).get("replicas") or 0)


__all__ = ["NoKindError", "Scales", "definitions_resource", "replicas_of"]
