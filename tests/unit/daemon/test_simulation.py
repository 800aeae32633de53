"""Simulated nodes beside a cluster's own: by a text that may change."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sampan.aio.clock import SystemClock
from sampan.aio.tasks import Supervisor
from sampan.api.resources import resource
from sampan.client.informer import Informers
from sampan.daemon.simulation import Keeper
from sampan.paths import ClusterPaths
from tests.kit.cluster import Cluster, api_cluster

PATIENCE_S = 10.0


async def names(cluster: Cluster) -> list[str]:
    listed = await cluster.client.list(resource("nodes"))
    return [item["metadata"]["name"] for item in listed["items"]]


async def until(said: asyncio.Event, true: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await true():
            said.clear()
            await said.wait()


async def test_nodes_come_and_go_as_the_text_says(tmp_path: Path) -> None:
    paths, said = ClusterPaths("test", tmp_path, tmp_path), asyncio.Event()
    child: Any = SimpleNamespace(
        paths=paths, say=lambda **_: said.set(), task_failed=lambda *_: None
    )
    async with api_cluster() as cluster:
        own = {"metadata": {"name": "own"}}
        await cluster.client.create(resource("nodes"), own)
        supervisor = Supervisor()
        informers = Informers(cluster.client, supervisor)
        keeper = Keeper(child, cluster.server, informers, SystemClock())
        task = asyncio.create_task(keeper.run())
        try:
            for text, wanted in (
                ("nodes=3,zones=2,name=made", ["made-0", "made-1", "made-2", "own"]),
                # What is no good changes nothing.
                ("nodes=many", ["made-0", "made-1", "made-2", "own"]),
                ("nodes=1,name=made", ["made-0", "own"]),
                ("nodes=0", ["own"]),
            ):
                await asyncio.sleep(0)
                paths.simulation.write_text(text)
                os.kill(os.getpid(), signal.SIGHUP)

                async def reached(wanted: list[str] = wanted) -> bool:
                    return await names(cluster) == wanted

                await until(said, reached)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
            await supervisor.stop()
