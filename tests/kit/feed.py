"""An API server in a dict: enough for components that list, watch and write a few objects.

No validation, no admission, no selectors; versions count up, watches start from any version. Use it
where a component's behaviour is the subject and the real server would only be slower.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from sampan.api.errors import Object, already_exists, conflict, not_found
from sampan.client.interface import JSON, WatchEvent


class Feed:
    """A `Transport`. Paths are collections ("/api/v1/services") and objects below them."""

    def __init__(self) -> None:
        self._objects: dict[str, Object] = {}
        self._log: list[tuple[int, str, WatchEvent]] = []
        self._revision = 0
        self._news = asyncio.Condition()

    async def put(self, path: str, obj: Object) -> Object:
        """Create or replace the object at `path`."""
        self._revision += 1
        meta = {"uid": path, **obj["metadata"], "resourceVersion": str(self._revision)}
        stored = {**obj, "metadata": meta}
        event = "MODIFIED" if path in self._objects else "ADDED"
        self._objects[path] = stored
        await self._tell(path, event, stored)
        return stored

    async def remove(self, path: str) -> None:
        obj = self._objects.pop(path)
        self._revision += 1
        meta = {**obj["metadata"], "resourceVersion": str(self._revision)}
        await self._tell(path, "DELETED", {**obj, "metadata": meta})

    def get(self, path: str) -> Object | None:
        return self._objects.get(path)

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON,
    ) -> Object:
        if method == "POST":
            path = f"{path}/{body['metadata']['name']}"
            if path in self._objects:
                raise already_exists("", path.split("/")[-2], path.split("/")[-1])
            return await self.put(path, body)
        if method == "GET" and path.split("/")[-2] in ("v1", *_namespace_of(path)):
            items = [obj for key, obj in self._objects.items() if _within(key, path)]
            return {"metadata": {"resourceVersion": str(self._revision)}, "items": items}
        old = self._objects.get(path)
        if old is None:
            raise not_found("", path.split("/")[-2], path.split("/")[-1])
        if method == "PUT":
            version = body["metadata"].get("resourceVersion")
            if version and version != old["metadata"]["resourceVersion"]:
                raise conflict("", path.split("/")[-2], path.split("/")[-1], "it has changed")
            return await self.put(path, body)
        if method == "DELETE":
            await self.remove(path)
        return old

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[WatchEvent]:
        seen = int(query["resourceVersion"])
        while True:
            news = [
                (rev, event) for rev, key, event in self._log if rev > seen and _within(key, path)
            ]
            for revision, event in news:
                seen = revision
                yield event
            if not news:
                async with self._news:
                    await self._news.wait()

    async def close(self) -> None:
        pass

    async def _tell(self, path: str, event: str, obj: Object) -> None:
        self._log.append((self._revision, path, WatchEvent(event, obj)))
        async with self._news:
            self._news.notify_all()


def _namespace_of(path: str) -> tuple[str, ...]:
    parts = path.split("/")
    return (parts[parts.index("namespaces") + 1],) if "namespaces" in parts[:-1] else ()


def _within(key: str, collection: str) -> bool:
    """Whether the object at `key` belongs to a collection, of one namespace or of all."""
    if not collection.endswith("/namespaces") and (
        "/namespaces/" not in collection and "/namespaces/" in key
    ):
        root, _, rest = key.partition("/namespaces/")
        key = f"{root}/{rest.partition('/')[2]}"
    return key.rpartition("/")[0] == collection
