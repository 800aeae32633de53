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
        counted = (await found.client.transport.request("GET", "/metrics"))["text"].splitlines()
        name = "horizontal_pod_autoscaler_controller"
        for labels, count in (
            ('action="scale_up",error="none"', 3),
            ('action="scale_down",error="none"', 1),
        ):
            assert f"{name}_reconciliations_total{{{labels}}} {count}" in counted
        kind = 'action="scale_up",error="none",metric_type="Resource"'
        assert any(f"{name}_metric_computation_total{{{kind}}}" in line for line in counted)


async def test_targets_outside_their_bounds_and_turned_off() -> None:
    async with cluster() as found:
        await found.apply(busy(replicas=3))
        await found.apply(autoscaler(minReplicas=5, metrics=cpu()))
        # A Deployment whose status is being written meanwhile is asked again at once.
        await found.advance(1)
        assert await size(found) == 5
        reason = "Current number of replicas below Spec.MinReplicas"
        assert f"Normal SuccessfulRescale: New size: 5; reason: {reason}" in await events(
            found, KIND
        )
        await found.apply(autoscaler(minReplicas=1, maxReplicas=2, metrics=cpu()))
        await found.settle()
        assert await size(found) == 2
        await found.apply(busy(replicas=0))
        await found.advance(15)
        assert await size(found) == 0
        assert (await conditions(found))["ScalingActive"] == "False ScalingDisabled"


async def test_what_cannot_be_scaled_or_measured() -> None:
    async with cluster() as found:
        await found.apply(autoscaler(metrics=cpu()))
        await found.settle()
        assert await conditions(found) == {"AbleToScale": "False FailedGetScale"}
        text = 'deployments.apps "web" not found'
        assert await events(found, KIND) == [f"Warning FailedGetScale: {text}"]
        # No container asks for any CPU.
        await found.apply(deployment())
        await found.advance(45)
        assert await conditions(found) == {
            "AbleToScale": "True SucceededGetScale",
            "ScalingActive": "False FailedGetResourceMetric",
        }
        status = (await found.client.get(AUTOSCALERS, "web", "default"))["status"]
        why = "failed to get cpu utilization: missing request for cpu in container c of Pod "
        [message] = [
            item["message"] for item in status["conditions"] if item["type"] == "ScalingActive"
        ]
        assert message.startswith(f"the HPA was unable to compute the replica count: {why}")
        assert (status["currentReplicas"], status["currentMetrics"]) == (3, [{"type": ""}])
        told = await events(found, KIND)
        outer = "invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource"
        assert any(
            item.startswith(f"Warning FailedComputeMetricsReplicas: {outer} metric value: {why}")
            for item in told
        )
        assert await size(found) == 3
        kind = {"apiVersion": "example.com/v1", "kind": "Ship", "name": "s"}
        await found.apply(autoscaler("ship", scaleTargetRef=kind, metrics=cpu()))
        await found.settle()
        assert await conditions(found, "ship") == {"AbleToScale": "False FailedGetScale"}
        assert 'Warning FailedGetScale: no matches for kind "Ship" in group "example.com"' in (
            await events(found, KIND)
        )


async def test_metrics_that_no_api_serves() -> None:
    async with cluster() as found:
        await found.apply(busy())
        metric = {"name": "orders"}
        value = {"type": "Value", "value": "10"}
        each = {"type": "AverageValue", "averageValue": "10"}
        described = {"apiVersion": "v1", "kind": "Service", "name": "shop"}
        custom = (
            "unable to fetch metrics from custom metrics API: no custom metrics API "
            "(custom.metrics.k8s.io) registered"
        )
        for kind, source, reason, text in (
            ("Pods", {"metric": metric, "target": each}, "FailedGetPodsMetric",
             f"unable to get metric orders: {custom}"),
            ("Object", {"metric": metric, "target": value, "describedObject": described},
             "FailedGetObjectMetric",
             f"unable to get metric orders: Service on default shop/{custom}"),
            ("External", {"metric": metric, "target": value}, "FailedGetExternalMetric",
             "unable to get external metric default/orders/nil: unable to fetch metrics from "
             "external metrics API: "),
        ):  # fmt: skip
            metrics = [{"type": kind, kind.lower(): source}]
            await found.apply(autoscaler(metrics=metrics))
            await found.settle()
            assert (await conditions(found))["ScalingActive"] == f"False {reason}"
            assert any(
                item.startswith(f"Warning {reason}: {text}") for item in await events(found, KIND)
            ), "\n".join(await events(found, KIND))
        # With one metric that is known, it grows, but never shrinks.
        found.script(Outcome(cpu="200m"), "web-*")
        await found.advance(30)
        await found.apply(autoscaler(metrics=[*metrics, *cpu()]))
        await found.settle()
        assert await size(found) == 4
        assert (await conditions(found))["ScalingActive"] == "True ValidMetricFound"
        found.script(Outcome(cpu="1m"), "web-*")
        await found.advance(600)
        assert await size(found) == 4
        assert (await conditions(found))["ScalingActive"] == "False FailedGetExternalMetric"


async def test_two_autoscalers_of_the_same_pods_do_nothing() -> None:
    async with cluster() as found:
        found.script(Outcome(cpu="200m"), "web-*")
        await found.apply(busy())
        await found.advance(30)
        await found.apply(autoscaler("one", metrics=cpu(), minReplicas=1))
        await found.apply(autoscaler("two", metrics=cpu(), minReplicas=1))
        await found.settle()
        before = await size(found)
        await found.advance(60)
        assert await size(found) == before
        for name in ("one", "two"):
            assert (await conditions(found, name))["ScalingActive"] == "False AmbiguousSelector"
        both = "[{one default} {two default}]"
        text = f"pods by selector app=web are controlled by multiple HPAs: {both}"
        assert f"Warning AmbiguousSelector: {text}" in await events(found, KIND)
        await found.client.delete(AUTOSCALERS, "two", "default")
        await found.advance(30)
        assert (await conditions(found, "one"))["ScalingActive"] == "True ValidMetricFound"


async def test_one_container_of_a_pod_is_measured() -> None:
    async with cluster() as found:
        body = busy()
        containers = body["spec"]["template"]["spec"]["containers"]
        containers.append({**containers[0], "name": "idle"})
        found.script(Outcome(cpu="150m"), "web-*", container="c")
        await found.apply(body)
        await found.advance(30)
        target = {"type": "AverageValue", "averageValue": "50m"}
        source = {"name": "cpu", "container": "c", "target": target}
        metrics = [{"type": "ContainerResource", "containerResource": source}]
        await found.apply(autoscaler(metrics=metrics))
        await found.settle()
        assert await size(found) == 3
        status = (await found.client.get(AUTOSCALERS, "web", "default"))["status"]
        current = {"name": "cpu", "container": "c", "current": {"averageValue": "150m"}}
        assert status["currentMetrics"] == [
            {"type": "ContainerResource", "containerResource": current}
        ]
        source["container"] = "gone"
        await found.apply(autoscaler(metrics=metrics))
        await found.settle()
        assert (await conditions(found))[
            "ScalingActive"
        ] == "False FailedGetContainerResourceMetric"


async def test_behaviour_paces_it() -> None:
    async with cluster() as found:
        found.script(Outcome(cpu="900m"), "web-*")
        await found.apply(busy())
        await found.advance(30)
        policies = [{"type": "Pods", "value": 1, "periodSeconds": 60}]
        up = {"policies": policies}
        down = {"selectPolicy": "Disabled"}
        await found.apply(autoscaler(metrics=cpu(), behavior={"scaleUp": up, "scaleDown": down}))
        await found.settle()
        sizes = [await size(found)]
        for _ in range(8):
            await found.advance(15)
            sizes.append(await size(found))
        assert sizes == [2, 2, 2, 2, 3, 3, 3, 3, 4]
        assert (await conditions(found))["ScalingLimited"] == "True ScaleUpLimit"
        found.script(Outcome(cpu="1m"), "web-*")
        await found.advance(600)
        assert await size(found) == 4
        assert (await conditions(found))["ScalingLimited"] == "True ScaleDownLimit"


def fleets() -> Object:
    """A definition of things that can be scaled."""
    scale = {
        "specReplicasPath": ".spec.size",
        "statusReplicasPath": ".status.size",
        "labelSelectorPath": ".status.selector",
    }
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"scale": scale},
    }
    names = {"plural": "fleets", "singular": "fleet", "kind": "Fleet"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "fleets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": names,
            "versions": [version],
        },
    }


def fleet(size: int = 1) -> Object:
    return {
        "apiVersion": "example.com/v1",
        "kind": "Fleet",
        "metadata": {"name": "f", "namespace": "default"},
        "spec": {"size": size},
        "status": {"size": size, "selector": "app=web"},
    }


async def test_custom_resources_are_scaled() -> None:
    async with cluster() as found:
        await found.apply(fleets())
        await found.settle()
        await found.apply(fleet())
        found.script(Outcome(cpu="200m"), "web-*")
        await found.apply(busy())
        await found.advance(30)
        reference = {"apiVersion": "example.com/v1", "kind": "Fleet", "name": "f"}
        await found.apply(autoscaler(scaleTargetRef=reference, metrics=cpu()))
        await found.settle()
        assert (await found.get("fleet", "f"))["spec"]["size"] == 4
