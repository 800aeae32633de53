"""An API server of a few lines for tests of the node agent: a `Transport` over a dict.

It knows what the agent relies on: watches with field selectors, strategic merge of conditions,
uid preconditions, graceful deletion. The real server is tested elsewhere.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import AsyncIterator, Mapping
from typing import Any

from sampan.api.errors import AlreadyExists, Conflict, NotFound, Object
from sampan.client.interface import JSON, WatchEvent

NAMESPACED = {
    "pods", "services", "configmaps", "secrets", "events", "leases", "serviceaccounts",
    "persistentvolumeclaims",
}  # fmt: skip


class FakeApi:
    """The objects by path; `patches` and `deletes` are what clients asked for, in order."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.patches: list[tuple[str, Any]] = []
        self.deletes: list[tuple[str, Any]] = []
        self.tokens = 0
        self._revision = itertools.count(1)
        self._last = 0
        self._made: dict[str, int] = {}
        self._watchers: list[tuple[str, dict[str, str], asyncio.Queue[WatchEvent]]] = []

    # For tests

    def put(self, path: str, obj: Object) -> Object:
        """Create or replace, whatever is there."""
        old = self.objects.get(path)
        obj = copy.deepcopy(obj)
        meta = obj.setdefault("metadata", {})
        meta.setdefault("name", path.rpartition("/")[2])
        if "/namespaces/" in path:
            meta.setdefault("namespace", path.split("/namespaces/")[1].split("/")[0])
        meta.setdefault("uid", f"uid-{meta['name']}")
        self._last = next(self._revision)
        meta["resourceVersion"] = str(self._last)
        self.objects[path] = obj
        self._tell("ADDED" if old is None else "MODIFIED", path, obj)
        return obj

    def remove(self, path: str) -> None:
        obj = copy.deepcopy(self.objects.pop(path))
        self._last = next(self._revision)
        obj["metadata"]["resourceVersion"] = str(self._last)
        self._tell("DELETED", path, obj)

    def events(self) -> list[tuple[str, str, str]]:
        """(type, reason, message) of every Event, in order."""
        return [
            (obj["type"], obj["reason"], obj["message"])
            for path, obj in self.objects.items()
            if "/events/" in path
        ]

    # The transport

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON,
    ) -> Object:
        await asyncio.sleep(0)
        if method == "GET":
            return self._get(path, dict(query or {}))
        if method == "POST":
            return self._post(path, body)
        if method == "PATCH":
            return self._patch(path, body)
        if method == "PUT":
            return self._put(path, body)
        assert method == "DELETE"
        return self._delete(path, body)

    def _get(self, path: str, query: dict[str, str]) -> Object:
        if _is_collection(path):
            items = [obj for key, obj in self.objects.items() if _selects(path, query, key, obj)]
            return {"metadata": {"resourceVersion": str(self._last)}, "items": items}
        if path not in self.objects:
            raise NotFound(f"{path} not found")
        return self.objects[path]

    def _post(self, path: str, body: Any) -> Object:
        if path.endswith("/token"):
            self.tokens += 1
            return {**body, "status": {"token": f"token-{self.tokens}"}}
        key = f"{path}/{body['metadata']['name']}"
        if key in self.objects:
            raise AlreadyExists(f"{key} already exists")
        self._made[key] = self._made.get(key, 0) + 1
        if self._made[key] > 1:
            # Another object than the first of this name.
            uid = f"uid-{body['metadata']['name']}-{self._made[key]}"
            body = body | {"metadata": body["metadata"] | {"uid": uid}}
        return self.put(key, body)

    def _put(self, path: str, body: Any) -> Object:
        key = path.removesuffix("/status")
        if key not in self.objects:
            raise NotFound(f"{key} not found")
        version = body["metadata"].get("resourceVersion")
        if version and version != self.objects[key]["metadata"]["resourceVersion"]:
            raise Conflict(f"{key}: resourceVersion")
        return self.put(key, body)

    def _patch(self, path: str, body: Any) -> Object:
        self.patches.append((path, body))
        key = path.removesuffix("/status")
        if key not in self.objects:
            raise NotFound(f"{key} not found")
        uid = (body.get("metadata") or {}).get("uid")
        if uid and uid != self.objects[key]["metadata"]["uid"]:
            raise Conflict(f"{key}: uid")
        return self.put(key, merge(self.objects[key], body))

    def _delete(self, path: str, body: Any) -> Object:
        self.deletes.append((path, body))
        if path not in self.objects:
            raise NotFound(f"{path} not found")
        obj = self.objects[path]
        self.remove(path)
        return obj

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[WatchEvent]:
        queue: asyncio.Queue[WatchEvent] = asyncio.Queue()
        entry = (path, dict(query), queue)
        after = int(query.get("resourceVersion") or 0)
        for key, obj in self.objects.items():
            if int(obj["metadata"]["resourceVersion"]) > after and _selects(
                path, dict(query), key, obj
            ):
                queue.put_nowait(WatchEvent("MODIFIED", obj))
        self._watchers.append(entry)
        try:
            while True:
                yield await queue.get()
        finally:
            self._watchers.remove(entry)

    async def close(self) -> None: ...

    def _tell(self, kind: str, path: str, obj: Object) -> None:
        for collection, query, queue in self._watchers:
            if _selects(collection, query, path, obj):
                queue.put_nowait(WatchEvent(kind, obj))


def _is_collection(path: str) -> bool:
    parts = path.strip("/").split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        rest = rest[2:]
    return len(rest) == 1


def _selects(collection: str, query: Mapping[str, str], key: str, obj: Object) -> bool:
    base, _, plural = collection.rpartition("/")
    mine = key.startswith(f"{collection}/") or (
        plural in NAMESPACED
        and "/namespaces/" not in collection
        and key.startswith(f"{base}/namespaces/")
        and key.split("/")[-2] == plural
    )
    if not mine:
        return False
    for part in filter(None, query.get("fieldSelector", "").split(",")):
        path, _, wanted = part.partition("=")
        found: Any = obj
        for step in path.split("."):
            found = (found or {}).get(step)
        if found != wanted:
            return False
    return True


def merge(old: Any, patch: Any) -> Any:
    """A strategic merge, as far as the agent uses it: conditions by type, else a merge patch."""
    if not isinstance(patch, dict) or not isinstance(old, dict):
        return copy.deepcopy(patch)
    out = dict(old)
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        elif key == "conditions":
            by_type = {item["type"]: item for item in out.get(key) or ()}
            for item in value:
                if item.get("$patch") == "delete":
                    by_type.pop(item["type"], None)
                    continue
                by_type[item["type"]] = merge(by_type.get(item["type"], {}), item)
            out[key] = list(by_type.values())
        elif isinstance(value, list):
            out[key] = [item for item in value if "$patch" not in item]
        else:
            out[key] = merge(out.get(key, {}), value) if isinstance(value, dict) else value
    return out


class FakeReviews(FakeApi):
    """Knows tokens by `users` and rights by `allowed`; `asked` counts its questions."""

    def __init__(self) -> None:
        super().__init__()
        self.users: dict[str, Object] = {}
        self.allowed: set[tuple[str, str, str]] = set()
        """(user, verb, sub-resource of nodes)"""
        self.asked: list[str] = []
        self.down: OSError | None = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON,
    ) -> Object:
        kind = path.rpartition("/")[2]
        if kind not in ("tokenreviews", "subjectaccessreviews"):
            return await super().request(
                method, path, query=query, body=body, content_type=content_type
            )
        self.asked.append(kind)
        if self.down is not None:
            raise self.down
        spec = body["spec"]
        if kind == "tokenreviews":
            user = self.users.get(spec["token"])
            return {"status": {"authenticated": user is not None, "user": user or {}}}
        asked = spec["resourceAttributes"]
        assert (asked["resource"], asked["name"]) == ("nodes", "n1")
        right = (spec["user"], asked["verb"], asked["subresource"])
        return {"status": {"allowed": right in self.allowed}}
