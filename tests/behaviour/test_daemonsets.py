"""DaemonSets from end to end in one process: server, controllers, the scheduler, three nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.client.interface import STRATEGIC_PATCH
from sampan.node.simulation.outcome import Outcome
from sampan.testing.cluster import Cluster, Options

from .statefulset_kit import daemon_set

NODES = ["node-0", "node-1", "node-2"]


@asynccontextmanager
async def cluster(**spec: Any) -> AsyncIterator[Cluster]:
    """Three nodes, time that the test turns, and a DaemonSet `agent`."""
    async with await Cluster.start(Options(nodes=3, virtual_time=True)) as found:
        await found.create(daemon_set(**spec))
        await found.settle()
        yield found


async def on_nodes(c: Cluster, image: str = "") -> list[str]:
    """The nodes of pods (with this image) that are not going."""
    return sorted(
        pod["spec"].get("nodeName", "")
        for pod in await c.list("pods")
        if not pod["metadata"].get("deletionTimestamp")
        and image in ("", pod["spec"]["containers"][0]["image"])
    )


async def status(c: Cluster) -> Object:
    """The counts of the status, by what kubectl calls them."""
    said = (await c.get("daemonset", "agent"))["status"]
    names = {
        "desiredNumberScheduled": "desired",
        "currentNumberScheduled": "current",
        "numberReady": "ready",
        "updatedNumberScheduled": "updated",
        "numberAvailable": "available",
        "numberMisscheduled": "misscheduled",
    }
    return {short: said[name] for name, short in names.items() if said.get(name)}


def counts(number: int) -> Object:
    return dict.fromkeys(("desired", "current", "ready", "updated", "available"), number)


async def update(c: Cluster, image: str) -> None:
    spec = {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}
    await c.patch("daemonset", "agent", {"spec": spec})
    await c.settle()


async def events(c: Cluster, reason: str = "") -> list[str]:
    found = await c.list("events")
    return sorted(
        f"{item['reason']}: {item['message']}"
        for item in found
        if item.get("source", {}).get("component") == "daemonset-controller"
        and reason in ("", item["reason"])
    )


async def test_a_pod_on_every_node_pinned_and_tolerant() -> None:
    async with cluster() as c:
        assert await on_nodes(c) == NODES
        found = await c.get("daemonset", "agent")
        assert await status(c) == counts(3)
        assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
        [revision] = await c.list("controllerrevisions")
        digest = revision["metadata"]["labels"]["controller-revision-hash"]
        assert revision["metadata"]["name"] == f"agent-{digest}"
        for pod in await c.list("pods"):
            assert pod["metadata"]["labels"]["controller-revision-hash"] == digest
            assert pod["metadata"]["labels"]["pod-template-generation"] == "1"
            required = pod["spec"]["affinity"]["nodeAffinity"]
            assert required["requiredDuringSchedulingIgnoredDuringExecution"] == {
                "nodeSelectorTerms": [
                    {
                        "matchFields": [
                            {
                                "key": "metadata.name",
                                "operator": "In",
                                "values": [pod["spec"]["nodeName"]],
                            }
                        ]
                    }
                ]
            }
            tolerated = {
                item["key"].removeprefix("node.kubernetes.io/"): item["effect"]
                for item in pod["spec"]["tolerations"]
            }
            assert tolerated == {
                "not-ready": "NoExecute",
                "unreachable": "NoExecute",
                "disk-pressure": "NoSchedule",
                "memory-pressure": "NoSchedule",
                "pid-pressure": "NoSchedule",
                "unschedulable": "NoSchedule",
            }
        names = sorted(pod["metadata"]["name"] for pod in await c.list("pods"))
        assert await events(c) == [f"SuccessfulCreate: Created pod: {name}" for name in names]


async def test_changes_of_the_template_are_counted() -> None:
    name = "deprecated.daemonset.template.generation"
    async with cluster(updateStrategy={"type": "OnDelete"}) as c:
        await c.patch("daemonset", "agent", {"metadata": {"annotations": {name: "7", "a": "b"}}})
        await c.patch("daemonset", "agent", {"spec": {"minReadySeconds": 1}})
        found = await c.get("daemonset", "agent")
        assert found["metadata"]["annotations"] == {name: "1", "a": "b"}
        await update(c, "agent:2")
        found = await c.get("daemonset", "agent")
        assert found["metadata"]["annotations"][name] == "2"


async def test_labels_and_taints_move_pods() -> None:
    spec = {"containers": [{"name": "c", "image": "agent:1"}], "nodeSelector": {"disk": "ssd"}}
    template = {"metadata": {"labels": {"app": "agent"}}, "spec": spec}
    async with cluster(template=template) as c:
        assert await on_nodes(c) == []
        for name in NODES[:2]:
            await c.patch("node", name, {"metadata": {"labels": {"disk": "ssd"}}})
        await c.settle()
        assert await on_nodes(c) == NODES[:2]
        await c.patch("node", "node-0", {"metadata": {"labels": {"disk": None}}})
        await c.settle()
        assert await on_nodes(c) == ["node-1"]
        # A cordoned node keeps its daemon, and would get one.
        await c.patch("node", "node-1", {"spec": {"unschedulable": True}})
        await c.patch("node", "node-2", {"metadata": {"labels": {"disk": "ssd"}}})
        await c.settle()
        assert await on_nodes(c) == ["node-1", "node-2"]
        # NoSchedule: what is there stays, and is one too many; NoExecute: it goes.
        taint = {"key": "only", "value": "x", "effect": "NoSchedule"}
        await c.patch("node", "node-2", {"spec": {"taints": [taint]}})
        await c.settle()
        assert await on_nodes(c) == ["node-1", "node-2"]
        assert await status(c) == counts(1) | {"misscheduled": 1}
        await c.patch("node", "node-2", {"spec": {"taints": [{**taint, "effect": "NoExecute"}]}})
        await c.settle()
        assert await on_nodes(c) == ["node-1"]


async def test_a_cordoned_node_gets_its_daemon() -> None:
    async with await Cluster.start(Options(nodes=2, virtual_time=True)) as c:
        await c.patch("node", "node-1", {"spec": {"unschedulable": True}})
        await c.settle()
        await c.create(daemon_set())
        await c.settle()
        assert await on_nodes(c) == ["node-0", "node-1"]


async def test_a_rollout_replaces_one_after_another_and_is_undone() -> None:
    async with cluster(minReadySeconds=10) as c:
        await c.advance(11)
        assert await status(c) == counts(3)
        await update(c, "agent:2")
        assert len(await on_nodes(c, "agent:2")) == 1
        assert len(await on_nodes(c)) == 3
        await c.advance(5)
        # Ready, but not for long enough.
        assert len(await on_nodes(c, "agent:2")) == 1
        for _ in range(3):
            await c.advance(11)
        assert await on_nodes(c, "agent:2") == NODES
        assert await status(c) == counts(3)
        revisions = {item["revision"]: item for item in await c.list("controllerrevisions")}
        assert sorted(revisions) == [1, 2]
        await c.client.patch(
            resource("daemonsets", "apps"), "agent", revisions[1]["data"], "default",
            content_type=STRATEGIC_PATCH,
        )  # fmt: skip
        await c.settle()
        for _ in range(4):
            await c.advance(11)
        assert await on_nodes(c, "agent:1") == NODES
        numbers = {item["metadata"]["name"]: item["revision"] for item in
                   await c.list("controllerrevisions")}  # fmt: skip
        assert numbers[revisions[1]["metadata"]["name"]] == 3


async def test_a_broken_rollout_stops_and_goes_on_when_it_is_mended() -> None:
    async with cluster() as c:
        c.script(Outcome(ready_s=None), image="agent:bad")
        await update(c, "agent:bad")
        assert len(await on_nodes(c, "agent:bad")) == 1
        assert (await status(c))["available"] == 2
        await update(c, "agent:3")
        assert await on_nodes(c, "agent:3") == NODES


async def test_with_surge_the_old_one_stays_until_the_new_one_is_available() -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    async with cluster(updateStrategy=rolling) as c:
        c.script(Outcome(ready_s=10), image="agent:2")
        # The older counts, and times are in whole seconds.
        await c.advance(2)
        await update(c, "agent:2")
        assert await on_nodes(c, "agent:1") == NODES
        assert len(await on_nodes(c, "agent:2")) == 1
        assert (await status(c))["available"] == 3
        for _ in range(3):
            await c.advance(11)
        assert await on_nodes(c, "agent:2") == await on_nodes(c) == NODES


async def test_on_delete_changes_what_is_deleted() -> None:
    async with cluster(updateStrategy={"type": "OnDelete"}, revisionHistoryLimit=1) as c:
        await update(c, "agent:2")
        assert await on_nodes(c, "agent:1") == NODES
        assert "updated" not in await status(c)
        [pod] = [p for p in await c.list("pods") if p["spec"]["nodeName"] == "node-1"]
        await c.delete("pod", pod["metadata"]["name"])
        await c.settle()
        await c.advance(31)
        assert await on_nodes(c, "agent:2") == ["node-1"]
        for number in (3, 4):
            await update(c, f"agent:{number}")
        # The first two are those of pods, and stay.
        numbers = sorted(item["revision"] for item in await c.list("controllerrevisions"))
        assert numbers == [1, 2, 4]


async def test_a_failed_pod_is_deleted_with_a_pause_that_doubles() -> None:
    async with cluster() as c:
        times: list[float] = []

        async def fail() -> None:
            [pod] = [p for p in await c.list("pods") if p["spec"]["nodeName"] == "node-0"]
            body = {"status": {"phase": "Failed", "reason": "OutOfcpu"}}
            name = pod["metadata"]["name"]
            await c.patch("pod", name, body, subresource="status")
            await c.settle()
            while await c.find("pod", name) is not None:
                await c.advance(1)
            times.append(c.clock.now())

        for _ in range(4):
            await fail()
        gaps = [round(after - before) for before, after in pairwise(times)]
        assert gaps == [1, 2, 4]
        told = await events(c, "FailedDaemonPod")
        assert len(told) == 4
        assert told[0].startswith("FailedDaemonPod: Found failed daemon pod default/agent-")
        assert told[0].endswith(" on node node-0, will try to kill it")


async def test_one_too_many_goes_and_a_stranger_is_let_go() -> None:
    async with cluster() as c:
        [pod] = [p for p in await c.list("pods") if p["spec"]["nodeName"] == "node-0"]
        meta = pod["metadata"]
        await c.advance(2)
        double = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "double", "labels": meta["labels"]},
            "spec": {
                "containers": [{"name": "c", "image": "agent:1"}],
                "affinity": pod["spec"]["affinity"],
            },
        }
        await c.create(double)
        await c.settle()
        await c.advance(31)
        assert await c.find("pod", "double") is None
        await c.patch("pod", meta["name"], {"metadata": {"labels": {"app": "mine"}}})
        await c.settle()
        assert Counter(await on_nodes(c)) == Counter(["node-0", *NODES])
        assert not (await c.get("pod", meta["name"]))["metadata"].get("ownerReferences")
