"""The client every component uses: verbs over descriptors, on any transport."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from msgspec import Struct

from sampan.api.descriptor import ApiResource
from sampan.api.errors import Object

from .interface import JSON, MERGE_PATCH, Transport, WatchEvent


class Client(Struct, frozen=True):
    """Verbs over a transport. All raise `api.errors.StatusError` kin; none retries."""

    transport: Transport

    async def get(
        self, resource: ApiResource, name: str, namespace: str = "", subresource: str = ""
    ) -> Object:
        return await self.transport.request("GET", resource.path(namespace, name, subresource))

    async def list(
        self, resource: ApiResource, namespace: str = "", query: Mapping[str, str] | None = None
    ) -> Object:
        """The List object; its items are in the key order of the store."""
        return await self.transport.request("GET", resource.path(namespace), query=query)

    def watch(
        self, resource: ApiResource, namespace: str = "", query: Mapping[str, str] | None = None
    ) -> AsyncIterator[WatchEvent]:
        return self.transport.watch(resource.path(namespace), query or {})

    async def create(
        self,
        resource: ApiResource,
        body: Object,
        namespace: str = "",
        name: str = "",
        subresource: str = "",
    ) -> Object:
        """POST to the collection, or (with name and subresource) to e.g. pods/x/binding."""
        path = resource.path(namespace, name, subresource)
        return await self.transport.request("POST", path, body=body)

    async def update(self, resource: ApiResource, body: Object, subresource: str = "") -> Object:
        """PUT: the resourceVersion in `body` guards it."""
        meta = body["metadata"]
        path = resource.path(meta.get("namespace", ""), meta["name"], subresource)
        return await self.transport.request("PUT", path, body=body, content_type=JSON)

    async def patch(
        self,
        resource: ApiResource,
        name: str,
        body: Any,
        namespace: str = "",
        subresource: str = "",
        *,
        content_type: str = MERGE_PATCH,
    ) -> Object:
        path = resource.path(namespace, name, subresource)
        return await self.transport.request("PATCH", path, body=body, content_type=content_type)

    async def delete(
        self, resource: ApiResource, name: str, namespace: str = "", options: Object | None = None
    ) -> Object:
        """DELETE with DeleteOptions (preconditions, gracePeriodSeconds, propagationPolicy)."""
        path = resource.path(namespace, name)
        return await self.transport.request("DELETE", path, body=options)

    async def delete_collection(
        self, resource: ApiResource, namespace: str = "", query: Mapping[str, str] | None = None
    ) -> Object:
        """DELETE of every object of a collection that the query's selectors match."""
        return await self.transport.request("DELETE", resource.path(namespace), query=query)
