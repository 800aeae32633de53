"""What the conformance tests speak with: requests, watches and life cycles over a whole cluster in
this process (API server, controllers, scheduler and a simulated node)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from sampan.server.exchange import User
from sampan.testing import Cluster
from tests.kit.cluster import ADMIN, Answer
from tests.kit.cluster import Cluster as Requests

Obj = dict[str, Any]

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
PATIENCE_S = 10.0
"""What has not happened by then does not happen; everything here takes milliseconds."""

CORE = "/api/v1"
NS = f"{CORE}/namespaces/default"
MAPS = f"{NS}/configmaps"
PODS = f"{NS}/pods"
CONTROLLERS = f"{NS}/replicationcontrollers"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
REPLICASETS = "/apis/apps/v1/namespaces/default/replicasets"


def config(name: str = "c", labels: Mapping[str, str] | None = None, /, **data: str) -> Obj:
    metadata = {"name": name, **({"labels": labels} if labels else {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def pod_spec(**changes: Any) -> Obj:
    """A pod's spec with one container; keywords change the container."""
    return {"containers": [{"name": "c", "image": "web:1", **changes}]}


def pod(name: str, labels: Mapping[str, str] | None = None, **container: Any) -> Obj:
    metadata = {"name": name, "labels": labels or {"name": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec(**container)}


def template(**labels: str) -> Obj:
    return {"metadata": {"labels": labels}, "spec": pod_spec()}


def deployment(name: str = "d", replicas: int = 1) -> Obj:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": template(app=name),
        },
    }


def controller(name: str = "rc", replicas: int = 2) -> Obj:
    """A ReplicationController."""
    return {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"replicas": replicas, "selector": {"app": name}, "template": template(app=name)},
    }


@dataclass(slots=True)
class Watching:
    """The events of one watch, as they come."""

    events: list[Obj] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, true: Callable[[list[Obj]], Any]) -> list[Obj]:
        """Wait for the events to be such; they are in the error if they never are."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not true(self.events):
                    self.came.clear()
                    await self.came.wait()
        except TimeoutError:
            raise AssertionError(f"only {self.types}: {self.events}") from None
        return self.events

    async def count(self, number: int) -> list[Obj]:
        return await self.until(lambda events: len(events) >= number)

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    @property
    def names(self) -> list[tuple[str, str]]:
        """(type, name) of each."""
        return [(item["type"], item["object"]["metadata"]["name"]) for item in self.events]


class Bench:
    """A cluster, spoken to as a client does. Whatever fails says so with the server's message."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.requests = Requests(cluster.server, cluster.client, cluster.store)
        self.http = self.requests.http

    async def expect(
        self, status: int, method: str, path: str, body: Any = None, **how: Any
    ) -> Any:
        answer = await self.http(method, path, body, **how)
        assert answer.status == status, (answer.status, answer.body)
        return answer.json

    async def create(self, path: str, body: Obj, **how: Any) -> Any:
        return await self.expect(201, "POST", path, body, **how)

    async def get(self, path: str, **how: Any) -> Any:
        return await self.expect(200, "GET", path, **how)

    async def put(self, path: str, body: Obj, **how: Any) -> Any:
        return await self.expect(200, "PUT", path, body, **how)

    async def patch(self, path: str, body: Any, content_type: str = MERGE, **how: Any) -> Any:
        return await self.expect(200, "PATCH", path, body, content_type=content_type, **how)

    async def delete(self, path: str, **options: Any) -> Any:
        return await self.expect(200, "DELETE", path, options or None)

    async def names(self, path: str, user: User = ADMIN) -> list[str]:
        """Names of a list's items."""
        return [item["metadata"]["name"] for item in (await self.get(path, user=user))["items"]]

    async def refused(self, status: int, method: str, path: str, body: Any, **how: Any) -> Answer:
        answer = await self.http(method, path, body, **how)
        assert answer.status == status, (answer.status, answer.body)
        return answer

    async def gone(self, path: str) -> None:
        """Wait until there is nothing at `path`."""
        collection, _, name = path.rpartition("/")
        chosen = f"{collection}?fieldSelector=metadata.name={name}"
        listed = await self.get(chosen)
        if listed["items"]:
            since = listed["metadata"]["resourceVersion"]
            async with self.watching(f"{chosen}&resourceVersion={since}") as seen:
                await seen.until(lambda events: "DELETED" in [item["type"] for item in events])
        await self.expect(404, "GET", path)

    async def state(self, path: str, true: Callable[[Obj], Any]) -> Obj:
        """Wait until the object at `path` is such, and give it."""
        collection, _, name = path.rpartition("/")
        async with self.watching(f"{collection}?fieldSelector=metadata.name={name}") as seen:
            events = await seen.until(
                lambda events: (
                    events and events[-1]["type"] != "DELETED" and true(events[-1]["object"])
                )
            )
            found: Obj = events[-1]["object"]
            return found

    async def listed(self, path: str, true: Callable[[list[Obj]], Any]) -> list[Obj]:
        """Wait until the list at `path` is such, and give its items."""
        async with self.watching(path) as seen, asyncio.timeout(PATIENCE_S):
            while True:
                # Cleared first: what comes while it is being listed is looked at again.
                seen.came.clear()
                items: list[Obj] = (await self.get(path))["items"]
                if true(items):
                    return items
                await seen.came.wait()

    @asynccontextmanager
    async def watching(self, path: str) -> AsyncIterator[Watching]:
        """The events of a watch; its errors are events too."""
        seen = Watching()
        begun = asyncio.Event()

        async def follow() -> None:
            mark = "&" if "?" in path else "?"
            stream = self.requests.stream(f"{path}{mark}watch=true")
            try:
                begun.set()
                async for event in stream:
                    seen.events.append(event)
                    seen.came.set()
            finally:
                await stream.aclose()  # type: ignore[attr-defined]

        task = asyncio.create_task(follow())
        await begun.wait()
        # The watch itself is open when the server has had its turn.
        await asyncio.sleep(0)
        try:
            yield seen
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def discovered(bench: Bench, group: str, version: str, *resources: str) -> None:
    """The group, its version and the resources are in all three discovery documents."""
    groups = {item["name"]: item for item in (await bench.get("/apis"))["groups"]}
    assert version in [item["version"] for item in groups[group]["versions"]]
    one = await bench.get(f"/apis/{group}")
    assert version in [item["version"] for item in one["versions"]]
    served = {item["name"] for item in (await bench.get(f"/apis/{group}/{version}"))["resources"]}
    assert set(resources) <= served


async def live_through(bench: Bench, path: str, made: Obj, change: Obj, back: Obj) -> str:
    """create, get, list, watch, patch and update, as every kind's «API operations» test does.

    `made` is created three times with its generateName; `change` and `back` are what the patch and
    the update set beside annotations. Gives the name of the third."""
    label = f"{path.rpartition('/')[2]}=conformance"
    key, _, value = label.partition("=")
    body = {**made, "metadata": {"generateName": "e2e-", "labels": {key: value}}}
    chosen = f"{path}?labelSelector={key}%3D{value}"
    first = [await bench.create(path, body) for _ in range(3)][2]
    name = first["metadata"]["name"]
    read = await bench.get(f"{path}/{name}")
    assert read["metadata"]["uid"] == first["metadata"]["uid"]
    listed = await bench.get(chosen)
    assert len(listed["items"]) == 3
    version = listed["metadata"]["resourceVersion"]
    async with bench.watching(f"{chosen}&resourceVersion={version}") as seen:
        noted = {"metadata": {"annotations": {"patched": "true"}}}
        patched = await bench.patch(f"{path}/{name}", {**noted, **change})
        assert patched["metadata"]["annotations"] == {"patched": "true"}
        assert int(patched["metadata"]["resourceVersion"]) > int(
            read["metadata"]["resourceVersion"]
        )
        assert holds(patched, change)
        update = merged(patched, back)
        update["metadata"]["annotations"]["updated"] = "true"
        updated = await bench.put(f"{path}/{name}", update)
        assert updated["metadata"]["annotations"] == {"patched": "true", "updated": "true"}
        assert holds(updated, back)
        events = await seen.until(lambda events: any(noticed(event) for event in events))
        assert {event["type"] for event in events} == {"MODIFIED"}
    return str(name)


async def die(bench: Bench, path: str, name: str) -> None:
    """delete and deletecollection of what `live_through` made."""
    chosen = f"{path}?labelSelector={path.rpartition('/')[2]}%3Dconformance"
    await bench.delete(f"{path}/{name}")
    await bench.expect(404, "GET", f"{path}/{name}")
    assert len(await bench.names(chosen)) == 2
    await bench.delete(chosen)
    assert await bench.names(chosen) == []


def noticed(event: Obj) -> bool:
    return (event["object"]["metadata"].get("annotations") or {}).get("patched") == "true"


def holds(obj: Any, part: Any) -> bool:
    """Whether everything in `part` is so in `obj`."""
    if isinstance(part, dict):
        return isinstance(obj, dict) and all(holds(obj.get(key), part[key]) for key in part)
    return bool(obj == part)


def merged(obj: Any, part: Any) -> Any:
    """`obj` with `part` laid over it."""
    if isinstance(part, dict) and isinstance(obj, dict):
        return {**obj, **{key: merged(obj.get(key), part[key]) for key in part}}
    return part
