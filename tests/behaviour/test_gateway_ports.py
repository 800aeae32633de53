"""Ports of Gateways: given to a proxy that has to be told where to listen, by its class's word."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import yaml

from sampan import addons
from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.client.informer import Informer
from sampan.controllers.gatewayports import (
    ANNOTATION,
    PORTS_MAX,
    GatewayPortsController,
    change_service,
    ports_of,
)
from sampan.controllers.runtime.custom import FILL_S, custom_resource, definitions_resource
from sampan.controllers.runtime.queue import Request, Requeue
from tests.behaviour.workload_kit import DEPLOYMENTS, World, world

FOLDER = Path(addons.__path__[0]) / "ingress"
SERVICES = resource("services")


async def define(here: World, file: str) -> Any:
    """A kind of the add-on, once it is served."""
    definitions = here.cache("customresourcedefinitions", "apiextensions.k8s.io")
    body = yaml.safe_load((FOLDER / file).read_text())
    await here.client.create(definitions_resource(), body)
    name = body["metadata"]["name"]
    await here.until(lambda: custom_resource(definitions.get("", name) or {"status": {}}))
    return custom_resource(definitions.get("", name) or {})


def gateway(name: str, *ports: int, of: str = "t", at: str = "", protocol: str = "HTTP") -> Object:
    listeners = [{"name": f"l{port}", "port": port, "protocol": protocol} for port in ports]
    meta: Object = {"name": name} | ({"creationTimestamp": at} if at else {})
    return {"metadata": meta, "spec": {"gatewayClassName": of, "listeners": listeners}}


async def test_the_proxy_listens_where_its_gateways_do() -> None:
    async with world() as here:
        container = {
            "name": "c", "image": "x", "env": [{"name": "KEPT", "value": "1"}],
            "ports": [{"name": "web", "containerPort": 80}],
        }  # fmt: skip
        labels = {"app": "p"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
        await here.client.create(DEPLOYMENTS, {"metadata": {"name": "p"}, "spec": spec}, "default")
        ports = [{"name": "web", "port": 80}]
        service = {"metadata": {"name": "p"}, "spec": {"selector": labels, "ports": ports}}
        await here.client.create(SERVICES, service, "default")
        classes = await define(here, "10-gateway-classes.yaml")
        gateways = await define(here, "11-gateways.yaml")
        await here.client.create(gateways, gateway("a", 80, 8443), "default")
        await here.client.create(gateways, gateway("b", 9999, of="other"), "default")
        meta = {"name": "t", "annotations": {ANNOTATION: "default/p"}}
        controller = {"controllerName": "example.com/t"}
        await here.client.create(classes, {"metadata": meta, "spec": controller})
        deployments, services = here.cache("deployments", "apps"), here.cache("services")

        def listens() -> tuple[list[int], list[int], list[str]]:
            [item] = deployments.get("default", "p")["spec"]["template"]["spec"]["containers"]
            served = services.get("default", "p")["spec"]["ports"]
            return (
                sorted(port["containerPort"] for port in item["ports"]),
                sorted(port["port"] for port in served),
                sorted(f"{it['name']}={it['value']}" for it in item["env"]),
            )

        more = "TRAEFIK_ENTRYPOINTS_GW8443_ADDRESS=:8443"
        await here.until(lambda: listens() == ([80, 8443], [80, 8443], ["KEPT=1", more]))
        # Somebody brings it back to what it was.
        await here.client.patch(SERVICES, "p", {"spec": {"ports": ports}}, "default")
        await here.until(lambda: listens()[1] == [80, 8443])
        await here.client.delete(gateways, "a", "default")
        await here.until(lambda: listens() == ([80], [80], ["KEPT=1"]))


def test_the_oldest_gateways_have_the_first_ports() -> None:
    old, new = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
    found = [
        gateway("b", *range(5000, 5040), at=new), gateway("a", 7000, 80, at=old),
        gateway("u", 53, at=old, protocol="UDP"),
    ]  # fmt: skip
    wanted = ports_of(found, "t")
    assert wanted[:3] == [7000, 80, 5000]
    ports = [{"name": "web", "port": 80}]
    added = change_service({"spec": {"ports": ports}}, wanted)["ports"]
    assert [item["port"] for item in added] == [7000, *range(5000, 5000 + PORTS_MAX - 1)]
    assert change_service({"spec": {"ports": [*ports, *added]}}, wanted) == {}


async def test_kinds_that_go_before_they_are_listed_hold_nobody_up() -> None:
    controller = object.__new__(GatewayPortsController)
    client: Any = None
    controller.kinds = {
        plural: Informer(client, SERVICES) for plural in ("gatewayclasses", "gateways")
    }
    async with asyncio.timeout(1):
        assert await controller.reconcile(Request("", "t")) == Requeue(FILL_S)
