"""ServiceCIDRs and IPAddresses: what ranges services' addresses come from, and who has which."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.errors import Invalid, Object
from sampan.api.resources import resource
from sampan.controllers.servicecidr import FINALIZER, IN_USE, READY
from tests.behaviour.workload_kit import World, world

SERVICES = resource("services")
RANGES = resource("servicecidrs", "networking.k8s.io")
ADDRESSES = resource("ipaddresses", "networking.k8s.io")
SECOND = "10.77.0.0/28"


def service(name: str, **spec: Any) -> Object:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


def service_range(name: str, *cidrs: str) -> Object:
    return {"metadata": {"name": name}, "spec": {"cidrs": [*cidrs]}}


def ready(found: Object | None) -> tuple[str, str]:
    conditions = ((found or {}).get("status") or {}).get("conditions") or [{}]
    return str(conditions[0].get("status")), str(conditions[0].get("message"))


async def create(here: World, name: str, **spec: Any) -> Object:
    return await here.client.create(SERVICES, service(name, **spec), "default")


async def test_a_second_range_is_used_and_stays_while_it_is() -> None:
    async with world() as here:
        ranges, addresses = here.cache(RANGES.plural, RANGES.group), here.cache(
            ADDRESSES.plural, ADDRESSES.group
        )  # fmt: skip
        own = await here.until(lambda: ranges.get("", "kubernetes"))
        assert own["spec"]["cidrs"] == ["10.96.0.0/12"]
        await here.until(lambda: ready(ranges.get("", "kubernetes")) == ("True", READY))
        with pytest.raises(Invalid, match=r"does not match the current range$"):
            await create(here, "early", clusterIP="10.77.0.3")
        await here.client.create(RANGES, service_range("second", SECOND))
        await here.until(lambda: ready(ranges.get("", "second")) == ("True", READY))
        assert ranges.get("", "second")["metadata"]["finalizers"] == [FINALIZER]
        await create(here, "here", clusterIP="10.77.0.3")
        shown = await here.until(lambda: addresses.get("", "10.77.0.3"))
        assert shown["spec"]["parentRef"] == {
            "resource": "services", "namespace": "default", "name": "here"
        }  # fmt: skip
        assert shown["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"] == "IPv4"
        # Deleted, but one service has no other range: it stays, and gives nothing out.
        await here.client.delete(RANGES, "second")
        await here.until(lambda: ready(ranges.get("", "second")) == ("False", IN_USE))
        with pytest.raises(Invalid, match=r"does not match the current range$"):
            await create(here, "late", clusterIP="10.77.0.4")
        await here.client.delete(SERVICES, "here", "default")
        await here.until(lambda: ranges.get("", "second") is None)
        await here.until(lambda: addresses.get("", "10.77.0.3") is None)


async def test_addresses_that_somebody_keeps_are_nobody_elses() -> None:
    async with world() as here:
        parent = {"group": "example.com", "resource": "gateways", "name": "gate"}
        kept = {"metadata": {"name": "10.96.3.3"}, "spec": {"parentRef": parent}}
        await here.client.create(ADDRESSES, kept)
        with pytest.raises(Invalid, match="already allocated"):
            await create(here, "web", clusterIP="10.96.3.3")
        await here.client.delete(ADDRESSES, "10.96.3.3")
        await create(here, "web", clusterIP="10.96.3.3")


async def test_an_address_outside_every_range_is_said() -> None:
    async with world() as here:
        ranges = here.cache(RANGES.plural, RANGES.group)
        await here.client.create(RANGES, service_range("second", SECOND))
        await create(here, "lost", clusterIP="10.77.0.3")
        # By force: whoever takes the finalizer away means it.
        await here.until(lambda: ready(ranges.get("", "second"))[0] == "True")
        await here.client.delete(RANGES, "second")
        await here.until(lambda: ready(ranges.get("", "second"))[0] == "False")
        patch = {"metadata": {"finalizers": None}}
        await here.client.patch(RANGES, "second", patch)
        await here.until(lambda: ranges.get("", "second") is None)
        shown = here.cache(ADDRESSES.plural, ADDRESSES.group)
        await here.client.delete(ADDRESSES, "10.77.0.3")
        await here.until(lambda: shown.get("", "10.77.0.3"))
        events = here.cache("events")

        def said() -> list[str]:
            return [item["message"] for item in events.list("default")
                    if item["reason"] == "ClusterIPOutOfRange"]  # fmt: skip

        (text,) = await here.until(said)
        assert text.startswith("Cluster IP [IPv4]:10.77.0.3 is not within any configured Service")
