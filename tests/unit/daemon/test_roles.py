"""The first node's role: given when it appears, again when it is made anew, to no other node."""

from __future__ import annotations

import asyncio

from sampan.aio.tasks import Supervisor
from sampan.api.resources import resource
from sampan.client.informer import Informers
from sampan.daemon.roles import LABEL, keep_role
from tests.kit.cluster import Cluster, api_cluster

PATIENCE_S = 10.0
NODES = resource("nodes")


async def reach(cluster: Cluster, name: str) -> None:
    """Make a node and wait for its role."""
    made = await cluster.client.create(NODES, {"metadata": {"name": name}})
    revision = made["metadata"]["resourceVersion"]
    async for event in cluster.client.watch(NODES, query={"resourceVersion": revision}):
        if LABEL in event.object["metadata"].get("labels", {}):
            return


async def test_the_first_node_has_a_role_whenever_it_appears() -> None:
    async with api_cluster() as cluster:
        supervisor = Supervisor()
        informers = Informers(cluster.client, supervisor)
        await cluster.client.create(NODES, {"metadata": {"name": "other"}})
        task = asyncio.create_task(keep_role(cluster.client, informers, "first"))
        try:
            async with asyncio.timeout(PATIENCE_S):
                await reach(cluster, "first")
                await cluster.client.delete(NODES, "first")
                await reach(cluster, "first")
            other = await cluster.client.get(NODES, "other")
            assert LABEL not in other["metadata"].get("labels", {})
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await supervisor.stop()
