"""The name server of a node that is cut off gets no questions, and one of a node that is gone none
ever."""

from __future__ import annotations

from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.dns.publish import Place, slice_object
from tests.behaviour.workload_kit import world

SLICES, NODES = resource("endpointslices", "discovery.k8s.io"), resource("nodes")


def ready(status: str) -> Object:
    return {"status": {"conditions": [{"type": "Ready", "status": status}]}}


async def test_the_slice_of_a_name_server_follows_its_node() -> None:
    async with world() as here:
        cache = here.cache("endpointslices", "discovery.k8s.io")
        old = here.cache("endpoints")

        def told() -> list[list[str]]:
            """The nodes that the service's Endpoints name: ready ones, others."""
            found = old.get("kube-system", "kube-dns") or {}
            (subset,) = found.get("subsets") or [{}]
            lists = (subset.get(key) or () for key in ("addresses", "notReadyAddresses"))
            return [[item["nodeName"] for item in addresses] for addresses in lists]

        def serves(name: str) -> bool | None:
            found = cache.get("kube-system", f"kube-dns-{name}")
            return found["endpoints"][0]["conditions"]["ready"] if found else None

        for name in ("cut", "fine"):
            await here.client.create(NODES, {"metadata": {"name": name}})
            await here.client.patch(NODES, name, ready("True"), subresource="status")
            body = slice_object(Place("10.96.0.10", name, "10.244.0.1"))
            await here.client.create(SLICES, body, "kube-system")
        await here.client.patch(NODES, "cut", ready("Unknown"), subresource="status")
        await here.until(lambda: serves("cut") is False)
        assert serves("fine") is True
        await here.until(lambda: told() == [["fine"], ["cut"]])
        await here.client.delete(NODES, "cut")
        await here.until(lambda: serves("cut") is None)
        assert serves("fine") is True
        await here.until(lambda: told() == [["fine"], []])
