"""The garbage collector (as upstream's test/e2e/apimachinery/garbage_collector.go)."""

from __future__ import annotations

from typing import Any

from .bench import CONTROLLERS, DEPLOYMENTS, PODS, REPLICASETS, Bench, Obj, controller, deployment
from .bench import pod as pod_of

MANY = 20
"""Pods of a controller; upstream makes as many as the nodes hold, 100 at most."""


async def of_controller(bench: Bench, replicas: int, name: str = "rc") -> tuple[Obj, list[Obj]]:
    """A controller, once its status tells of all its pods."""
    await bench.create(CONTROLLERS, controller(name, replicas))
    made = await bench.state(
        f"{CONTROLLERS}/{name}", lambda obj: obj["status"].get("replicas") == replicas
    )
    return made, (await bench.get(PODS))["items"]


async def of_deployment(bench: Bench) -> Obj:
    """A deployment's replica set, with its pods."""
    await bench.create(DEPLOYMENTS, deployment("d", 2))
    (made,) = await bench.listed(
        REPLICASETS, lambda items: items and items[0]["status"].get("replicas") == 2
    )
    return made


def nobody(items: list[Obj]) -> bool:
    return not items


def orphans(items: list[Obj]) -> bool:
    return all(not item["metadata"].get("ownerReferences") for item in items)


async def test_pods_go_with_their_controller(bench: Bench) -> None:
    made, _ = await of_controller(bench, 2)
    await bench.delete(
        f"{CONTROLLERS}/rc",
        propagationPolicy="Background",
        preconditions={"uid": made["metadata"]["uid"]},
    )
    await bench.expect(404, "GET", f"{CONTROLLERS}/rc")
    await bench.listed(PODS, nobody)


async def test_pods_are_orphaned_when_asked(bench: Bench) -> None:
    _, pods = await of_controller(bench, MANY)
    await bench.delete(f"{CONTROLLERS}/rc", propagationPolicy="Orphan")
    await bench.gone(f"{CONTROLLERS}/rc")
    await bench.cluster.settle()
    left = (await bench.get(PODS))["items"]
    assert len(left) == len(pods) == MANY
    assert orphans(left)


async def test_a_replica_set_goes_with_its_deployment(bench: Bench) -> None:
    await of_deployment(bench)
    await bench.delete(f"{DEPLOYMENTS}/d", propagationPolicy="Background")
    await bench.listed(REPLICASETS, nobody)
    await bench.listed(PODS, nobody)


async def test_a_replica_set_is_orphaned_when_asked(bench: Bench) -> None:
    made = await of_deployment(bench)
    await bench.delete(f"{DEPLOYMENTS}/d", propagationPolicy="Orphan")
    await bench.gone(f"{DEPLOYMENTS}/d")
    await bench.cluster.settle()
    (left,) = (await bench.get(REPLICASETS))["items"]
    assert left["metadata"]["uid"] == made["metadata"]["uid"]
    assert orphans([left])
    assert len(await bench.names(PODS)) == 2


async def test_a_controller_stays_until_its_pods_are_gone(bench: Bench) -> None:
    await of_controller(bench, MANY)
    async with bench.watching(CONTROLLERS) as controllers, bench.watching(PODS) as pods:
        await bench.delete(f"{CONTROLLERS}/rc", propagationPolicy="Foreground")
        await controllers.until(lambda events: events[-1:] and events[-1]["type"] == "DELETED")
        await pods.until(lambda events: deleted(events) == MANY)
        metadata = controllers.events[-2]["object"]["metadata"]
        assert metadata["finalizers"] == ["foregroundDeletion"]
        assert metadata["deletionTimestamp"]
        last = max(version(event) for event in pods.events)
        assert last < version(controllers.events[-1])


async def test_pods_with_another_owner_stay(bench: Bench) -> None:
    made, pods = await of_controller(bench, MANY)
    body = controller("other", 0)
    # It selects nothing that the first one makes.
    body["spec"]["selector"] = body["spec"]["template"]["metadata"]["labels"] = {"x": "y"}
    other = await bench.create(CONTROLLERS, body)
    reference = {
        "apiVersion": "v1", "kind": "ReplicationController", "name": "other",
        "uid": other["metadata"]["uid"],
    }  # fmt: skip
    kept = sorted(item["metadata"]["name"] for item in pods)[: MANY // 2]
    for name in kept:
        patch = {"metadata": {"ownerReferences": [reference]}}
        await bench.patch(f"{PODS}/{name}", patch, "application/strategic-merge-patch+json")
    await bench.delete(
        f"{CONTROLLERS}/rc",
        propagationPolicy="Foreground",
        preconditions={"uid": made["metadata"]["uid"]},
    )
    await bench.gone(f"{CONTROLLERS}/rc")
    await bench.cluster.settle()
    left = (await bench.get(PODS))["items"]
    assert sorted(item["metadata"]["name"] for item in left) == kept
    assert not any(item["metadata"].get("deletionTimestamp") for item in left)


async def test_a_circle_of_owners_is_collected(bench: Bench) -> None:
    made = [await bench.create(PODS, pod_of(f"pod{number}")) for number in (1, 2, 3)]
    for at, pod in enumerate(made):
        owner = made[at - 1]["metadata"]
        reference: dict[str, Any] = {
            "apiVersion": "v1", "kind": "Pod", "name": owner["name"], "uid": owner["uid"],
            "controller": True, "blockOwnerDeletion": True,
        }  # fmt: skip
        patch = {"metadata": {"ownerReferences": [reference]}}
        await bench.patch(f"{PODS}/{pod['metadata']['name']}", patch)
    await bench.delete(
        f"{PODS}/pod1",
        propagationPolicy="Foreground",
        preconditions={"uid": made[0]["metadata"]["uid"]},
    )
    await bench.listed(PODS, nobody)


def deleted(events: list[Obj]) -> int:
    return sum(event["type"] == "DELETED" for event in events)


def version(event: Obj) -> int:
    return int(event["object"]["metadata"]["resourceVersion"])
