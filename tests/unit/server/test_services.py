"""Service addresses and node ports: given out once, given back, never leaked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sampan.server.strategies.pool import Pool, static_band
from sampan.store.engine import Engine
from sampan.store.memory import NoJournal
from sampan.store.mvcc import State
from tests.kit.clock import settle
from tests.kit.cluster import Answer, Cluster, api_cluster

PATH = "/api/v1/namespaces/default/services"
MERGE = "application/merge-patch+json"


async def make(cluster: Cluster, name: str, **spec: Any) -> Answer:
    body = {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}
    return await cluster.http("POST", PATH, body)


async def test_an_address_is_chosen_kept_and_released() -> None:
    async with api_cluster(service_cidr="10.9.0.0/29") as cluster:
        # Six addresses, of which the kubernetes service has the first.
        taken = [(await make(cluster, f"s{n}")).json["spec"]["clusterIP"] for n in range(5)]
        assert len(set(taken)) == 5
        full = await make(cluster, "full")
        assert full.status == 422
        assert "range is full" in full.message
        await cluster.http("DELETE", f"{PATH}/s2")
        again = await make(cluster, "again")
        assert again.json["spec"]["clusterIP"] == taken[2]
        assert again.json["spec"]["clusterIPs"] == [taken[2]]
        replaced = {"metadata": {"name": "s1"}, "spec": {"ports": [{"port": 81}]}}
        kept = await cluster.http("PUT", f"{PATH}/s1", replaced)
        assert kept.json["spec"]["clusterIP"] == taken[1]


async def test_a_refused_write_holds_nothing() -> None:
    async with api_cluster(service_cidr="10.9.0.0/29") as cluster:
        for _ in range(10):
            assert (await make(cluster, "Bad_Name")).status == 422
            dry = {"metadata": {"name": "dry"}, "spec": {"ports": [{"port": 80}]}}
            assert (await cluster.http("POST", f"{PATH}?dryRun=All", dry)).status == 201
        assert (await make(cluster, "good")).status == 201


async def test_what_is_on_its_way_to_the_disk_stays_taken_when_its_client_leaves() -> None:
    """Two services with one port would take each other's connections."""

    class Slow(NoJournal):
        held: asyncio.Future[None] | None = None

        def append(self, *batch: Any) -> asyncio.Future[None]:
            return self.held or super().append(*batch)

    journal = Slow()
    async with api_cluster(store=Engine(State(), journal)) as cluster:
        journal.held = asyncio.get_running_loop().create_future()
        asked: dict[str, Any] = {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}
        first = asyncio.create_task(make(cluster, "a", clusterIP="10.96.0.77", **asked))
        await settle()
        assert cluster.store.get("/registry/services/specs/default/a", pending=True) is not None
        first.cancel()
        second = asyncio.create_task(make(cluster, "b", **asked))
        third = asyncio.create_task(make(cluster, "c", clusterIP="10.96.0.77"))
        await settle()
        journal.held.set_result(None)
        for answer in (await second, await third):
            assert answer.status == 422
            assert "already allocated" in answer.message
        for name in ("a", "b"):
            await cluster.http("DELETE", f"{PATH}/{name}")
        journal.held = None
        assert (await make(cluster, "c", **asked)).status == 201


async def test_an_address_asked_for() -> None:
    async with api_cluster() as cluster:
        assert (await make(cluster, "a", clusterIP="10.96.0.77")).status == 201
        taken = await make(cluster, "b", clusterIP="10.96.0.77")
        assert taken.status == 422
        assert taken.message == (
            'Service "b" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.77"]: failed to '
            "allocate IP 10.96.0.77: provided IP is already allocated"
        )
        outside = await make(cluster, "c", clusterIP="192.0.2.1")
        assert outside.message.endswith("the provided network does not match the current range")
        nonsense = await make(cluster, "d", clusterIP="nonsense")
        assert nonsense.status == 422


async def test_headless_and_external_names_take_none() -> None:
    async with api_cluster() as cluster:
        headless = (await make(cluster, "h", clusterIP="None")).json["spec"]
        assert (headless["clusterIP"], headless["clusterIPs"]) == ("None", ["None"])
        external = await make(cluster, "e", type="ExternalName", externalName="example.com")
        assert "clusterIP" not in external.json["spec"]
        back = {"spec": {"type": "ClusterIP", "externalName": None}}
        changed = await cluster.http("PATCH", f"{PATH}/e", back, content_type=MERGE)
        assert changed.json["spec"]["clusterIP"]


async def test_node_ports() -> None:
    async with api_cluster(node_ports=(31000, 31003)) as cluster:
        both = [
            {"name": "t", "port": 53, "protocol": "TCP"},
            {"name": "u", "port": 53, "protocol": "UDP"},
        ]
        made = (await make(cluster, "a", type="NodePort", ports=both)).json["spec"]["ports"]
        assert made[0]["nodePort"] == made[1]["nodePort"]
        port = made[0]["nodePort"]
        taken = await make(cluster, "b", type="NodePort", ports=[{"port": 1, "nodePort": port}])
        assert taken.message.endswith(
            f"spec.ports[0].nodePort: Invalid value: {port}: provided port is already allocated"
        )
        low = await make(cluster, "b", type="NodePort", ports=[{"port": 1, "nodePort": 80}])
        assert "The range of valid ports is 31000-31003" in low.message
        away = {"spec": {"type": "ClusterIP"}}
        changed = (await cluster.http("PATCH", f"{PATH}/a", away, content_type=MERGE)).json
        assert not any("nodePort" in item for item in changed["spec"]["ports"])
        ports = [{"port": 1, "nodePort": port}]
        assert (await make(cluster, "b", type="NodePort", ports=ports)).status == 201


async def test_what_is_stored_is_taken_after_a_restart() -> None:
    async with api_cluster() as first:
        await make(first, "a", clusterIP="10.96.0.77")
        async with api_cluster(store=first.store) as second:
            assert (await make(second, "b", clusterIP="10.96.0.77")).status == 422


@pytest.mark.parametrize(("size", "static"), [(8, 0), (254, 16), (65_534, 256), (1 << 20, 256)])
def test_the_static_band(size: int, static: int) -> None:
    assert static_band(size, 16, 16, 256) == static


def test_a_pool_gives_everything_once_upper_part_first() -> None:
    pool = Pool(100, 20, 5)
    numbers = [pool.take_any() for _ in range(20)]
    assert set(numbers[:15]) == set(range(105, 120))
    assert set(numbers[15:]) == set(range(100, 105))
    assert pool.take_any() is None
    pool.release(107)
    assert pool.take_any() == 107


async def test_a_cluster_of_both_families_gives_each_service_what_it_asks_for() -> None:
    async with api_cluster(service_cidr="10.9.0.0/24,fd00:9::/112") as cluster:

        async def families(name: str, **spec: Any) -> tuple[str, list[str]]:
            answer = await make(cluster, name, **spec)
            assert answer.status == 201, answer.message
            spec = answer.json["spec"]
            assert spec["clusterIP"] == spec["clusterIPs"][0]
            found = ["IPv6" if ":" in ip else "IPv4" for ip in spec["clusterIPs"]]
            assert found == spec["ipFamilies"]
            return spec["ipFamilyPolicy"], found

        assert await families("one") == ("SingleStack", ["IPv4"])
        assert await families("six", ipFamilies=["IPv6"]) == ("SingleStack", ["IPv6"])
        preferred = await families("both", ipFamilyPolicy="PreferDualStack")
        assert preferred == ("PreferDualStack", ["IPv4", "IPv6"])
        turned = {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}
        assert await families("turned", **turned) == ("RequireDualStack", ["IPv6", "IPv4"])
        assert await families("asked", clusterIP="fd00:9::77") == ("SingleStack", ["IPv6"])
        assert (await make(cluster, "again", clusterIP="fd00:9::77")).status == 422
        # A second address comes and goes by the policy alone.
        for policy, count in (("RequireDualStack", 2), ("SingleStack", 1), ("PreferDualStack", 2)):
            change = {"spec": {"ipFamilyPolicy": policy}}
            answer = await cluster.http("PATCH", f"{PATH}/one", change, content_type=MERGE)
            assert answer.status == 200, answer.message
            assert len(answer.json["spec"]["clusterIPs"]) == count
        headless = await make(cluster, "h", clusterIP="None", selector={"a": "b"})
        assert headless.json["spec"]["ipFamilies"] == ["IPv4"]
