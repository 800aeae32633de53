"""Autoscalers and disruption budgets whose controllers are killed after every single write of
theirs: the end is always the same, and no more pods are ever made or taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sampan.api.errors import Object, TooManyRequests
from sampan.api.resources import resource
from sampan.api.times import format_time
from sampan.client.informer import Informers
from sampan.controllers.runtime import pods as podlib
from tests.kit.cluster import Cluster
from tests.kit.mortal import Mortal

from .test_autoscaling import autoscaler
from .test_disruption import budget
from .test_workloads_crash import Life, healthy
from .workload_kit import DEPLOYMENTS, PATIENCE_S, PODS, PretendNode, deployment

BUDGETS = resource("poddisruptionbudgets", "policy")
AUTOSCALERS = resource("horizontalpodautoscalers", "autoscaling")
OURS = ("/scale", "/poddisruptionbudgets/", "/horizontalpodautoscalers/")
USED = {"memory": "200Mi"}
TARGET = {"type": "Utilization", "averageUtilization": 50}
MEMORY = [{"type": "Resource", "resource": {"name": "memory", "target": TARGET}}]


class Metered(Mortal):
    """Counts the writes of these controllers only, and answers for the nodes."""

    async def request(self, method: str, path: str, **more: Any) -> Object:
        if path.startswith("/apis/metrics.k8s.io/"):
            return await self._measure(more["query"])
        if self.dead.is_set():
            await asyncio.Event().wait()
        if any(part in path for part in OURS):
            return await super().request(method, path, **more)
        return await self.inner.request(method, path, **more)

    async def _measure(self, query: Any) -> Object:
        path = PODS.path("default")
        listed = await self.inner.request("GET", path, query=query)
        items = [
            {
                "metadata": {"name": item["metadata"]["name"], "namespace": "default"},
                "timestamp": format_time(0),
                "window": "15s",
                "containers": [{"name": "c", "usage": USED}],
            }
            for item in listed["items"]
        ]
        return {"items": items}


class Drill:
    """A deployment that is autoscaled twice and loses a pod in between, with one crash."""

    def __init__(self, cluster: Cluster, informers: Informers) -> None:
        self.cluster = cluster
        self.client = cluster.client
        self.caches = {
            kind: informers.informer(kind) for kind in (DEPLOYMENTS, BUDGETS, AUTOSCALERS, PODS)
        }
        self.changed = asyncio.Event()
        self.most = 0
        self.crashed = False
        self.life = Life(Metered(cluster.client.transport, 0))
        for cache in self.caches.values():
            cache.on_change(self._note)

    def _note(self, old: Object | None, new: Object | None) -> None:
        self.most = max(self.most, len(self.active()))
        self.changed.set()

    def active(self) -> list[Object]:
        return [pod for pod in self.caches[PODS].list() if podlib.is_active(pod)]

    async def run(self, writes: int) -> bool:
        """False if all ended before the crash came."""
        self.crashed, self.most = False, 0
        self.life = Life(Metered(self.cluster.client.transport, writes))
        await self.life.start()
        body = deployment(replicas=1)
        resources = {"requests": {"memory": "100Mi"}}
        body["spec"]["template"]["spec"]["containers"][0]["resources"] = resources
        await self.client.create(DEPLOYMENTS, body, "default")
        await self.client.create(BUDGETS, budget(maxUnavailable=1), "default")
        await self.until(lambda: self.is_counted(1))
        scaler = autoscaler(maxReplicas=3, metrics=MEMORY)
        await self.client.create(AUTOSCALERS, scaler, "default")
        await self.until(lambda: self.is_counted(3) and self.is_scaled(3))
        gone = self.active()[0]["metadata"]
        await self.evict(gone["name"])
        await self.until(lambda: self.is_counted(3) and gone["uid"] not in self.uids())
        patch = {"spec": {"maxReplicas": 5}}
        await self.client.patch(AUTOSCALERS, "web", patch, "default")
        await self.until(lambda: self.is_counted(5) and self.is_scaled(5))
        assert self.most == 5
        for kind, name in ((AUTOSCALERS, "web"), (BUDGETS, "b"), (DEPLOYMENTS, "web")):
            await self.client.delete(kind, name, "default")
        await self.until(lambda: not any(map(len, self.caches.values())))
        await self.life.end()
        return self.crashed

    async def evict(self, name: str) -> None:
        body: Object = {"metadata": {"name": name}}
        while True:
            try:
                await self.client.create(PODS, body, "default", name, "eviction")
                break
            except TooManyRequests:
                # Nobody has counted since the last change.
                self.changed.clear()
                await self.until(self.changed.is_set)

    def uids(self) -> set[str]:
        return {pod["metadata"]["uid"] for pod in self.caches[PODS].list()}

    def is_counted(self, pods: int) -> bool:
        found = self.caches[BUDGETS].get("default", "b") or {}
        status = found.get("status") or {}
        figures = [
            status.get(key)
            for key in ("expectedPods", "desiredHealthy", "currentHealthy", "disruptionsAllowed")
        ]
        return figures == [pods, pods - 1, pods, 1] and not status.get("disruptedPods")

    def is_scaled(self, replicas: int) -> bool:
        found = self.caches[AUTOSCALERS].get("default", "web") or {}
        status = found.get("status") or {}
        said = {item["type"]: item["status"] for item in status.get("conditions") or ()}
        return status.get("desiredReplicas") == replicas and said == {
            "AbleToScale": "True", "ScalingActive": "True", "ScalingLimited": "True",
        }  # fmt: skip

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for the condition; controllers that die on the way are replaced."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                dead = asyncio.ensure_future(self.life.transport.dead.wait())
                change = asyncio.ensure_future(self.changed.wait())
                await asyncio.wait({dead, change}, return_when=asyncio.FIRST_COMPLETED)
                if dead.done():
                    self.crashed = True
                    await self.life.end()
                    self.life = Life(Metered(self.cluster.client.transport, 0))
                    await self.life.start()
                self.changed.clear()
                for task in (dead, change):
                    task.cancel()


@pytest.mark.trust
async def test_a_crash_after_every_write_changes_nothing_in_the_end() -> None:
    async with healthy(PretendNode) as (cluster, informers, _):
        drill = Drill(cluster, informers)
        await informers.synced()
        writes = 1
        while await drill.run(writes):
            writes += 1
        # Two scales, statuses of the budget before, between and after: all were tried.
        assert writes > 8
