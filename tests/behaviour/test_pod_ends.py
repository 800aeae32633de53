"""How controllers end and make things: just those they saw (by uid), with the time they ask for,
and no more tries than may succeed. Both former keep two pods of one identity from living at once: a
name in a stale cache may by now be another's, and a pod that is removed before its node has stopped
it goes on unseen (kubernetes#59848)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sampan.api.errors import Object
from sampan.client.api import Client
from sampan.controllers.replicaset import ReplicaSetController
from sampan.controllers.runtime.claim import claim
from sampan.node.simulation.outcome import Outcome
from sampan.testing.cluster import Cluster, Options

from .statefulset_kit import daemon_set, stateful_set

STOP_S = 7
TEMPLATE: Object = {
    "metadata": {"labels": {"app": "x"}},
    "spec": {"containers": [{"name": "c", "image": "x:1"}]},
}
ANOTHER = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "x:2"}]}}}}
FEWER = {"spec": {"replicas": 1}}


def replicated(kind: str, selector: Object, version: str = "apps/v1") -> Object:
    spec = {"replicas": 2, "selector": selector, "template": TEMPLATE}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "x"}, "spec": spec}


def job() -> Object:
    spec = {**TEMPLATE["spec"], "restartPolicy": "Never"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "x"},
        "spec": {"parallelism": 2, "completions": 2, "template": {"spec": spec}},
    }


async def taint(c: Cluster) -> None:
    taints = [{"key": "k", "effect": "NoExecute"}]
    await c.patch("node", "node-0", {"spec": {"taints": taints}})


def patched(kind: str, change: Object) -> Callable[[Cluster], Awaitable[Any]]:
    return lambda c: c.patch(kind, "x", change)


LABELS = {"matchLabels": {"app": "x"}}
WAYS: dict[str, tuple[Object, Callable[[Cluster], Awaitable[Any]]]] = {
    "a set is rolled": (stateful_set("x", image="x:1"), patched("statefulset", ANOTHER)),
    "a set shrinks": (stateful_set("x", image="x:1"), patched("statefulset", FEWER)),
    "daemons are rolled": (daemon_set("x", image="x:1"), patched("daemonset", ANOTHER)),
    "replicas go": (replicated("ReplicaSet", LABELS), patched("replicaset", FEWER)),
    "a controller shrinks": (
        replicated("ReplicationController", LABELS["matchLabels"], "v1"),
        patched("replicationcontroller", FEWER),
    ),
    "a rollout": (replicated("Deployment", LABELS), patched("deployment", ANOTHER)),
    "a job is suspended": (job(), patched("job", {"spec": {"suspend": True}})),
    "a node is tainted": (replicated("ReplicaSet", LABELS), taint),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_pod_is_ended_by_its_uid_and_in_its_time(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, act = WAYS[way]
    said: list[Object] = []
    delete = Client.delete

    async def spy(self: Client, resource: Any, *given: Any, **named: Any) -> Any:
        if resource.plural == "pods":
            options = named.get("options") or (given[2] if len(given) > 2 else None)
            said.append(options or {})
        return await delete(self, resource, *given, **named)

    async with await Cluster.start(Options(virtual_time=True)) as c:
        c.script(Outcome(stop_s=STOP_S, run_s=3600))
        await c.create(body)
        await c.advance(30)
        before = {item["metadata"]["uid"] for item in await c.list("pods")}
        assert before
        with monkeypatch.context() as patch:
            patch.setattr(Client, "delete", spy)
            await act(c)
            await c.settle()
        ended = [item for item in await c.list("pods") if item["metadata"].get("deletionTimestamp")]
        assert {item["metadata"]["uid"] for item in ended} <= before
        assert ended, "they are there until their node has stopped them"
        assert said
        for options in said:
            assert options["preconditions"]["uid"] in before
            assert "gracePeriodSeconds" not in options
        await c.advance(STOP_S + 1)
        left = {item["metadata"]["uid"] for item in await c.list("pods")}
        assert left.isdisjoint(item["metadata"]["uid"] for item in ended)


async def test_an_owner_that_is_gone_adopts_nobody_whatever_its_cache_says() -> None:
    async with await Cluster.start(Options(virtual_time=True)) as c:
        await c.create(replicated("ReplicaSet", LABELS))
        await c.settle()
        seen = await c.get("replicaset", "x")
        await c.delete("replicaset", "x")
        await c.advance(60)
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "orphan"}, **TEMPLATE}
        pod["metadata"] = {"name": "orphan", "labels": {"app": "x"}}
        await c.create(pod)
        await c.settle()
        assert c._running is not None
        found = next(
            item for item in c._running.controllers if isinstance(item, ReplicaSetController)
        )
        assert await claim(found.pods, found.owners, seen) == []
        assert "ownerReferences" not in (await c.get("pod", "orphan"))["metadata"]
        await c.create(replicated("ReplicaSet", LABELS))
        await c.settle()
        again = await c.get("replicaset", "x")
        assert again["metadata"]["uid"] != seen["metadata"]["uid"]
        (owner,) = (await c.get("pod", "orphan"))["metadata"]["ownerReferences"]
        assert owner["uid"] == again["metadata"]["uid"]


async def test_the_collector_ends_what_it_saw_and_nothing_newer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[Object] = []
    delete = Client.delete

    async def spy(self: Client, resource: Any, *given: Any, **named: Any) -> Any:
        if resource.plural == "configmaps":
            said.append(given[2])
        return await delete(self, resource, *given, **named)

    async with await Cluster.start(Options(virtual_time=True)) as c:
        kind = {"apiVersion": "v1", "kind": "ConfigMap"}
        owner = await c.create({**kind, "metadata": {"name": "owner"}})
        reference = {**kind, "name": "owner", "uid": owner["metadata"]["uid"]}
        meta = {"name": "owned", "ownerReferences": [reference]}
        owned = (await c.create({**kind, "metadata": meta}))["metadata"]
        await c.settle()
        await c.delete("configmap", "owner")
        monkeypatch.setattr(Client, "delete", spy)
        await c.settle()
        # Who adopts it meanwhile writes it, and then it is another version.
        seen = {"uid": owned["uid"], "resourceVersion": owned["resourceVersion"]}
        assert [item["preconditions"] for item in said] == [seen]


@pytest.mark.parametrize("kind", ["ReplicaSet", "Job"])
async def test_who_may_not_make_one_pod_does_not_try_to_make_all(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = 0
    create = Client.create

    async def spy(self: Client, resource: Any, *given: Any, **named: Any) -> Any:
        nonlocal tried
        tried += resource.plural == "pods"
        return await create(self, resource, *given, **named)

    async with await Cluster.start(Options(virtual_time=True)) as c:
        meta = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}}
        await c.create({**meta, "spec": {"hard": {"pods": "0"}}})
        await c.settle()
        monkeypatch.setattr(Client, "create", spy)
        body = replicated(kind, LABELS) if kind == "ReplicaSet" else job()
        field = "replicas" if kind == "ReplicaSet" else "parallelism"
        body = {**body, "spec": {**body["spec"], field: 64}}
        body["spec"] |= {"completions": 64} if kind == "Job" else {}
        await c.create(body)
        await c.settle()
        assert 1 <= tried < 16
