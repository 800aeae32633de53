"""What the scheduler does with pods, seen over the API: preemption, affinity, gates, waiting."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sampan.api.errors import Object
from sampan.node.simulation.outcome import Outcome
from sampan.testing.cluster import Cluster, Options

CAPACITY = {"cpu": "2", "memory": "4Gi", "pods": "10"}
HOST = "kubernetes.io/hostname"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


@asynccontextmanager
async def cluster(nodes: int = 1) -> AsyncIterator[Cluster]:
    options = Options(nodes=nodes, virtual_time=True, capacity=CAPACITY)
    async with await Cluster.start(options) as found:
        for name, value in (("low", 10), ("high", 1000)):
            await found.create(
                {
                    "apiVersion": "scheduling.k8s.io/v1",
                    "kind": "PriorityClass",
                    "metadata": {"name": name},
                    "value": value,
                }
            )
        yield found


def pod(name: str, cpu: str = "100m", labels: Any = None, **spec: Any) -> Object:
    requests = {"cpu": cpu}
    container = {"name": "c", "image": "web:1", "resources": {"requests": requests}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": labels or {}},
        "spec": {"containers": [container], **spec},
    }


async def node_of(found: Cluster, name: str) -> str:
    node: str = (await found.get("pod", name))["spec"].get("nodeName", "")
    return node


async def why(found: Cluster, name: str) -> str:
    """The PodScheduled condition's message."""
    status = (await found.get("pod", name))["status"]
    conditions = status.get("conditions") or ()
    return next((c.get("message", "") for c in conditions if c["type"] == "PodScheduled"), "")


async def events(found: Cluster, name: str, reason: str) -> list[str]:
    return [
        item["message"]
        for item in await found.list("events")
        if item["involvedObject"]["name"] == name and item["reason"] == reason
    ]


async def test_a_more_important_pod_sends_away_just_who_must_go() -> None:
    async with cluster() as found:
        found.script(Outcome(stop_s=5))
        await found.create(pod("small", "500m", priorityClassName="low"))
        await found.create(pod("big", "1200m", priorityClassName="low"))
        await found.settle()
        await found.create(pod("important", "1200m", priorityClassName="high"))
        await found.settle()
        nominated = await found.get("pod", "important")
        assert nominated["status"]["nominatedNodeName"] == "node-0"
        assert await why(found, "important") == "0/1 nodes are available: 1 Insufficient cpu."
        victim = await found.get("pod", "big")
        condition = next(
            item for item in victim["status"]["conditions"] if item["type"] == "DisruptionTarget"
        )
        assert condition["reason"] == "PreemptionByScheduler"
        assert condition["message"] == (
            "default-scheduler: preempting to accommodate a higher priority pod"
        )
        assert victim["metadata"]["deletionGracePeriodSeconds"] == 30
        uid = nominated["metadata"]["uid"]
        assert await events(found, "big", "Preempted") == [f"Preempted by pod {uid} on node node-0"]
        # The place that is becoming free is kept: a pod that would fit now does not get it.
        await found.create(pod("quick", "400m", priorityClassName="low"))
        await found.advance(60)
        assert await found.find("pod", "big") is None
        assert await node_of(found, "important") == "node-0"
        assert await node_of(found, "small") == "node-0"
        assert await node_of(found, "quick") == ""
        assert "nominatedNodeName" not in (await found.get("pod", "important"))["status"]


async def test_budgets_are_kept_where_another_node_can_be_had() -> None:
    async with cluster(2) as found:
        for number in range(2):
            kept = {"app": "kept"} if number == 0 else {"app": "free"}
            await found.create(
                pod(f"p{number}", "1500m", kept, priorityClassName="low", nodeName=f"node-{number}")
            )
        await found.create(
            {
                "apiVersion": "policy/v1",
                "kind": "PodDisruptionBudget",
                "metadata": {"name": "b", "namespace": "default"},
                "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "kept"}}},
            }
        )
        await found.settle()
        await found.create(pod("important", "1", priorityClassName="high"))
        await found.advance(60)
        assert await node_of(found, "important") == "node-1"
        assert await found.find("pod", "p0") is not None


async def test_who_may_not_preempt_says_so() -> None:
    async with cluster() as found:
        await found.create(pod("low", "1500m", priorityClassName="low"))
        await found.settle()
        await found.create(
            {
                "apiVersion": "scheduling.k8s.io/v1",
                "kind": "PriorityClass",
                "metadata": {"name": "polite"},
                "value": 500,
                "preemptionPolicy": "Never",
            }
        )
        await found.create(pod("polite", "1500m", priorityClassName="polite"))
        await found.settle()
        assert await why(found, "polite") == (
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, "
            "preemption: not eligible due to preemptionPolicy=Never."
        )
        await found.delete("pod", "low")
        await found.advance(60)
        assert await node_of(found, "polite") == "node-0"


async def test_one_per_host_and_why_there_is_no_third() -> None:
    rule = {"topologyKey": HOST, "labelSelector": {"matchLabels": {"app": "a"}}}
    affinity = {"podAntiAffinity": {REQUIRED: [rule]}}
    async with cluster(2) as found:
        for number in range(3):
            await found.create(pod(f"p{number}", labels={"app": "a"}, affinity=affinity))
        await found.create(pod("plain", labels={"app": "a"}))
        await found.settle()
        assert {await node_of(found, "p0"), await node_of(found, "p1")} == {"node-0", "node-1"}
        assert await why(found, "p2") == (
            "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules. "
            "no new claims to deallocate, preemption: 0/2 nodes are available: "
            "2 No preemption victims found for incoming pod."
        )
        assert (await why(found, "plain")).startswith(
            "0/2 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules."
        )
        await found.delete("pod", "p0", options={"gracePeriodSeconds": 0})
        await found.advance(2)
        assert await node_of(found, "p2") != ""


async def test_a_pod_waits_for_the_one_it_wants_to_be_near() -> None:
    rule = {"topologyKey": HOST, "labelSelector": {"matchLabels": {"app": "cache"}}}
    async with cluster(2) as found:
        await found.create(pod("web", affinity={"podAffinity": {REQUIRED: [rule]}}))
        await found.settle()
        assert (await why(found, "web")).startswith(
            "0/2 nodes are available: 2 node(s) didn't match pod affinity rules."
        )
        await found.create(pod("cache", labels={"app": "cache"}))
        await found.advance(2)
        assert await node_of(found, "web") == await node_of(found, "cache") != ""


async def test_hosts_are_filled_evenly() -> None:
    constraint = {
        "maxSkew": 1,
        "topologyKey": HOST,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "a"}},
    }
    async with cluster(3) as found:
        for number in range(6):
            await found.create(
                pod(f"p{number}", labels={"app": "a"}, topologySpreadConstraints=[constraint])
            )
        await found.settle()
        nodes = [await node_of(found, f"p{number}") for number in range(6)]
        assert {name: nodes.count(name) for name in set(nodes)} == {
            "node-0": 2,
            "node-1": 2,
            "node-2": 2,
        }


async def test_a_gated_pod_is_not_looked_at_until_its_gates_are_gone() -> None:
    async with cluster() as found:
        await found.create(pod("gated", schedulingGates=[{"name": "example.com/wait"}]))
        await found.settle()
        assert await node_of(found, "gated") == ""
        assert await events(found, "gated", "FailedScheduling") == []
        await found.patch("pod", "gated", {"spec": {"schedulingGates": None}})
        await found.settle()
        assert await node_of(found, "gated") == "node-0"


async def test_what_is_counted_has_upstreams_names() -> None:
    async with cluster() as found:
        await found.create(pod("small"))
        await found.create(pod("big", "9"))
        await found.create(pod("held", schedulingGates=[{"name": "example.com/wait"}]))
        await found.settle()
        text = (await found.client.transport.request("GET", "/metrics"))["text"]
        for line in (
            'scheduler_pending_pods{queue="active"} 0',
            'scheduler_pending_pods{queue="unschedulable"} 1',
            'scheduler_pending_pods{queue="gated"} 1',
            'scheduler_schedule_attempts_total{profile="default-scheduler",result="scheduled"} 1',
            'scheduler_schedule_attempts_total{profile="default-scheduler",result="unschedulable"}',
            'scheduler_pod_scheduling_attempts_bucket{le="1"} 1',
            'scheduler_pod_scheduling_sli_duration_seconds_count{attempts="1"} 1',
            'result="scheduled",le="+Inf"} 1',
            "scheduler_preemption_attempts_total 0",
            'scheduler_queue_incoming_pods_total{queue="active",event="UnschedulablePodAdd"} 2',
            'scheduler_queue_incoming_pods_total{queue="unschedulable",event="ScheduleAttemptFailure"}',
            'scheduler_framework_extension_point_duration_seconds_bucket{extension_point="Bind",'
            'status="Success",profile="default-scheduler",le="0.0001"}',
            'scheduler_framework_extension_point_duration_seconds_count{extension_point="PostFilter",'
            'status="Unschedulable",profile="default-scheduler"} 1',
        ):
            assert f"\n{line}" in text or line in text, line


async def test_what_pods_ask_for_is_told_to_scrapers() -> None:
    async with cluster() as found:
        await found.create(pod("small", "250m"))
        await found.create(pod("over", "1", priorityClassName="low"))
        await found.settle()
        text = (await found.client.transport.request("GET", "/metrics/resources"))["text"]
        where = 'namespace="default",pod="small",node="node-0",scheduler="default-scheduler"'
        line = f'kube_pod_resource_request{{{where},priority="0",resource="cpu",unit="cores"}} 0.25'
        assert line in text.splitlines()
        assert 'pod="over",node="node-0",scheduler="default-scheduler",priority="10"' in text
        assert "kube_pod_resource_limit{" not in text, "they have none"


@pytest.mark.parametrize("helpful", [True, False])
async def test_a_waiting_pod_is_woken_by_what_can_help(helpful: bool) -> None:
    async with cluster() as found:
        await found.create(pod("waiting", nodeSelector={"disk": "ssd"}))
        await found.settle()
        label = {"disk": "ssd"} if helpful else {"disk": "hdd"}
        await found.patch("node", "node-0", {"metadata": {"labels": label}})
        await found.settle()
        # No back-off is waited out where nobody else is to be tried.
        assert (await node_of(found, "waiting") != "") == helpful
        await found.advance(20)
        assert (await node_of(found, "waiting") != "") == helpful
        [event] = [
            item for item in await found.list("events") if item["reason"] == "FailedScheduling"
        ]
        assert event.get("count", 1) == 1


async def test_pods_of_a_deployment_are_spread_though_they_do_not_ask() -> None:
    template = pod("", "10m", {"app": "web"})
    del template["metadata"]["name"], template["metadata"]["namespace"]
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": template["metadata"], "spec": template["spec"]},
        },
    }
    async with cluster(2) as found:
        # By what is free alone, both would go to the emptier node.
        await found.create(pod("other", "800m", nodeName="node-0"))
        await found.create(deployment)
        await found.settle()
        pods = await found.list("pods", labels="app=web")
        assert {item["spec"]["nodeName"] for item in pods} == {"node-0", "node-1"}


async def claim(found: Cluster, name: str, mode: str, **labels: str) -> Object:
    """A claim bound to a volume with these labels; what a pod says of it."""
    spec = {"accessModes": [mode], "storageClassName": ""}
    await found.create(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name, "labels": labels},
            "spec": {
                **spec,
                "capacity": {"storage": "1Gi"},
                "csi": {"driver": "example.com", "volumeHandle": name},
            },
        }
    )
    await found.create(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {**spec, "resources": {"requests": {"storage": "1Gi"}}, "volumeName": name},
        }
    )
    await found.settle()
    return {"name": "v", "persistentVolumeClaim": {"claimName": name}}


async def test_a_volume_is_had_in_its_zone() -> None:
    zone = "topology.kubernetes.io/zone"
    async with cluster(2) as found:
        for number in range(2):
            label = {"metadata": {"labels": {zone: f"z{number}"}}}
            await found.patch("node", f"node-{number}", label)
        volume = await claim(found, "there", "ReadWriteOnce", **{zone: "z1"})
        gone = await claim(found, "nowhere", "ReadWriteOnce", **{zone: "z9"})
        await found.create(pod("there", volumes=[volume]))
        await found.create(pod("nowhere", volumes=[gone]))
        await found.settle()
        assert await node_of(found, "there") == "node-1"
        assert (await why(found, "nowhere")).startswith(
            "0/2 nodes are available: 2 node(s) had no available volume zone."
        )


async def test_no_more_volumes_than_a_driver_attaches() -> None:
    async with cluster(2) as found:
        for number in range(2):
            driver = {"name": "example.com", "nodeID": "n", "allocatable": {"count": 1 - number}}
            await found.create(
                {
                    "apiVersion": "storage.k8s.io/v1",
                    "kind": "CSINode",
                    "metadata": {"name": f"node-{number}"},
                    "spec": {"drivers": [driver]},
                }
            )
        for name in ("first", "second"):
            volume = await claim(found, name, "ReadWriteOnce")
            await found.create(pod(name, volumes=[volume]))
            await found.settle()
        assert await node_of(found, "first") == "node-0"
        assert (await why(found, "second")).startswith(
            "0/2 nodes are available: 2 node(s) exceed max volume count."
        )
        await found.delete("pod", "first", options={"gracePeriodSeconds": 0})
        await found.advance(2)
        assert await node_of(found, "second") == "node-0"
