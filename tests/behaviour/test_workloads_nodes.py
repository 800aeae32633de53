"""Services and nodes from end to end in one process: who is behind a service, and what happens
when a node falls silent."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.api.times import format_micro_time
from sampan.testing.cluster import Cluster as VirtualCluster
from sampan.testing.cluster import Options as VirtualOptions
from tests.kit.clock import FakeClock

from .workload_kit import DEPLOYMENTS, NODE, PODS, World, deployment, world

SERVICES = resource("services")
NODES = resource("nodes")
LEASES = resource("leases", "coordination.k8s.io")


def service(**spec: Any) -> Object:
    return {
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}], **spec},
    }


def ready_addresses(w: World) -> set[str]:
    slices = w.cache("endpointslices", "discovery.k8s.io").list("default")
    return {
        item["addresses"][0]
        for body in slices
        if body["metadata"]["labels"].get("kubernetes.io/service-name") == "web"
        for item in body["endpoints"]
        if item["conditions"]["ready"]
    }


def ips(w: World) -> set[str]:
    return {pod["status"].get("podIP", "") for pod in w.cache("pods").list("default")}


async def test_a_service_follows_its_pods() -> None:
    async with world() as w:
        await w.client.create(SERVICES, service(), "default")
        await w.client.create(DEPLOYMENTS, deployment(replicas=3), "default")
        await w.until(lambda: len(ips(w)) == 3)
        # Pods are behind services while their node is there.
        await add_node(w, NODE)
        await w.until(lambda: len(ready_addresses(w)) == 3 and ready_addresses(w) == ips(w))
        await w.client.delete(NODES, NODE)
        await w.until(lambda: not ready_addresses(w))
        await w.client.create(NODES, {"metadata": {"name": NODE}})
        await w.until(lambda: ready_addresses(w) == ips(w))
        endpoints = w.cache("endpoints")

        def legacy() -> set[str]:
            subsets = (endpoints.get("default", "web") or {}).get("subsets") or ()
            return {item["ip"] for subset in subsets for item in subset.get("addresses") or ()}

        await w.until(lambda: legacy() == ips(w))
        await w.client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 1}}, "default")
        await w.until(lambda: len(ready_addresses(w)) == 1 and legacy() == ready_addresses(w))
        # Another selector, other pods: none.
        await w.client.patch(SERVICES, "web", {"spec": {"selector": {"app": "x"}}}, "default")
        await w.until(lambda: not ready_addresses(w) and not legacy())
        await w.client.delete(SERVICES, "web", "default")
        slices = w.cache("endpointslices", "discovery.k8s.io")

        def slices_left() -> list[Object]:
            label = "kubernetes.io/service-name"
            found = slices.list("default")
            return [item for item in found if item["metadata"]["labels"].get(label) == "web"]

        await w.until(lambda: not slices_left() and endpoints.get("default", "web") is None)


async def add_node(w: World, name: str) -> None:
    await w.client.create(NODES, {"metadata": {"name": name}})
    found = await w.client.get(NODES, name)
    conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]
    await w.client.update(NODES, {**found, "status": {"conditions": conditions}}, "status")
    lease = {"metadata": {"name": name}, "spec": {"holderIdentity": name}}
    await w.client.create(LEASES, lease, "kube-node-lease")


async def renew(w: World, clock: FakeClock, name: str) -> None:
    patch = {"spec": {"renewTime": format_micro_time(clock.now())}}
    await w.client.patch(LEASES, name, patch, "kube-node-lease")
    cache = w.cache("leases", "coordination.k8s.io")
    found = lambda: cache.get("kube-node-lease", name)  # noqa: E731
    await w.until(lambda: found()["spec"].get("renewTime") == patch["spec"]["renewTime"])


async def test_a_new_node_is_announced_once_and_its_end_too() -> None:
    async with world() as w:
        events = w.cache("events")
        await add_node(w, "n2")
        await w.until(lambda: events.list("default"))
        [body] = events.list("default")
        assert (body["reason"], body["source"]) == (
            "RegisteredNode",
            {"component": "node-controller"},
        )
        assert body["message"] == "Node n2 event: Registered Node n2 in Controller"
        assert body["involvedObject"]["name"] == "n2"
        await w.client.delete(NODES, "n2")
        await w.until(lambda: len(events.list("default")) == 2)
        last = next(item for item in events.list("default") if item["reason"] == "RemovingNode")
        assert last["message"] == "Node n2 event: Removing Node n2 from Controller"


async def test_a_silent_node_loses_its_pods_and_comes_back() -> None:
    clock = FakeClock()
    async with world(clock=clock) as w:
        await add_node(w, NODE)
        await add_node(w, "n2")
        await w.client.create(SERVICES, service(), "default")
        toleration = {
            "key": "node.kubernetes.io/unreachable",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": 30,
        }
        pod = {
            "metadata": {"name": "p", "labels": {"app": "web"}},
            "spec": {
                "containers": [{"name": "c", "image": "i"}],
                "tolerations": [toleration],
                "terminationGracePeriodSeconds": 0,
            },
        }
        await w.client.create(PODS, pod, "default")
        await w.until(lambda: len(ready_addresses(w)) == 1)
        nodes, pods = w.cache("nodes"), w.cache("pods")

        def taints(name: str) -> set[str]:
            found = nodes.get("", name)["spec"].get("taints") or ()  # type: ignore[index]
            return {f"{item['key'].rpartition('/')[2]}:{item['effect']}" for item in found}

        await w.until(lambda: not taints(NODE) and not taints("n2"))
        for _ in range(3):
            await clock.advance(15)
            await renew(w, clock, "n2")
        gone = {"unreachable:NoSchedule", "unreachable:NoExecute"}
        await w.until(lambda: taints(NODE) == gone)
        assert not taints("n2")
        # Its pod is no longer behind the service, and goes when its toleration has run out.
        await w.until(lambda: not ready_addresses(w))
        await renew(w, clock, "n2")
        await clock.advance(24)
        assert pods.get("default", "p") is not None
        await renew(w, clock, "n2")
        await clock.advance(2)
        await w.until(lambda: pods.get("default", "p") is None)
        # The kubelet is back.
        await renew(w, clock, NODE)
        found = await w.client.get(NODES, NODE)
        conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]
        await w.client.update(NODES, {**found, "status": {"conditions": conditions}}, "status")
        await w.until(lambda: not taints(NODE))


async def test_pods_of_a_node_that_is_deleted_are_collected() -> None:
    clock = FakeClock()
    async with world(clock=clock) as w:
        await add_node(w, NODE)
        pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        await w.client.create(PODS, pod, "default")
        pods = w.cache("pods")
        await w.until(lambda: (pods.get("default", "p") or pod)["spec"].get("nodeName"))
        await w.client.delete(NODES, NODE)
        await w.until(lambda: w.cache("nodes").get("", NODE) is None)
        await clock.advance(39)
        assert pods.get("default", "p") is not None
        await clock.advance(2)
        await w.until(lambda: pods.get("default", "p") is None)


async def test_nodes_are_evicted_one_by_one_and_not_when_most_are_silent() -> None:
    async with await VirtualCluster.start(VirtualOptions(nodes=7, virtual_time=True)) as c:

        async def evicted() -> list[str]:
            return sorted(
                node["metadata"]["name"]
                for node in await c.list("nodes")
                if "NoExecute" in [item["effect"] for item in node["spec"].get("taints") or ()]
            )

        await c.settle()
        for number in range(3):
            c.stop_node(f"node-{number}")
        await c.advance(38)
        moments: list[int] = []
        for second in range(34):
            await c.advance(1)
            moments += [second] * (len(await evicted()) - len(moments))
        assert [later - earlier for earlier, later in pairwise(moments)] == [10, 10]
        # Most of them: the zone's fault, or the way to it.
        c.stop_node("node-3")
        c.stop_node("node-4")
        await c.advance(200)
        assert await evicted() == ["node-0", "node-1", "node-2"]
        for number in range(3):
            c.start_node(f"node-{number}")
        await c.advance(15)
        assert await evicted() == ["node-3", "node-4"]


async def test_pods_of_a_node_out_of_service_are_given_up() -> None:
    async with await VirtualCluster.start(VirtualOptions(nodes=2, virtual_time=True)) as c:
        body = {**deployment("db", 2), "kind": "StatefulSet"}
        body["spec"]["serviceName"] = "db"
        await c.create(body)
        await c.settle()
        pods = await c.list("pods")
        node = pods[0]["spec"]["nodeName"]
        lost = {item["metadata"]["uid"] for item in pods if item["spec"]["nodeName"] == node}
        taint = {"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}
        c.stop_node(node)
        await c.advance(400)
        assert lost <= {item["metadata"]["uid"] for item in await c.list("pods")}
        known = (await c.get("node", node))["spec"]["taints"]
        await c.patch("node", node, {"spec": {"taints": [*known, taint]}})
        await c.advance(1)
        pods = await c.list("pods")
        assert len(pods) == 2
        assert not lost & {item["metadata"]["uid"] for item in pods}
        assert {item["spec"]["nodeName"] for item in pods} != {node}
