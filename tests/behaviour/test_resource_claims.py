"""The life of claims for devices: made from templates, given back, reserved, deleted. The test is
the scheduler."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.controllers.resourceclaim_plan import FINALIZER, POD_CLAIM, prefix
from sampan.node.simulation.outcome import Outcome
from sampan.testing.cluster import Cluster, Options

GROUP = "resource.k8s.io/v1"
CLAIMS = resource("resourceclaims", "resource.k8s.io")
PODS = resource("pods")
WANTED = {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu"}}]}}
GIVEN = {"request": "gpu", "driver": "gpu.example.com", "pool": "p", "device": "d"}
ALLOCATION = {"devices": {"results": [GIVEN]}}


@asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    async with await Cluster.start(Options(virtual_time=True)) as found:
        await found.settle()
        yield found


def template(name: str = "t") -> Object:
    spec = {"metadata": {"labels": {"from": "t"}, "annotations": {"a": "b"}}, "spec": WANTED}
    meta = {"name": name}
    return {"apiVersion": GROUP, "kind": "ResourceClaimTemplate", "metadata": meta, "spec": spec}


def claim(name: str = "mine") -> Object:
    meta = {"name": name}
    return {"apiVersion": GROUP, "kind": "ResourceClaim", "metadata": meta, "spec": WANTED}


def pod(name: str, **source: str) -> Object:
    spec = {
        "schedulerName": "by-hand",
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "x", "resources": {"claims": [{"name": "dev"}]}}],
        "resourceClaims": [{"name": "dev", **source}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


async def allocate(c: Cluster, name: str, *pods: Object) -> None:
    """What the scheduler writes."""
    found = await c.get("resourceclaim", name)
    found["metadata"]["finalizers"] = [FINALIZER]
    found = await c.client.update(CLAIMS, found)
    reserved = [
        {"resource": "pods", "name": item["metadata"]["name"], "uid": item["metadata"]["uid"]}
        for item in pods
    ]
    status = {"allocation": ALLOCATION, "reservedFor": reserved}
    await c.client.update(CLAIMS, {**found, "status": status}, "status")
    await c.settle()


async def bind(c: Cluster, name: str) -> None:
    meta = {"name": name, "namespace": "default"}
    target = {"kind": "Node", "name": "node-0"}
    body = {"apiVersion": "v1", "kind": "Binding", "metadata": meta, "target": target}
    await c.client.create(PODS, body, "default", name, "binding")
    await c.settle()


async def users(c: Cluster, name: str) -> list[str]:
    status: Any = (await c.get("resourceclaim", name)).get("status") or {}
    return [item["name"] for item in status.get("reservedFor") or ()]


async def test_a_pods_claim_is_made_and_goes_when_it_has_ended() -> None:
    async with cluster() as c:
        c.script(Outcome(run_s=100))
        await c.create(template())
        await c.create(pod("p", resourceClaimTemplateName="t"))
        await c.settle()
        [made] = await c.list("resourceclaims")
        meta = made["metadata"]
        assert meta["name"].startswith("p-dev-")
        assert (meta["labels"], meta["annotations"]) == (
            {"from": "t"},
            {"a": "b", POD_CLAIM: "dev"},
        )
        found = await c.get("pod", "p")
        assert meta["ownerReferences"][0]["uid"] == found["metadata"]["uid"]
        said = [{"name": "dev", "resourceClaimName": meta["name"]}]
        assert found["status"]["resourceClaimStatuses"] == said
        await allocate(c, meta["name"], found)
        await bind(c, "p")
        assert (await c.get("pod", "p"))["status"]["resourceClaimStatuses"] == said
        assert await users(c, meta["name"]) == ["p"]
        await c.advance(101)
        assert (await c.get("pod", "p"))["status"]["phase"] == "Succeeded"
        assert await c.list("resourceclaims") == []


async def test_a_claim_of_its_own_is_given_back_and_stays() -> None:
    async with cluster() as c:
        c.script(Outcome(run_s=3600))
        await c.create(claim())
        for name in ("one", "two", "three"):
            await c.create(pod(name, resourceClaimName="mine"))
        pods = [await c.get("pod", name) for name in ("one", "two")]
        await allocate(c, "mine", *pods)
        # The third came to its node without the scheduler.
        await bind(c, "three")
        assert await users(c, "mine") == ["one", "two", "three"]
        for name, left in (("one", ["two", "three"]), ("three", ["two"])):
            await c.delete("pod", name)
            await c.settle()
            assert await users(c, "mine") == left
        assert (await c.get("resourceclaim", "mine"))["status"]["allocation"]
        await c.delete("resourceclaim", "mine")
        await c.settle()
        assert await c.find("resourceclaim", "mine") is not None, "it is used"
        await c.delete("pod", "two")
        await c.settle()
        assert await c.find("resourceclaim", "mine") is None


async def test_what_nobody_uses_is_not_allocated() -> None:
    async with cluster() as c:
        await c.create(claim())
        await c.create(pod("one", resourceClaimName="mine"))
        await allocate(c, "mine", await c.get("pod", "one"))
        await c.delete("pod", "one")
        await c.settle()
        found = await c.get("resourceclaim", "mine")
        assert not (found.get("status") or {}).get("allocation")
        assert not await users(c, "mine")


async def test_a_template_that_is_missing_is_told_of_and_waited_for() -> None:
    async with cluster() as c:
        await c.create(pod("p", resourceClaimTemplateName="t"))
        await c.settle()
        await c.advance(1)
        [event] = [
            item for item in await c.list("events")
            if item["reason"] == "FailedResourceClaimCreation"
        ]  # fmt: skip
        assert event["message"] == (
            'PodResourceClaim dev: resource claim template "t": '
            'resourceclaimtemplates.resource.k8s.io "t" not found'
        )
        assert event.get("count", 1) < 12
        await c.create(template())
        await c.advance(130)
        assert len(await c.list("resourceclaims")) == 1
        # One that somebody deletes is made again.
        [made] = await c.list("resourceclaims")
        await c.delete("resourceclaim", made["metadata"]["name"])
        await c.settle()
        [again] = await c.list("resourceclaims")
        assert again["metadata"]["uid"] != made["metadata"]["uid"]
        said = (await c.get("pod", "p"))["status"]["resourceClaimStatuses"]
        assert said == [{"name": "dev", "resourceClaimName": again["metadata"]["name"]}]


def test_long_names_are_cut_in_proportion() -> None:
    assert prefix("p", "c") == "p-c-"
    assert prefix("p" * 60, "c" * 20) == f"{'p' * 41}-{'c' * 13}"
    assert len(prefix("p" * 253, "c" * 63)) <= 57


async def test_claims_are_counted() -> None:
    async with cluster() as c:
        await c.create(template())
        await c.create(pod("p", resourceClaimTemplateName="t"))
        await c.create(pod("lost", resourceClaimTemplateName="none"))
        await c.create(claim())
        await c.settle()
        running = c._running
        assert running is not None
        (found,) = (one for one in running.controllers if one.name == "resource_claim")
        text = found.exposition()
        created = "resourceclaim_controller_creates_total"
        assert f'{created}{{status="success",admin_access="false"}} 1\n' in text
        gauge = 'resourceclaim_controller_resource_claims{allocated="false",admin_access="false"'
        assert f'{gauge},source="resource_claim_template"}} 1\n' in text
        assert f'{gauge},source=""}} 1\n' in text
