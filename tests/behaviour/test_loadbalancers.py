"""Services of type LoadBalancer get addresses, each its own, and give them back."""

from __future__ import annotations

from typing import Any

from sampan.api.errors import Object
from sampan.api.resources import resource
from tests.behaviour.workload_kit import World, world

SERVICES = resource("services")
CIDR = "10.9.0.0/28"


def service(name: str, **spec: Any) -> Object:
    meta = {"name": name, "namespace": "default"}
    return {"metadata": meta, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], **spec}}


def address(found: Object | None) -> str:
    ingress = ((found or {}).get("status") or {}).get("loadBalancer", {}).get("ingress") or [{}]
    return str(ingress[0].get("ip", ""))


async def create(here: World, name: str, **spec: Any) -> None:
    await here.client.create(SERVICES, service(name, **spec), "default")


async def test_each_load_balancer_has_an_address_of_its_own() -> None:
    async with world(service_cidr=CIDR) as here:
        cache = here.cache("services")

        def of(name: str) -> str:
            return address(cache.get("default", name))

        await create(here, "asks", loadBalancerIP="10.9.0.13")
        assert await here.until(lambda: of("asks")) == "10.9.0.13"
        for name in ("one", "two"):
            await create(here, name)
        await create(here, "foreign", loadBalancerClass="example.com/other")
        found = {await here.until(lambda name=name: of(name)) for name in ("one", "two")}
        assert found == {"10.9.0.14", "10.9.0.12"}
        await create(here, "late", loadBalancerIP="10.9.0.13")
        await create(here, "more")
        await here.until(lambda: of("more"))
        # The service that has the address goes, and the one that waits for it gets it.
        assert not of("late")
        assert not of("foreign")
        change = {"spec": {"type": "ClusterIP"}}
        await here.client.patch(SERVICES, "asks", change, "default")
        assert await here.until(lambda: of("late")) == "10.9.0.13"
        assert not of("asks")
        events = here.cache("events")
        why = "failed to ensure load balancer: address 10.9.0.13 is not available"
        text = f"Error syncing load balancer: {why}"
        await here.until(lambda: any(item["message"] == text for item in events.list()))
