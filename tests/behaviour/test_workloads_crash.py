"""Controllers killed after every single write (Sieve's first pattern): the end is always the same.

One server; for each place a deployment of its own is rolled out while the controllers die right
after the n-th write was made, and before they learn that it was. New ones take over from nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from sampan.aio.clock import SystemClock
from sampan.aio.tasks import Supervisor
from sampan.api.errors import Object
from sampan.client.api import Client
from sampan.client.informer import Informer, Informers
from sampan.controllers.runtime.run import Running, run_controllers
from tests.kit.cluster import Cluster, api_cluster
from tests.kit.mortal import Mortal

from .workload_kit import DEPLOYMENTS, PATIENCE_S, PODS, SETS, PretendNode, deployment

Node = TypeVar("Node", bound=PretendNode)


class Life:
    """Controllers from their start to their death."""

    def __init__(self, transport: Mortal) -> None:
        self.transport = transport
        self.supervisor = Supervisor()
        self.running: Running | None = None

    async def start(self) -> None:
        client = Client(self.transport)
        informers = Informers(client, self.supervisor)
        self.running = await run_controllers(client, informers, self.supervisor, SystemClock())

    async def end(self) -> None:
        assert self.running is not None
        await self.running.stop()
        await self.supervisor.stop()

    async def until(
        self, condition: Callable[[], Any], changed: asyncio.Event, state: Callable[[], Any]
    ) -> bool:
        """Wait for the condition, looking at it whenever something has changed; True if the
        controllers died before. What there is instead is in the error."""
        dead = asyncio.ensure_future(self.transport.dead.wait())
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():
                    if dead.done():
                        return True
                    changed.clear()
                    change = asyncio.ensure_future(changed.wait())
                    await asyncio.wait({dead, change}, return_when=asyncio.FIRST_COMPLETED)
                    change.cancel()
        except TimeoutError:
            raise AssertionError(state()) from None
        finally:
            dead.cancel()
        return False


@asynccontextmanager
async def healthy(
    make: Callable[[Client, Informer], Node],
) -> AsyncIterator[tuple[Cluster, Informers, Node]]:
    """What the controllers are not: a server, and a node of this kind."""
    async with api_cluster() as cluster:
        supervisor = Supervisor()
        informers = Informers(cluster.client, supervisor)
        node = make(cluster.client, informers.informer(PODS))
        supervisor.start("node", node.run)
        yield cluster, informers, node
        await supervisor.stop()


class Drill:
    """Rolls a deployment out with one crash, and says what is there in the end."""

    def __init__(self, cluster: Cluster, informers: Informers) -> None:
        self.cluster = cluster
        self.client = cluster.client
        self.caches = {kind: informers.informer(kind) for kind in (DEPLOYMENTS, SETS, PODS)}
        self.changed = asyncio.Event()
        self.most = 0
        for cache in self.caches.values():
            cache.on_change(lambda old, new: self.changed.set())
        self.caches[PODS].on_change(self._count)

    def _count(self, old: Object | None, new: Object | None) -> None:
        found = [
            pod for pod in self.caches[PODS].list() if not pod["metadata"].get("deletionTimestamp")
        ]
        self.most = max(self.most, len(found))

    async def run(self, writes: int) -> bool:
        """False if the rollout ended before the crash came."""
        name = f"web-{writes}"
        self.most = 0
        life = Life(Mortal(self.cluster.client.transport, writes))
        await life.start()
        await self.client.create(DEPLOYMENTS, deployment(name, 2), "default")
        crashed = await self._until_complete(name, "web:1", life)
        if crashed:
            life = await self._next_life(life)
            await self._until_complete(name, "web:1", life)
        spec = {"template": {"spec": {"containers": [{"name": "c", "image": "web:2"}]}}}
        await self.client.patch(DEPLOYMENTS, name, {"spec": spec}, "default")
        if await self._until_complete(name, "web:2", life):
            crashed = True
            life = await self._next_life(life)
            await self._until_complete(name, "web:2", life)
        assert self.end_state(name) == END
        assert self.most <= 3, "more pods than maxSurge allows"
        await self.client.delete(DEPLOYMENTS, name, "default")
        if await self._until(lambda: not any(map(len, self.caches.values())), life):
            crashed = True
            life = await self._next_life(life)
            await self._until(lambda: not any(map(len, self.caches.values())), life)
        await life.end()
        return crashed

    async def _next_life(self, life: Life) -> Life:
        await life.end()
        new = Life(Mortal(self.cluster.client.transport, 0))
        await new.start()
        return new

    async def _until_complete(self, name: str, image: str, life: Life) -> bool:
        return await self._until(lambda: self.is_complete(name, image), life)

    async def _until(self, condition: Any, life: Life) -> bool:
        return await life.until(condition, self.changed, lambda: self.most)

    def is_complete(self, name: str, image: str) -> bool:
        found = self.caches[DEPLOYMENTS].get("default", name) or {}
        status = found.get("status") or {}
        pods = self.caches[PODS].list()
        return (
            all(status.get(f"{kind}Replicas") == 2 for kind in ("updated", "available"))
            and status.get("replicas") == 2
            and status.get("observedGeneration") == found["metadata"]["generation"]
            and [pod["spec"]["containers"][0]["image"] for pod in pods] == [image] * 2
            and any(item.get("reason") == "NewReplicaSetAvailable" for item in status["conditions"])
        )

    def end_state(self, name: str) -> Object:
        found = self.caches[DEPLOYMENTS].get("default", name) or {}
        sets = sorted(
            self.caches[SETS].list(),
            key=lambda item: item["metadata"]["annotations"]["deployment.kubernetes.io/revision"],
        )
        return {
            "revision": found["metadata"]["annotations"]["deployment.kubernetes.io/revision"],
            "conditions": sorted(item["reason"] for item in found["status"]["conditions"]),
            "sets": [item["spec"]["replicas"] for item in sets],
            "ready": [item["status"].get("readyReplicas", 0) for item in sets],
        }


END = {
    "revision": "2",
    "conditions": ["MinimumReplicasAvailable", "NewReplicaSetAvailable"],
    "sets": [0, 2],
    "ready": [0, 2],
}


@pytest.mark.trust
async def test_a_crash_after_every_write_changes_nothing_in_the_end() -> None:
    async with healthy(PretendNode) as (cluster, informers, _):
        drill = Drill(cluster, informers)
        await informers.synced()
        writes = 1
        while await drill.run(writes):
            writes += 1
        # The service account, the sets, their sizes, pods, statuses, deletions: all were tried.
        assert writes > 15
