"""What may go wrong with StatefulSets and DaemonSets: taken names, quotas, names that are too long,
two sets with one selector, namespaces that go. Nothing is lost, and nothing runs hot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sampan.api.errors import Conflict, Object
from sampan.api.resources import resource
from sampan.controllers.runtime import history
from sampan.testing.cluster import Cluster, Options

from .statefulset_kit import daemon_set, stateful_set


@asynccontextmanager
async def cluster(nodes: int = 1) -> AsyncIterator[Cluster]:
    async with await Cluster.start(Options(nodes=nodes, virtual_time=True)) as found:
        await found.settle()
        yield found


async def names(c: Cluster, kind: str = "pods", namespace: str = "default") -> list[str]:
    return sorted(item["metadata"]["name"] for item in await c.list(kind, namespace))


async def events(c: Cluster, reason: str) -> list[tuple[str, int]]:
    """(message, how often) of a reason."""
    return [
        (item["message"], item.get("count") or 1)
        for item in await c.list("events")
        if item["reason"] == reason
    ]


@pytest.mark.parametrize("kind", ["statefulset", "daemonset"])
async def test_a_hash_that_is_taken(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = history.data_hash
    # Without the number of collisions all templates have one hash.
    monkeypatch.setattr(history, "data_hash", lambda data, count: real({}, count))
    async with cluster() as c:
        body = (stateful_set if kind == "statefulset" else daemon_set)("x", image="x:1")
        await c.create(body)
        await c.settle()
        for number in (2, 3):
            spec = {"template": {"spec": {"containers": [{"name": "c", "image": f"x:{number}"}]}}}
            await c.patch(kind, "x", {"spec": spec})
            await c.settle()
            await c.advance(60)
        found = await c.get(kind, "x")
        assert found["status"]["collisionCount"] == 2
        assert sorted(item["revision"] for item in await c.list("controllerrevisions")) == [1, 2, 3]
        pods = await c.list("pods")
        assert {pod["spec"]["containers"][0]["image"] for pod in pods} == {"x:3"}


async def test_a_revision_that_was_made_before_a_crash_is_found() -> None:
    async with cluster() as c:
        owner = await c.create(stateful_set(replicas=0))
        await c.settle()
        [made] = await c.list("controllerrevisions")
        sets, days = resource("statefulsets", "apps"), resource("daemonsets", "apps")
        data = history.template_data(owner["spec"]["template"])
        again = history.new_revision(sets, owner, data, {"app": "db"}, 0)
        found = await history.create(c.client, again)
        assert found is not None
        assert found["metadata"]["uid"] == made["metadata"]["uid"]
        # Of another kind, or of another template: the name is taken.
        later = {**owner, "metadata": {**owner["metadata"], "uid": "later"}}
        foreign = history.new_revision(days, later, data, {}, 0)
        assert await history.create(c.client, foreign) is None
        other = {"spec": {"template": {"$patch": "replace"}}}
        assert await history.create(c.client, {**again, "data": other}) is None
        # Of an earlier set of the same name: it goes soon.
        with pytest.raises(Conflict):
            await history.create(c.client, history.new_revision(sets, later, data, {}, 0))


async def test_a_quota_that_shrinks_and_grows() -> None:
    async with cluster(nodes=3) as c:
        quota = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "q"},
            "spec": {"hard": {"pods": "3"}},
        }
        await c.create(quota)
        await c.settle()
        await c.create(stateful_set(replicas=4, podManagementPolicy="Parallel"))
        await c.create(daemon_set())
        await c.settle()
        assert len(await names(c)) == 3
        await c.advance(120)
        assert len(await names(c)) == 3
        refused = [*await events(c, "FailedCreate")]
        assert any("exceeded quota: q" in text for text, _ in refused)
        # Each is told of some dozen times, not thousands.
        assert max(count for _, count in refused) < 40
        await c.patch("resourcequota", "q", {"spec": {"hard": {"pods": "9"}}})
        await c.advance(300)
        assert len(await names(c)) == 7
        # Of what is beyond the quota nothing goes by itself.
        await c.patch("resourcequota", "q", {"spec": {"hard": {"pods": "1"}}})
        await c.settle()
        assert len(await names(c)) == 7


async def test_a_name_for_which_no_pod_can_be_made() -> None:
    async with cluster() as c:
        await c.create(stateful_set("n" * 63))
        await c.settle()
        await c.advance(300)
        assert await names(c) == []
        [(text, count)] = await events(c, "FailedCreate")
        pod, owner = f"{'n' * 63}-0", "n" * 63
        assert text.startswith(f"create Pod {pod} in StatefulSet {owner} failed error: Pod ")
        assert "must be no more than 63 " in text
        assert count < 40


async def test_a_pod_that_fails_at_once_is_made_again_ever_later() -> None:
    async with cluster() as c:
        await c.create(stateful_set(replicas=1))
        uids: dict[str, float] = {}
        for _ in range(40):
            pod = await c.find("pod", "db-0")
            if pod is not None and pod["metadata"]["uid"] not in uids:
                uids[pod["metadata"]["uid"]] = c.clock.now()
                status = {"status": {"phase": "Failed", "reason": "NodePorts"}}
                await c.patch("pod", "db-0", status, subresource="status")
                await c.settle()
            await c.advance(1)
        # At once, then after 1, 2, 4, 8 and 16 s.
        assert 6 <= len(uids) <= 8
        await c.patch("statefulset", "db", {"spec": {"template": {"spec": {"hostname": "x"}}}})
        await c.advance(60)
        assert (await c.get("pod", "db-0"))["status"]["phase"] == "Running"


async def test_pods_are_available_when_they_were_ready_for_long_enough() -> None:
    async with cluster() as c:
        await c.create(stateful_set(replicas=2, minReadySeconds=30))
        await c.settle()
        await c.advance(20)
        said = (await c.get("statefulset", "db"))["status"]
        assert (await names(c), said["readyReplicas"], said["availableReplicas"]) == (
            ["db-0"],
            1,
            0,
        )
        await c.advance(11)
        assert await names(c) == ["db-0", "db-1"]
        # Nothing but the time wakes it.
        await c.advance(31)
        assert (await c.get("statefulset", "db"))["status"]["availableReplicas"] == 2


async def test_two_sets_with_one_selector_leave_each_other_alone() -> None:
    async with cluster(nodes=2) as c:
        labels: Any = {"selector": {"matchLabels": {"app": "same"}}}
        template = stateful_set("same")["spec"]["template"]
        for name in ("a", "b"):
            await c.create(stateful_set(name, 2, **labels, template=template))
            await c.create(daemon_set(name, **labels, template=template))
        await c.settle()
        before = {item["metadata"]["uid"] for item in await c.list("pods")}
        assert len(before) == 8
        await c.advance(60)
        assert {item["metadata"]["uid"] for item in await c.list("pods")} == before
        for kind, count in (("statefulset", "replicas"), ("daemonset", "currentNumberScheduled")):
            for name in ("a", "b"):
                assert (await c.get(kind, name))["status"][count] == 2


async def test_a_name_that_somebody_else_has() -> None:
    async with cluster() as c:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "db-1", "labels": {"app": "other"}},
            "spec": {"containers": [{"name": "c", "image": "other:1"}]},
        }
        made = await c.create(pod)
        await c.create(stateful_set())
        await c.advance(200)
        assert await names(c) == ["db-0", "db-1"]
        assert (await c.get("pod", "db-1"))["metadata"]["uid"] == made["metadata"]["uid"]
        await c.delete("pod", "db-1")
        await c.advance(200)
        assert await names(c) == ["db-0", "db-1", "db-2"]
        assert await events(c, "FailedCreate") == []


async def test_orphans_find_a_new_owner_with_their_revisions() -> None:
    async with cluster() as c:
        for kind, body in (("statefulset", stateful_set()), ("daemonset", daemon_set())):
            await c.create(body)
            await c.settle()
            name = body["metadata"]["name"]
            before = {item["metadata"]["uid"] for item in await c.list("pods")}
            revisions = await names(c, "controllerrevisions")
            await c.delete(kind, name, options={"propagationPolicy": "Orphan"})
            await c.settle()
            assert {item["metadata"]["uid"] for item in await c.list("pods")} == before
            again = await c.create(body)
            await c.advance(60)
            assert {item["metadata"]["uid"] for item in await c.list("pods")} == before
            assert await names(c, "controllerrevisions") == revisions
            mine = [*await c.list("pods"), *await c.list("controllerrevisions")]
            owners = [item["metadata"]["ownerReferences"] for item in mine]
            assert {owner["uid"] for [owner] in owners} >= {again["metadata"]["uid"]}
            assert (await c.get(kind, name))["status"]["observedGeneration"] == 1


async def test_a_namespace_goes_with_all_of_it() -> None:
    async with cluster() as c:
        meta = {"name": "gone"}
        await c.create({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        await c.settle()
        for body in (stateful_set(), daemon_set()):
            moved: Object = {**body, "metadata": {**body["metadata"], "namespace": "gone"}}
            await c.create(moved)
        await c.settle()
        assert len(await names(c, namespace="gone")) == 4
        await c.delete("namespace", "gone")
        await c.advance(120)
        assert await c.find("namespace", "gone") is None
