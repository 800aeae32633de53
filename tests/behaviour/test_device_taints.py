"""Pods whose devices are tainted NoExecute are evicted when nothing tolerates it any more."""

from __future__ import annotations

import copy
from typing import Any

from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.api.times import format_time
from sampan.testing.cluster import Cluster, Options

from .test_devices import device, made, offered, pod, wanted

SLICES = resource("resourceslices", "resource.k8s.io")


async def taint(cluster: Cluster, *taints: Object, generation: int = 1) -> None:
    found = copy.deepcopy(await cluster.get("resourceslice", "slice-node-1"))
    found["spec"]["devices"][0]["taints"] = [*taints]
    found["spec"]["pool"]["generation"] = generation
    await cluster.client.update(SLICES, found)
    await cluster.settle()


def broken(cluster: Cluster, effect: str = "NoExecute") -> Object:
    now = format_time(cluster.clock.now())
    return {"key": "example.com/broken", "effect": effect, "timeAdded": now}


def held(name: str, claim: str) -> Object:
    """A pod that can still be looked at when its node has let it go."""
    made = pod(name, resourceClaimName=claim)
    made["metadata"]["finalizers"] = ["example.com/looked-at"]
    return made


async def events(cluster: Cluster, name: str) -> list[str]:
    found = await cluster.list("events")
    about = [item for item in found if item["involvedObject"]["name"] == name]
    reason = "DeviceTaintManagerEviction"
    return [item["message"] for item in about if item["reason"] == reason]


async def leaving(cluster: Cluster, name: str) -> Any:
    """Why the pod goes; None if it stays."""
    found = await cluster.get("pod", name)
    conditions = found["status"].get("conditions") or ()
    marks = [item for item in conditions if item["type"] == "DisruptionTarget"]
    if not found["metadata"].get("deletionTimestamp"):
        assert not marks
        return None
    (mark,) = marks
    return mark["reason"], mark["message"], mark["observedGeneration"]


async def test_a_pod_goes_when_its_device_is_tainted_and_its_time_has_run_out() -> None:
    async with await Cluster.start(Options(nodes=2, virtual_time=True)) as cluster:
        await offered(cluster, node_1=[device("g0", "8Gi"), device("g1", "8Gi")])
        forgiving = {"operator": "Exists", "tolerationSeconds": 30}
        await made(cluster, "patient", wanted(tolerations=[forgiving]))
        await cluster.create(held("waits", "patient"))
        await cluster.advance(2)
        assert (await cluster.get("pod", "waits"))["status"]["phase"] == "Running"

        await taint(cluster, broken(cluster, "NoSchedule"))
        await cluster.advance(60)
        assert await leaving(cluster, "waits") is None

        # One that is taken away in time is as if it had never been: so is an older generation's.
        await taint(cluster, broken(cluster))
        await cluster.advance(20)
        await taint(cluster, generation=2)
        await cluster.advance(60)
        assert await leaving(cluster, "waits") is None
        assert await events(cluster, "waits") == ["Cancelling deletion"]

        await taint(cluster, broken(cluster), generation=2)
        await cluster.advance(29)
        assert await leaving(cluster, "waits") is None
        await cluster.advance(1.5)
        assert await leaving(cluster, "waits") == (
            "DeletionByDeviceTaintManager",
            "Device Taint manager: deleting due to NoExecute taint",
            1,
        )
        assert await events(cluster, "waits") == ["Cancelling deletion", "Marking for deletion"]


async def test_only_the_users_of_the_tainted_device_go() -> None:
    async with await Cluster.start(Options(nodes=2, virtual_time=True)) as cluster:
        await offered(cluster, node_1=[device("g0", "8Gi"), device("g1", "16Gi")])
        await made(cluster, "small", wanted())
        await made(cluster, "large", wanted("16Gi"))
        for name in ("small", "large"):
            await cluster.create(held(f"on-{name}", name))
        await cluster.advance(2)
        await taint(cluster, broken(cluster))
        await cluster.advance(1)
        assert await leaving(cluster, "on-large") is None
        assert (await leaving(cluster, "on-small"))[0] == "DeletionByDeviceTaintManager"


async def test_a_taint_without_a_time_is_there_from_now_on() -> None:
    async with await Cluster.start(Options(virtual_time=True)) as cluster:
        tainted = {**device("g0", "8Gi"), "taints": [{"key": "a/b", "effect": "NoExecute"}]}
        await offered(cluster, node_1=[tainted])
        found = await cluster.get("resourceslice", "slice-node-1")
        (written,) = found["spec"]["devices"][0]["taints"]
        assert written["timeAdded"].endswith("Z")
