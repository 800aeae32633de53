"""Autoscalers on metrics of another server: custom.metrics.k8s.io and external.metrics.k8s.io as
APIServices, seen through this one."""

from __future__ import annotations

import asyncio
from typing import Any

from sampan.aio.clock import SystemClock
from sampan.aio.tasks import Supervisor
from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.client.informer import Informers
from sampan.controllers.runtime.run import run_controllers
from tests.kit.hooks import Call, Reply

from .test_aggregation import APISERVICES, Bench, bench
from .test_autoscaling import autoscaler
from .workload_kit import DEPLOYMENTS, PATIENCE_S, deployment

AUTOSCALERS = resource("horizontalpodautoscalers", "autoscaling")
GROUPS = ("custom.metrics.k8s.io", "external.metrics.k8s.io")
SERVICE = {"apiVersion": "v1", "kind": "Service", "name": "shop"}


async def metrics(call: Call) -> Reply:
    path, _, query = call.target.partition("?")
    for group in GROUPS:
        if path == f"/apis/{group}/v1beta1":
            kind = {"kind": "APIResourceList", "groupVersion": f"{group}/v1beta1"}
            return Reply({**kind, "resources": []})
    if path.endswith("/services/shop/orders"):
        item: Object = {"describedObject": SERVICE, "metricName": "orders", "value": "70"}
    elif path.endswith("/queue") and "labelSelector=name%3Dmail" in query:
        item = {"metricName": "queue", "value": "90"}
    else:
        return Reply({"kind": "Status", "message": "nothing here", "code": 404}, 404)
    return Reply({"items": [{"timestamp": "2026-01-01T00:00:00Z", **item}]})


async def register(made: Bench, group: str) -> None:
    spec = {
        "group": group,
        "version": "v1beta1",
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "caBundle": made.extension.bundle,
        "service": {"namespace": "default", "name": "api", "port": made.extension.port},
    }
    body = {"metadata": {"name": f"v1beta1.{group}"}, "spec": spec}
    assert (await made.cluster.http("POST", APISERVICES, body)).status == 201
    await made.condition("Passed", f"v1beta1.{group}")


async def test_metrics_of_an_aggregated_api() -> None:
    async with bench(metrics) as made:
        external = {"type": "ExternalName", "externalName": "localhost"}
        service = {"metadata": {"name": "api"}, "spec": external}
        await made.cluster.http("POST", "/api/v1/namespaces/default/services", service)
        for group in GROUPS:
            await register(made, group)
        client = made.cluster.client
        supervisor = Supervisor()
        informers = Informers(client, supervisor)
        running = await run_controllers(client, informers, supervisor, SystemClock())
        try:
            assert await scaled(made, informers) == [7, 9]
        finally:
            await running.stop()
            await supervisor.stop()


async def scaled(made: Bench, informers: Informers) -> list[int]:
    """What two deployments come to: one by an object's metric, one by a queue outside."""
    client, changed = made.cluster.client, asyncio.Event()
    cache = informers.informer(DEPLOYMENTS)
    cache.on_change(lambda old, new: changed.set())
    target = {"type": "AverageValue", "averageValue": "10"}
    order: Object = {"describedObject": SERVICE, "metric": {"name": "orders"}, "target": target}
    mail = {"name": "queue", "selector": {"matchLabels": {"name": "mail"}}}
    sources: tuple[tuple[str, str, Any], ...] = (
        ("shop", "Object", {"object": order}),
        ("post", "External", {"external": {"metric": mail, "target": target}}),
    )
    for name, kind, source in sources:
        await client.create(DEPLOYMENTS, deployment(name, 1), "default")
        reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        behavior = {
            "scaleUp": {"policies": [{"type": "Pods", "value": 50, "periodSeconds": 15}]},
            "scaleDown": {},
        }
        body = autoscaler(
            name,
            scaleTargetRef=reference,
            metrics=[{"type": kind, **source}],
            behavior=behavior,
        )
        await client.create(AUTOSCALERS, body, "default")

    def sizes() -> list[int]:
        found = [cache.get("default", name) for name, _, _ in sources]
        return [int(item["spec"]["replicas"]) for item in found if item is not None]

    async with asyncio.timeout(PATIENCE_S):
        while len(sizes()) < 2 or 1 in sizes():
            changed.clear()
            await changed.wait()
    return sizes()
