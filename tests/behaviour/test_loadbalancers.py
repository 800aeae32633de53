"""Services of type LoadBalancer get addresses, each its own, and give them back."""

from __future__ import annotations

from typing import Any

from sampan.api.errors import Object
from sampan.api.resources import resource
from tests.behaviour.workload_kit import World, world
from tests.kit.clock import settle

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
    async with world(service_cidrs=CIDR) as here:
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


async def test_what_the_service_of_another_controller_had_is_free_when_it_goes() -> None:
    async with world(service_cidrs=CIDR) as here:
        cache = here.cache("services")
        await create(here, "foreign", loadBalancerClass="example.com/other")
        given = {"status": {"loadBalancer": {"ingress": [{"ip": "10.9.0.13"}]}}}
        await here.client.patch(SERVICES, "foreign", given, "default", "status")
        await here.until(lambda: address(cache.get("default", "foreign")))
        await create(here, "late", loadBalancerIP="10.9.0.13")
        await here.until(lambda: cache.get("default", "late"))
        await settle()
        assert not address(cache.get("default", "late"))
        await here.client.delete(SERVICES, "foreign", "default")
        await here.until(lambda: address(cache.get("default", "late")) == "10.9.0.13")


async def test_a_load_balancer_has_an_address_of_each_of_its_families() -> None:
    both = f"{CIDR},fd00:9::/124"
    config = {"service_cidr": "10.96.0.0/16,fd00:96::/112"}
    async with world(service_cidrs=both, config=config) as here:
        cache = here.cache("services")

        def of(name: str) -> list[str]:
            found = (cache.get("default", name) or {}).get("status") or {}
            return [item["ip"] for item in found.get("loadBalancer", {}).get("ingress") or ()]

        two = {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]}
        await create(here, "both", loadBalancerIP="10.9.0.13", **two)
        assert await here.until(lambda: of("both")) == ["fd00:9::e", "10.9.0.13"]
        await create(here, "six", ipFamilies=["IPv6"])
        assert await here.until(lambda: of("six")) == ["fd00:9::d"]
        # It is given a second family, and keeps what it has.
        change: Object = {"spec": {"ipFamilyPolicy": "PreferDualStack"}}
        await here.client.patch(SERVICES, "six", change, "default")
        await here.until(lambda: len(of("six")) == 2)
        assert of("six") == ["fd00:9::d", "10.9.0.14"]
        change = {"spec": {"ipFamilyPolicy": "SingleStack"}}
        await here.client.patch(SERVICES, "both", change, "default")
        await here.until(lambda: of("both") == ["fd00:9::e"])
        await create(here, "nonsense", loadBalancerIP="nonsense")
        await create(here, "late", ipFamilies=["IPv4"])
        await here.until(lambda: of("late"))
        assert of("late") == ["10.9.0.13"]
        assert not of("nonsense")
