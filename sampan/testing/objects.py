"""Objects by kind and name, for tests: over any transport, with what discovery says of kinds.

A kind is named as kubectl does: "pod", "pods", "po", "deployments.apps", "widgets.example.com".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from msgspec import Struct

from sampan.api.errors import BadRequest, Expired, Gone, NotFound, Object
from sampan.client.interface import APPLY_PATCH, MERGE_PATCH, Transport

WAIT_S = 10.0
"""How long `wait` waits unless told otherwise: everything here takes milliseconds."""
MANAGER = "sampan-testing"


class UnknownKind(LookupError):
    """No such resource is served."""


class Kind(Struct, frozen=True):
    """One served resource, as discovery tells it."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    names: frozenset[str]
    """Everything it may be called, lower case."""

    def path(self, namespace: str, name: str = "") -> str:
        base = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        where = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{base}{where}/{self.plural}" + (f"/{name}" if name else "")


class Objects:
    """What tests do with objects. All methods raise `sampan.api.errors.StatusError`s."""

    def __init__(self, transport: Transport, namespace: str = "default") -> None:
        self._transport = transport
        self.namespace = namespace
        self._kinds: Sequence[Kind] = ()

    async def apply(
        self, manifest: str | Path | Object | list[Object], *, force: bool = True
    ) -> list[Object]:
        """Server-side apply of a manifest: a path, YAML text (documents), an object, or several.

        Custom resources may follow their definition in the same manifest."""
        return [await self._apply(item, force) for item in objects_of(manifest)]

    async def _apply(self, obj: Object, force: bool) -> Object:
        kind = await self._kind_of(obj)
        namespace = _field(obj, "metadata").get("namespace") or self.namespace
        query = {"fieldManager": MANAGER, "force": "true" if force else "false"}
        return await self._transport.request(
            "PATCH",
            kind.path(namespace, _field(obj["metadata"], "name")),
            query=query,
            body=obj,
            content_type=APPLY_PATCH,
        )

    async def create(self, obj: Object) -> Object:
        kind = await self._kind_of(obj)
        namespace = _field(obj, "metadata").get("namespace") or self.namespace
        return await self._transport.request("POST", kind.path(namespace), body=obj)

    async def get(self, kind: str, name: str, namespace: str = "") -> Object:
        found = await self.kind(kind)
        return await self._transport.request("GET", found.path(namespace or self.namespace, name))

    async def find(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """The object, or None if there is none."""
        try:
            return await self.get(kind, name, namespace)
        except NotFound:
            return None

    async def list(
        self,
        kind: str,
        namespace: str = "",
        *,
        labels: str | Mapping[str, str] = "",
        fields: str = "",
    ) -> list[Object]:
        """Objects of one namespace ("*": of all), each with its kind. `labels` is a selector as
        kubectl's -l has it, or the labels themselves."""
        found = await self.kind(kind)
        where = "" if namespace == "*" else namespace or self.namespace
        query = {"labelSelector": _selector(labels), "fieldSelector": fields}
        answer = await self._transport.request(
            "GET", found.path(where), query={key: value for key, value in query.items() if value}
        )
        return [*answer["items"]]

    async def patch(
        self, kind: str, name: str, patch: Any, namespace: str = "", *, subresource: str = ""
    ) -> Object:
        """A JSON merge patch."""
        found = await self.kind(kind)
        path = found.path(namespace or self.namespace, name)
        if subresource:
            path += f"/{subresource}"
        return await self._transport.request("PATCH", path, body=patch, content_type=MERGE_PATCH)

    async def delete(
        self, kind: str, name: str, namespace: str = "", *, options: Object | None = None
    ) -> Object:
        found = await self.kind(kind)
        path = found.path(namespace or self.namespace, name)
        return await self._transport.request("DELETE", path, body=options)

    async def wait(
        self,
        kind: str,
        name: str,
        until: Callable[[Object | None], Any],
        namespace: str = "",
        *,
        timeout_s: float = WAIT_S,
    ) -> Object | None:
        """Watch one object until `until(object)` is true; it gets None while there is no such
        object. Raises TimeoutError, which tells the object's last state."""
        found = await self.kind(kind)
        last: Object | None = None
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    async for last in self._states(found, name, namespace or self.namespace):
                        if until(last):
                            return last
        except TimeoutError:
            raise TimeoutError(f"{kind} {name} after {timeout_s} s is {last}") from None

    async def _states(self, kind: Kind, name: str, namespace: str) -> Any:
        query = {"fieldSelector": f"metadata.name={name}"}
        path = kind.path(namespace)
        listed = await self._transport.request("GET", path, query=query)
        yield listed["items"][0] if listed["items"] else None
        version = listed["metadata"]["resourceVersion"]
        try:
            async with aclosing(
                self._transport.watch(path, {**query, "resourceVersion": version})  # type: ignore[type-var]
            ) as events:
                async for event in events:
                    if event.type in ("ADDED", "MODIFIED"):
                        yield event.object
                    elif event.type == "DELETED":
                        yield None
        except (Expired, Gone):
            return

    # Kinds

    async def kind(self, name: str) -> Kind:
        """The resource that `name` means; the first in discovery's order. Raises UnknownKind."""
        wanted = name.lower()
        for fresh in (False, True):
            for kind in await self._discover(fresh):
                if wanted in kind.names:
                    return kind
        raise UnknownKind(f"the server doesn't have a resource type {name!r}")

    async def _kind_of(self, obj: Object) -> Kind:
        api, name = _field(obj, "apiVersion"), _field(obj, "kind")
        group, _, version = api.rpartition("/")
        for fresh in (False, True):
            for kind in await self._discover(fresh):
                if (kind.group, kind.version, kind.kind) == (group, version, name):
                    return kind
        raise UnknownKind(f'no matches for kind "{name}" in version "{api}"')

    async def _discover(self, fresh: bool) -> Sequence[Kind]:
        if fresh or not self._kinds:
            core = await self._transport.request("GET", "/api/v1")
            groups = await self._transport.request("GET", "/apis")
            lists = [core]
            for group in groups["groups"]:
                # The preferred version first: a plural alone means it.
                first = group["preferredVersion"]
                for item in (first, *(other for other in group["versions"] if other != first)):
                    lists.append(
                        await self._transport.request("GET", f"/apis/{item['groupVersion']}")
                    )
            self._kinds = [kind for item in lists for kind in kinds_of(item)]
        return self._kinds


def kinds_of(listed: Mapping[str, Any]) -> Iterator[Kind]:
    """The kinds of an APIResourceList."""
    group, _, version = listed["groupVersion"].rpartition("/")
    for item in listed["resources"]:
        if "/" in item["name"]:
            continue
        short = {item["name"], item["kind"], item.get("singularName") or item["kind"]}
        short |= {*(item.get("shortNames") or ())}
        names = {name.lower() for name in short}
        names |= {f"{name}.{group}" for name in tuple(names) if group}
        names |= {f"{item['name']}.{version}.{group}"}
        yield Kind(group, version, item["name"], item["kind"], item["namespaced"], frozenset(names))


def objects_of(manifest: str | Path | Object | list[Object]) -> list[Object]:
    """The objects of a manifest; Lists are taken apart. Raises the API's BadRequest for YAML that
    is none."""
    if isinstance(manifest, Path):
        manifest = manifest.read_text()
    if isinstance(manifest, str):
        import yaml

        try:
            documents = [*yaml.load_all(manifest, Loader=yaml.CSafeLoader)]
        except yaml.YAMLError as error:
            raise BadRequest(f"error parsing the manifest: {error}") from None
        if any(isinstance(item, str) for item in documents):
            raise BadRequest(f"no manifest, but a text; is it a path? Path({manifest!r})")
        return [obj for item in documents if item for obj in objects_of(item)]
    if isinstance(manifest, list):
        return [obj for item in manifest for obj in objects_of(item)]
    if str(_field(manifest, "kind")).endswith("List") and "items" in manifest:
        return objects_of(manifest["items"])
    return [manifest]


def _field(obj: Any, name: str) -> Any:
    """A field that every object has. Raises BadRequest."""
    value = obj.get(name) if isinstance(obj, Mapping) else None
    if not value:
        raise BadRequest(f"no {name} in {obj!r}")
    return value


def _selector(labels: str | Mapping[str, str]) -> str:
    if isinstance(labels, str):
        return labels
    return ",".join(f"{name}={value}" for name, value in labels.items())


__all__ = ["Kind", "Objects", "UnknownKind", "kinds_of", "objects_of"]
