"""The API server's Lease: there after boot, renewed, and alone."""

from __future__ import annotations

import asyncio
from typing import Any

from sampan.api.resources import resource
from sampan.daemon.identity import AFTER_BOOT_S, HELD_S, RENEWED_S, identity_of, keep_identity
from sampan.testing.cluster import Cluster, Options

LEASES = resource("leases", "coordination.k8s.io")


async def leases(c: Cluster) -> dict[str, Any]:
    found = await c.client.list(
        LEASES, "kube-system", {"labelSelector": "apiserver.kubernetes.io/identity=kube-apiserver"}
    )
    return {item["metadata"]["name"]: item for item in found["items"]}


def test_a_host_has_the_name_that_upstream_gives_it() -> None:
    assert identity_of("host") == "apiserver-dd6egxogzxmivwqge6rcnj6rwi"


async def test_a_lease_says_that_the_server_is_there() -> None:
    async with await Cluster.start(Options(virtual_time=True)) as c:
        tasks = [asyncio.create_task(keep_identity(c.client, c.clock, "former"))]
        await c.advance(AFTER_BOOT_S)
        assert [*await leases(c)] == [identity_of("former")]
        tasks[0].cancel()
        tasks.append(asyncio.create_task(keep_identity(c.client, c.clock, "host")))
        await c.advance(AFTER_BOOT_S)
        before = (await leases(c))[identity_of("host")]
        assert before["metadata"]["labels"]["kubernetes.io/hostname"] == "host"
        assert before["spec"]["holderIdentity"].startswith(identity_of("host") + "_")
        await c.advance(RENEWED_S)
        after = (await leases(c))[identity_of("host")]
        assert after["spec"]["renewTime"] > before["spec"]["renewTime"]
        await c.advance(HELD_S)
        assert [*await leases(c)] == [identity_of("host")], "what nobody renews goes"
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
