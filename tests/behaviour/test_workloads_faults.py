"""What may go wrong with ReplicaSets and Deployments: nothing is made twice, nothing is lost, and
nothing runs hot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sampan.api.errors import Object
from sampan.controllers import deployment_plan
from sampan.controllers.replicaset import ReplicaSetController, new_pod
from sampan.controllers.runtime.claim import claim
from sampan.controllers.runtime.queue import Request
from sampan.node.simulation.outcome import Outcome
from sampan.testing.cluster import Cluster, Options

from .workload_kit import PODS, SETS, deployment, world


async def test_a_pod_that_is_seen_while_a_sync_waits_is_not_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with world() as w:
        found = next(
            item for item in w.controllers.controllers if isinstance(item, ReplicaSetController)
        )
        await found.queue.stop()
        body = {**deployment("web", 1), "kind": "ReplicaSet"}
        owner = await w.client.create(SETS, body, "default")
        sets, pods = w.cache("replicasets", "apps"), w.cache("pods")
        await w.until(lambda: sets.get("default", "web"))

        async def slow(*given: Any) -> list[Object]:
            """The answer of an earlier creation is slower than its event."""
            seen = await claim(*given)
            await w.client.create(PODS, new_pod(found.resource, owner), "default")
            await w.until(lambda: pods.list("default"))
            return seen

        monkeypatch.setattr("sampan.controllers.replicaset.claim", slow)
        request = Request("default", "web")
        found.expectations.expect_creations(request, 1)
        again = await found.reconcile(request)
        assert again is not None
        assert not found.expectations.outstanding_s(request)
        assert len((await w.client.list(PODS, "default"))["items"]) == 1


@asynccontextmanager
async def cluster(nodes: int = 1) -> AsyncIterator[Cluster]:
    async with await Cluster.start(Options(nodes=nodes, virtual_time=True)) as found:
        await found.settle()
        yield found


async def said(c: Cluster, reason: str) -> list[tuple[str, int]]:
    """(message, how often) of a reason."""
    found = await c.list("events")
    return [(item["message"], item.get("count") or 1) for item in found if item["reason"] == reason]


async def pods(c: Cluster) -> list[Object]:
    found = await c.list("pods")
    return [item for item in found if not item["metadata"].get("deletionTimestamp")]


def quota(count: int) -> Object:
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}}
    return {**body, "spec": {"hard": {"pods": str(count)}}}


async def test_a_rollout_whose_quota_shrinks_goes_on_when_it_grows() -> None:
    async with cluster() as c:
        await c.create(quota(4))
        await c.create(deployment("web", 3))
        await c.settle()
        before = {item["metadata"]["uid"] for item in await pods(c)}
        assert len(before) == 3
        # Less than there is: nothing goes by itself, and nothing new comes.
        await c.patch("resourcequota", "q", {"spec": {"hard": {"pods": "2"}}})
        image = {"template": {"spec": {"containers": [{"name": "c", "image": "web:2"}]}}}
        await c.patch("deployment", "web", {"spec": image})
        await c.advance(200)
        assert {item["metadata"]["uid"] for item in await pods(c)} == before
        conditions = {item["type"]: item for item in
                      (await c.get("deployment", "web"))["status"]["conditions"]}  # fmt: skip
        assert conditions["ReplicaFailure"]["reason"] == "FailedCreate"
        assert "exceeded quota: q" in conditions["ReplicaFailure"]["message"]
        assert sum(count for _, count in await said(c, "FailedCreate")) < 40
        # It is tried again at once, whatever the back-off has come to.
        await c.patch("resourcequota", "q", {"spec": {"hard": {"pods": "4"}}})
        await c.advance(5)
        found = (await c.get("deployment", "web"))["status"]
        assert (found["updatedReplicas"], found["availableReplicas"], found["replicas"]) == (3,) * 3
        assert "ReplicaFailure" not in [item["type"] for item in found["conditions"]]


async def test_a_set_goes_on_when_its_quota_goes() -> None:
    async with cluster() as c:
        await c.create(quota(1))
        stateful = {**deployment("db", 2), "kind": "StatefulSet"}
        await c.create(stateful)
        await c.advance(300)
        assert len(await pods(c)) == 1
        times = sum(count for _, count in await said(c, "FailedCreate"))
        assert times < 30
        await c.delete("resourcequota", "q")
        await c.advance(2)
        assert len(await pods(c)) == 2


async def test_two_owners_with_one_selector_leave_each_others_pods() -> None:
    async with cluster() as c:
        for name in ("a", "b"):
            body = deployment(name, 2)
            body["spec"]["selector"]["matchLabels"] = {"app": "same"}
            body["spec"]["template"]["metadata"]["labels"] = {"app": "same"}
            await c.create(body)
        rs = {**deployment("c", 2), "kind": "ReplicaSet"}
        rs["spec"]["selector"] = {"matchLabels": {"app": "same"}}
        rs["spec"]["template"]["metadata"]["labels"] = {"app": "same"}
        await c.create(rs)
        await c.settle()
        before = {item["metadata"]["uid"] for item in await pods(c)}
        assert len(before) == 6
        revision = c.store.revision
        await c.settle()
        assert c.store.revision == revision, "they write for ever"
        # An orphan is taken by one of them, which then has one too many.
        pod = next(item for item in await pods(c) if item["metadata"]["name"].startswith("c-"))
        await c.patch("pod", pod["metadata"]["name"], {"metadata": {"ownerReferences": None}})
        await c.settle()
        assert len(await pods(c)) == 6
        assert all(item["metadata"]["ownerReferences"] for item in await pods(c))


async def test_names_at_their_limit() -> None:
    async with cluster() as c:
        # A name of 253 leaves no room for the hash of its set; one of 240 does, and its pods'
        # names are cut.
        for length in (253, 240):
            body = deployment("n" * length, 1)
            body["spec"]["selector"]["matchLabels"] = {"app": str(length)}
            body["spec"]["template"]["metadata"]["labels"] = {"app": str(length)}
            await c.create(body)
        await c.settle()
        await c.advance(200)
        [pod] = await pods(c)
        assert pod["metadata"]["labels"]["app"] == "240"
        assert len(pod["metadata"]["name"]) == 63
        assert pod["status"]["phase"] == "Running"
        told = await said(c, "ReplicaSetCreateError")
        assert sum(count for _, count in told) < 40
        assert "must be no more than 253 " in told[0][0]
        conditions = (await c.get("deployment", "n" * 253))["status"]["conditions"]
        found = next(item for item in conditions if item["type"] == "Progressing")
        assert (found["status"], found["reason"]) == ("False", "ReplicaSetCreateError")


async def test_owners_that_vanish_take_their_pods_with_them_or_leave_them() -> None:
    async with cluster() as c:
        for name, policy in (("gone", "Background"), ("left", "Orphan")):
            body = {**deployment(name, 40), "kind": "ReplicaSet"}
            await c.create(body)
            # While it makes its pods.
            for _ in range(15):
                await asyncio.sleep(0)
            await c.delete("replicaset", name, options={"propagationPolicy": policy})
            await c.settle()
            await c.advance(60)
        assert await c.list("replicasets") == []
        left = await pods(c)
        assert not [item for item in left if item["metadata"].get("ownerReferences")]
        assert {item["metadata"]["labels"]["app"] for item in left} <= {"left"}
        revision = c.store.revision
        await c.settle()
        assert c.store.revision == revision


async def test_a_hash_that_another_template_has(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without the number of collisions all templates have one hash.
    monkeypatch.setattr(
        deployment_plan,
        "template_hash",
        lambda found: f"h{(found.get('status') or {}).get('collisionCount') or 0}",
    )
    async with cluster() as c:
        await c.create(deployment("web", 2))
        await c.settle()
        for number in (2, 3):
            image = {"spec": {"containers": [{"name": "c", "image": f"web:{number}"}]}}
            await c.patch("deployment", "web", {"spec": {"template": image}})
            await c.advance(10)
        found = await c.get("deployment", "web")
        assert found["status"]["collisionCount"] == 2
        assert found["status"]["updatedReplicas"] == found["status"]["replicas"] == 2
        sets = {item["metadata"]["name"]: item["spec"]["replicas"] for item in
                await c.list("replicasets")}  # fmt: skip
        assert sets == {"web-h0": 0, "web-h1": 0, "web-h2": 2}


async def test_a_rollout_stops_at_pods_that_do_not_stay_ready() -> None:
    async with cluster() as c:
        # They are ready for three seconds, then after 10, 20, 40 s again, which counts as progress.
        c.script(Outcome(exit_code=1, run_s=3), image="web:2")
        await c.create(deployment("web", 4, minReadySeconds=10, progressDeadlineSeconds=30))
        await c.advance(15)
        image = {"spec": {"containers": [{"name": "c", "image": "web:2"}]}}
        await c.patch("deployment", "web", {"spec": {"template": image}})
        reasons = set()
        for _ in range(8):
            await c.advance(10)
            found = (await c.get("deployment", "web"))["status"]
            # One may be lacking, one may be more: it goes no further.
            assert (found["availableReplicas"], found["updatedReplicas"]) == (3, 2)
            reasons |= {item["reason"] for item in found["conditions"]}
        assert "ProgressDeadlineExceeded" in reasons
        old = {"spec": {"containers": [{"name": "c", "image": "web:1"}]}}
        await c.patch("deployment", "web", {"spec": {"template": old}})
        await c.advance(30)
        found = (await c.get("deployment", "web"))["status"]
        assert (found["availableReplicas"], found["updatedReplicas"]) == (4, 4)
        progressing = next(item for item in found["conditions"] if item["type"] == "Progressing")
        assert progressing["reason"] == "NewReplicaSetAvailable"
