"""A cluster in this process with all controllers and a node that only pretends to run pods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from sampan.aio.clock import Clock, SystemClock
from sampan.aio.tasks import Supervisor
from sampan.api.errors import Conflict, NotFound, Object
from sampan.api.resources import resource
from sampan.api.times import format_time
from sampan.client.api import Client
from sampan.client.informer import Informer, Informers
from sampan.controllers.runtime.controller import Options
from sampan.controllers.runtime.run import Running, run_controllers
from tests.kit.cluster import Cluster, api_cluster

PODS = resource("pods")
NAMESPACES = resource("namespaces")
NODES = resource("nodes")
DEPLOYMENTS = resource("deployments", "apps")
SETS = resource("replicasets", "apps")
EVENTS = resource("events")
NODE = "n1"

# A behaviour that has not shown by now is missing; generous for a machine under load.
PATIENCE_S = 20.0


class PretendNode:
    """Binds each pod and reports it as running; takes it away when it is to go."""

    def __init__(self, client: Client, pods: Informer) -> None:
        self.client = client
        self.pods = pods
        self.holds: Callable[[Object], bool] = lambda pod: False
        """Pods that are never reported ready."""
        self.todo: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        pods.on_change(self._changed)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self.todo.put_nowait((new["metadata"]["namespace"], new["metadata"]["name"]))

    async def run(self) -> None:
        while True:
            namespace, name = await self.todo.get()
            pod = self.pods.get(namespace, name)
            if pod is not None:
                try:
                    await self._advance(pod, namespace, name)
                except (NotFound, Conflict):
                    continue

    async def _advance(self, pod: Object, namespace: str, name: str) -> None:
        if pod["metadata"].get("deletionTimestamp"):
            await self.client.delete(PODS, name, namespace, {"gracePeriodSeconds": 0})
        elif not pod["spec"].get("nodeName"):
            body = {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": name, "namespace": namespace},
                "target": {"kind": "Node", "name": NODE},
            }
            await self.client.create(PODS, body, namespace, name, "binding")
        elif (pod["status"].get("phase") or "Pending") == "Pending" and not self.holds(pod):
            await self.client.update(PODS, {**pod, "status": running(pod)}, "status")


def running(pod: Object) -> Object:
    """The status of a pod whose containers all run and are ready."""
    now = format_time(SystemClock().now())
    number = int(pod["metadata"]["resourceVersion"])
    address = f"10.244.{number // 250 % 250}.{number % 250 + 1}"
    return {
        **pod["status"],
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}],
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": now,
    }


@dataclass(slots=True)
class World:
    client: Client
    informers: Informers
    controllers: Running
    node: PretendNode
    supervisor: Supervisor
    cluster: Cluster
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def cache(self, plural: str, group: str = "") -> Informer:
        """An informer whose changes wake `until`."""
        informer = self.informers.informer(resource(plural, group))
        informer.on_change(lambda old, new: self.changed.set())
        return informer

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until the condition holds; looks whenever a watched cache changes."""
        async with asyncio.timeout(PATIENCE_S):
            while not (found := condition()):
                self.changed.clear()
                await self.changed.wait()
        return found

    async def events(self, namespace: str = "default") -> list[str]:
        found = await self.client.list(EVENTS, namespace)
        return [f"{item['reason']}: {item['message']}" for item in found["items"]]


@asynccontextmanager
async def world(
    *, clock: Clock | None = None, config: Mapping[str, Any] | None = None, **options: Any
) -> AsyncIterator[World]:
    """`config` changes fields of the server's, `options` those of the controllers'."""
    async with api_cluster(clock=clock, **(config or {})) as cluster:
        supervisor = Supervisor()
        informers = Informers(cluster.client, supervisor)
        controllers = await run_controllers(
            cluster.client, informers, supervisor, clock or SystemClock(), Options(**options)
        )
        node = PretendNode(cluster.client, informers.informer(PODS))
        supervisor.start("node", node.run)
        await informers.synced()
        try:
            yield World(cluster.client, informers, controllers, node, supervisor, cluster)
        finally:
            await controllers.stop()
            await supervisor.stop()


def deployment(name: str = "web", replicas: int = 3, image: str = "web:1", **spec: Any) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
            **spec,
        },
    }
