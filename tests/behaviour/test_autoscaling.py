"""Horizontal pod autoscalers against simulated pods: what they scale, and what they say."""

from __future__ import annotations

from typing import Any

from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.node.simulation.outcome import Outcome
from sampan.testing.cluster import Cluster

from .job_kit import cluster, events
from .workload_kit import deployment

AUTOSCALERS = resource("horizontalpodautoscalers", "autoscaling")
KIND = "HorizontalPodAutoscaler"


def autoscaler(name: str = "web", /, **spec: Any) -> Object:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": KIND,
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "maxReplicas": 10,
            **spec,
        },
    }


def cpu(percent: int = 50) -> list[Object]:
    target = {"type": "Utilization", "averageUtilization": percent}
    return [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]


def busy(name: str = "web", replicas: int = 1) -> Object:
    body = deployment(name, replicas)
    requests = {"requests": {"cpu": "100m", "memory": "100Mi"}}
    body["spec"]["template"]["spec"]["containers"][0]["resources"] = requests
    return body


async def conditions(found: Cluster, name: str = "web") -> dict[str, str]:
    status = (await found.client.get(AUTOSCALERS, name, "default"))["status"]
    return {item["type"]: f"{item['status']} {item['reason']}" for item in status["conditions"]}


async def size(found: Cluster, name: str = "web") -> int:
    return int((await found.get("deployment", name))["spec"]["replicas"])


async def test_a_busy_deployment_grows_and_shrinks_again() -> None:
    async with cluster() as found:
        found.script(Outcome(cpu="200m"), "web-*")
        await found.apply(busy())
        await found.settle()
        # CPU of the pod's start is not believed.
        await found.advance(30)
        await found.apply(autoscaler(metrics=cpu()))
        await found.settle()
        assert await size(found) == 4
        said = await conditions(found)
        assert said == {
            "AbleToScale": "True SucceededRescale",
            "ScalingActive": "True ValidMetricFound",
            "ScalingLimited": "False DesiredWithinRange",
        }
        reason = "cpu resource utilization (percentage of request) above target"
        assert await events(found, KIND) == [
            f"Normal SuccessfulRescale: New size: 4; reason: {reason}"
        ]
        status = (await found.client.get(AUTOSCALERS, "web", "default"))["status"]
        assert (status["currentReplicas"], status["desiredReplicas"]) == (1, 4)
        current = {"averageUtilization": 200, "averageValue": "200m"}
        assert status["currentMetrics"] == [
            {"type": "Resource", "resource": {"name": "cpu", "current": current}}
        ]
        await found.advance(60)
        assert await size(found) == 10
        said = await conditions(found)
        assert said["ScalingLimited"] == "True TooManyReplicas"
        found.script(Outcome(cpu="1m"), "web-*")
        await found.advance(240)
        assert await size(found) == 10
        assert (await conditions(found))["AbleToScale"] == "True ScaleDownStabilized"
        await found.advance(90)
        assert await size(found) == 1
        told = await events(found, KIND)
        assert told[-1] == "Normal SuccessfulRescale: New size: 1; reason: All metrics below target"
