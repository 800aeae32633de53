"""Workloads from end to end in one process: API server, every controller, a node that pretends."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from sampan.api.errors import NotFound, Object
from sampan.api.resources import resource
from sampan.client.interface import MERGE_PATCH

from .workload_kit import DEPLOYMENTS, EVENTS, NAMESPACES, PODS, SETS, World, deployment, world

CONFIG_MAPS = resource("configmaps")


async def ready(w: World, replicas: int, name: str = "web", namespace: str = "default") -> Object:
    """Create nothing; wait until the deployment has so many replicas, all new and available."""
    cache = w.cache("deployments", "apps")

    def complete() -> Object | None:
        found = cache.get(namespace, name)
        status = (found or {}).get("status") or {}
        fields = ("replicas", "updatedReplicas", "availableReplicas")
        done = all(status.get(field, 0) == replicas for field in fields)
        current = status.get("observedGeneration") == (found or {"metadata": {}})["metadata"].get(
            "generation"
        )
        return found if done and current else None

    found: Object = await w.until(complete)
    return found


async def patch(w: World, spec: Any, name: str = "web") -> None:
    await w.client.patch(DEPLOYMENTS, name, {"spec": spec}, "default", content_type=MERGE_PATCH)


def image(name: str) -> Object:
    return {"template": {"spec": {"containers": [{"name": "c", "image": name}]}}}


async def settled(w: World) -> None:
    """Every controller has nothing left to do, and all events are written."""
    quiet = 0
    async with asyncio.timeout(20):
        while quiet < 20:
            await asyncio.sleep(0)
            quiet = quiet + 1 if w.controllers.idle else 0
    for controller in w.controllers.controllers:
        recorder = getattr(controller, "recorder", None)
        if recorder is not None:
            await recorder.flushed()


async def test_a_deployment_becomes_ready_and_tells_of_it() -> None:
    async with world() as w:
        await w.client.create(DEPLOYMENTS, deployment(replicas=3), "default")
        found = await ready(w, 3)
        assert found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
        conditions = {item["type"]: item["reason"] for item in found["status"]["conditions"]}
        assert conditions["Available"] == "MinimumReplicasAvailable"
        await settled(w)
        [made] = w.cache("replicasets", "apps").list("default")
        name = made["metadata"]["name"]
        pods = w.cache("pods").list("default")
        assert sorted(await w.events()) == sorted(
            [
                f"ScalingReplicaSet: Scaled up replica set {name} from 0 to 3",
                *(f"SuccessfulCreate: Created pod: {pod['metadata']['name']}" for pod in pods),
            ]
        )
        digest = made["metadata"]["labels"]["pod-template-hash"]
        assert name == f"web-{digest}"
        assert made["spec"]["selector"]["matchLabels"]["pod-template-hash"] == digest
        assert {pod["metadata"]["labels"]["pod-template-hash"] for pod in pods} == {digest}


async def test_a_rollout_replaces_pods_and_keeps_enough_of_them() -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    async with world() as w:
        body = deployment(replicas=4, strategy=rolling)
        await w.client.create(DEPLOYMENTS, body, "default")
        await ready(w, 4)
        pods = w.cache("pods")
        seen: list[int] = []
        alive: list[int] = []

        def watch(old: Object | None, new: Object | None) -> None:
            found = [pod for pod in pods.list() if not pod["metadata"].get("deletionTimestamp")]
            seen.append(len(found))
            alive.append(sum(pod["status"].get("phase") == "Running" for pod in found))

        pods.on_change(watch)
        await patch(w, image("web:2"))
        await ready(w, 4)
        await w.until(lambda: len(pods) == 4)
        assert {pod["spec"]["containers"][0]["image"] for pod in pods.list()} == {"web:2"}
        assert max(seen) <= 5
        assert min(alive) >= 4
        sets = w.cache("replicasets", "apps").list()
        assert Counter(item["spec"]["replicas"] for item in sets) == {0: 1, 4: 1}


async def test_scaling_down_deletes_what_is_not_ready_first() -> None:
    async with world() as w:
        w.node.holds = lambda pod: pod["metadata"]["labels"].get("stuck") == "yes"
        await w.client.create(DEPLOYMENTS, deployment(replicas=2), "default")
        await ready(w, 2)
        good = {pod["metadata"]["name"] for pod in w.cache("pods").list()}
        w.node.holds = lambda pod: True
        await patch(w, {"replicas": 5})
        await w.until(lambda: len(w.cache("pods")) == 5)
        await patch(w, {"replicas": 2})
        await w.until(lambda: len(w.cache("pods")) == 2)
        assert {pod["metadata"]["name"] for pod in w.cache("pods").list()} == good


async def test_a_pod_that_is_deleted_or_relabelled_is_replaced() -> None:
    async with world() as w:
        await w.client.create(DEPLOYMENTS, deployment(replicas=2), "default")
        await ready(w, 2)
        pods = w.cache("pods")
        first, second = (pod["metadata"]["name"] for pod in pods.list())
        await w.client.delete(PODS, first, "default")
        await w.until(lambda: len(pods) == 2 and pods.get("default", first) is None)
        labels = {"metadata": {"labels": {"app": "other"}}}
        await w.client.patch(PODS, second, labels, "default")
        await w.until(lambda: len(pods) == 3)
        released = pods.get("default", second)
        assert released is not None
        assert not released["metadata"].get("ownerReferences")
        # Back again: one too many, adopted, and one goes.
        await w.client.patch(PODS, second, {"metadata": {"labels": {"app": "web"}}}, "default")
        await w.until(lambda: len(pods) == 2)
        assert all(pod["metadata"].get("ownerReferences") for pod in pods.list())


@pytest.mark.parametrize("policy", ["Background", "Foreground", "Orphan"])
async def test_deleting_a_deployment_deletes_or_orphans_what_it_owns(policy: str) -> None:
    async with world() as w:
        await w.client.create(DEPLOYMENTS, deployment(replicas=3), "default")
        await ready(w, 3)
        deployments = w.cache("deployments", "apps")
        sets, pods = w.cache("replicasets", "apps"), w.cache("pods")
        order: list[str] = []
        for name, cache in (("deployment", deployments), ("set", sets), ("pod", pods)):
            cache.on_change(lambda old, new, name=name: None if new else order.append(name))  # type: ignore[misc]
        await w.client.delete(DEPLOYMENTS, "web", "default", {"propagationPolicy": policy})
        await w.until(lambda: not len(deployments))
        if policy == "Orphan":
            await settled(w)
            [kept] = sets.list()
            assert not kept["metadata"].get("ownerReferences")
            assert len(pods) == 3
            return
        await w.until(lambda: not len(sets) and not len(pods))
        if policy == "Foreground":
            assert order == ["pod", "pod", "pod", "set", "deployment"]
        else:
            assert order == ["deployment", "set", "pod", "pod", "pod"]


async def test_an_object_with_two_owners_outlives_one() -> None:
    async with world() as w:
        maps = w.cache("configmaps")
        owners = []
        for name in ("one", "two"):
            made = await w.client.create(CONFIG_MAPS, {"metadata": {"name": name}}, "default")
            meta = made["metadata"]
            owners.append(
                {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": meta["uid"]}
            )
        gone = {"apiVersion": "v1", "kind": "ConfigMap", "name": "three", "uid": "never"}
        for name, references in (("shared", owners), ("lost", [gone]), ("half", [gone, owners[0]])):
            meta = {"name": name, "ownerReferences": references}
            await w.client.create(CONFIG_MAPS, {"metadata": meta}, "default")
        await w.until(lambda: maps.get("default", "lost") is None)

        def owned(name: str) -> list[str]:
            found = maps.get("default", name) or {"metadata": {}}
            return [item["name"] for item in found["metadata"].get("ownerReferences") or ()]

        await w.until(lambda: owned("half") == ["one"])
        await w.client.delete(CONFIG_MAPS, "one", "default")
        await w.until(lambda: maps.get("default", "half") is None)
        await w.until(lambda: owned("shared") == ["two"])
        await w.client.delete(CONFIG_MAPS, "two", "default")
        await w.until(lambda: maps.get("default", "shared") is None)


async def test_a_new_namespace_is_furnished_and_an_old_one_emptied() -> None:
    async with world(root_ca="PEM") as w:
        await w.client.create(NAMESPACES, {"metadata": {"name": "shop"}})
        accounts, maps = w.cache("serviceaccounts"), w.cache("configmaps")
        namespaces, pods = w.cache("namespaces"), w.cache("pods")
        await w.until(lambda: accounts.get("shop", "default"))
        found = await w.until(lambda: maps.get("shop", "kube-root-ca.crt"))
        assert found["data"] == {"ca.crt": "PEM"}
        await w.client.patch(CONFIG_MAPS, "kube-root-ca.crt", {"data": {"ca.crt": "x"}}, "shop")
        await w.until(lambda: maps.get("shop", "kube-root-ca.crt")["data"]["ca.crt"] == "PEM")
        body = deployment(replicas=5)
        body["metadata"]["namespace"] = "shop"
        await w.client.create(DEPLOYMENTS, body, "shop")
        await ready(w, 5, namespace="shop")
        held = {"metadata": {"name": "held", "finalizers": ["example.com/wait"]}}
        await w.client.create(CONFIG_MAPS, held, "shop")
        await w.client.delete(NAMESPACES, "shop")
        await w.until(lambda: not pods.list("shop") and len(maps.list("shop")) == 1)

        def remaining() -> Object | None:
            conditions = (namespaces.get("", "shop") or {})["status"].get("conditions") or ()
            return next(
                (
                    item
                    for item in conditions
                    if item["type"] == "NamespaceContentRemaining"
                    and "configmaps. has 1" in item["message"]
                    and "pods" not in item["message"]
                ),
                None,
            )

        assert (await w.until(remaining))["message"] == (
            "Some resources are remaining: configmaps. has 1 resource instances"
        )
        await w.client.patch(CONFIG_MAPS, "held", {"metadata": {"finalizers": None}}, "shop")
        await w.until(lambda: namespaces.get("", "shop") is None)
        for kind in (PODS, SETS, CONFIG_MAPS, EVENTS):
            try:
                left = await w.client.list(kind, "shop")
            except NotFound:
                continue
            assert left["items"] == []


async def test_three_hundred_pods_are_a_few_looks_not_one_each() -> None:
    """A storm of changes is coalesced: without that, the work grows with the square of the pods."""
    async with world() as w:
        service = {
            "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
        }
        await w.client.create(resource("services"), service, "default")
        began_s = time.monotonic()
        await w.client.create(DEPLOYMENTS, deployment(replicas=300), "default")
        await ready(w, 300)
        # They are paced by time: some thirty looks in a second, on a slow machine for longer.
        limit = 60 + 40 * (time.monotonic() - began_s)
        looks = {c.name: c.queue.metrics.adds for c in w.controllers.controllers}
        paced = ("replicaset", "endpoint_slice", "endpoint")
        assert max(looks[name] for name in paced) < min(limit, 500), looks
