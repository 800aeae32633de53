"""Binder and provisioner killed after every single write: claims are bound all the same, no volume
is given twice, and no directory is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sampan.aio.clock import SystemClock
from sampan.aio.tasks import Supervisor
from sampan.api.resources import resource
from sampan.client.api import Client
from sampan.client.informer import Informer, Informers
from sampan.controllers.runtime.controller import Options
from sampan.controllers.runtime.run import run_controllers
from tests.kit.cluster import Cluster, api_cluster
from tests.kit.mortal import Mortal

from .test_workloads_crash import Life
from .workload_kit import NODES, PATIENCE_S

CLAIMS = resource("persistentvolumeclaims")
VOLUMES = resource("persistentvolumes")
PLACES = 14
"""More than the writes of one claim's life; the drill asserts that the last is beyond them."""


class Disk:
    """The directories of a node that is asked by name."""

    def __init__(self) -> None:
        self.folders: set[str] = set()

    async def call(self, node: str, method: str, path: str) -> tuple[int, str]:
        path = path.partition("?")[0]
        (self.folders.add if method == "PUT" else self.folders.discard)(path)
        return 200, f'{{"path": "/data{path}"}}'


class VolumeLife(Life):
    """Controllers that know a node's disk."""

    def __init__(self, transport: Mortal, disk: Disk) -> None:
        super().__init__(transport)
        self.disk = disk

    async def start(self) -> None:
        client = Client(self.transport)
        informers = Informers(client, self.supervisor)
        options = Options(node_call=self.disk.call)
        self.running = await run_controllers(
            client, informers, self.supervisor, SystemClock(), options
        )


def claim(name: str, **spec: Any) -> Any:
    mark = {"volume.kubernetes.io/selected-node": "n1"}
    asked = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"metadata": {"name": name, "annotations": mark}, "spec": asked | spec}


class Drill:
    def __init__(self, cluster: Cluster, informers: Informers) -> None:
        self.cluster, self.client = cluster, cluster.client
        self.claims, self.volumes = informers.informer(CLAIMS), informers.informer(VOLUMES)
        self.disk = Disk()
        self.changed = asyncio.Event()
        for cache in (self.claims, self.volumes):
            cache.on_change(lambda old, new: self.changed.set())

    async def until(self, condition: Callable[[], Any]) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            while not (found := condition()):
                self.changed.clear()
                await self.changed.wait()
        return found

    async def play(self, place: int) -> bool:
        """One claim's life with a death after the write number `place`; did it come to that?"""
        mortal = Mortal(self.cluster.client.transport, place)
        first = VolumeLife(mortal, self.disk)
        await first.start()
        heirs: list[VolumeLife] = []

        async def succeed() -> None:
            await mortal.dead.wait()
            await first.end()
            heir = VolumeLife(Mortal(self.cluster.client.transport, 0), self.disk)
            heirs.append(heir)
            await heir.start()

        successor = asyncio.create_task(succeed())
        try:
            await self._live(f"claim-{place}")
        finally:
            died = mortal.dead.is_set()
            if died:
                await successor
            else:
                successor.cancel()
            for life in heirs or [first]:
                await life.end()
        return died

    async def _live(self, name: str) -> None:
        made = await self.client.create(CLAIMS, claim(name), "default")
        bound = await self.until(lambda: _phase(self.claims, "default", name) == "Bound")
        assert bound
        volume = f"pvc-{made['metadata']['uid']}"
        await self.until(lambda: _phase(self.volumes, "", volume) == "Bound")
        assert [item["metadata"]["name"] for item in self.volumes.list()] == [volume]
        assert self.disk.folders == {f"/volumes/{volume}"}
        await self.client.delete(CLAIMS, name, "default")
        await self.until(lambda: not self.claims.list() and not self.volumes.list())
        assert self.disk.folders == set()


def _phase(cache: Informer, namespace: str, name: str) -> str:
    found = cache.get(namespace, name) or {}
    return str((found.get("status") or {}).get("phase") or "")


async def test_a_death_after_every_write_changes_nothing() -> None:
    async with api_cluster() as cluster:
        supervisor = Supervisor()
        drill = Drill(cluster, Informers(cluster.client, supervisor))
        await cluster.client.create(NODES, {"metadata": {"name": "n1"}})
        try:
            # What the cluster's other controllers write at first is not what dies here.
            await drill.play(0)
            died = [await drill.play(place) for place in range(1, PLACES)]
        finally:
            await supervisor.stop()
        assert died[8]
        assert not died[-1]
