"""Deployments and ReplicaSets (as upstream's test/e2e/apps/deployment.go and replica_set.go)."""

from __future__ import annotations

import pytest

from sampan.node.simulation.outcome import Outcome

from .bench import DEPLOYMENTS, PODS, REPLICASETS, Bench, Obj
from .workloads import image_of, pods_of, ready, with_image, workload

REVISION = "deployment.kubernetes.io/revision"
# Of the old sets that the tests lay before a deployment, and too large for 32 bits.
NUMBER = 3546343826724305832


def is_complete(obj: Obj) -> bool:
    said, wanted = obj.get("status") or {}, obj["spec"]["replicas"]
    counts = ("replicas", "updatedReplicas", "availableReplicas")
    current = said.get("observedGeneration") == obj["metadata"]["generation"]
    return current and all(said.get(count, 0) == wanted for count in counts)


async def complete(bench: Bench, name: str = "w") -> Obj:
    return await bench.state(f"{DEPLOYMENTS}/{name}", is_complete)


async def sizes(bench: Bench) -> dict[str, int]:
    """Wanted replicas of each set, by its image."""
    items = (await bench.get(REPLICASETS))["items"]
    return {image_of(item["spec"]["template"]): item["spec"]["replicas"] for item in items}


async def test_a_rolling_update_takes_over_a_set(bench: Bench) -> None:
    old = workload("ReplicaSet")
    old["metadata"] |= {"name": "old", "annotations": {REVISION: str(NUMBER)}}
    await bench.create(REPLICASETS, old)
    await ready(bench, "ReplicaSet", 1, "old")
    body = workload("Deployment")
    body["spec"]["template"]["spec"]["containers"][0]["image"] = "web:2"
    await bench.create(DEPLOYMENTS, body)
    made = await complete(bench)
    assert made["metadata"]["annotations"][REVISION] == str(NUMBER + 1)
    sets = {item["metadata"]["name"]: item for item in (await bench.get(REPLICASETS))["items"]}
    assert len(sets) == 2
    assert all(item["metadata"]["ownerReferences"][0]["name"] == "w" for item in sets.values())
    assert sets["old"]["spec"]["replicas"] == 0
    await bench.listed(PODS, lambda items: [image_of(item) for item in items] == ["web:2"])


async def test_recreate_has_old_and_new_pods_never_together(bench: Bench) -> None:
    await bench.create(DEPLOYMENTS, workload("Deployment", 3, strategy={"type": "Recreate"}))
    await complete(bench)
    since = (await bench.get(PODS))["metadata"]["resourceVersion"]
    async with bench.watching(f"{PODS}?resourceVersion={since}") as seen:
        await bench.patch(f"{DEPLOYMENTS}/w", with_image("web:2"))
        await complete(bench)
        events = [(item["type"], image_of(item["object"])) for item in seen.events]
        gone = [place for place, item in enumerate(events) if item == ("DELETED", "web:1")]
        came = [place for place, item in enumerate(events) if item == ("ADDED", "web:2")]
        assert (len(gone), len(came)) == (3, 3)
        assert max(gone) < min(came)


async def test_old_sets_are_cleaned_up(bench: Bench) -> None:
    await bench.create(REPLICASETS, workload("ReplicaSet"))
    await ready(bench, "ReplicaSet", 1)
    body = workload("Deployment", revisionHistoryLimit=0)
    body["spec"]["template"]["spec"]["containers"][0]["image"] = "web:2"
    await bench.create(DEPLOYMENTS, body)
    await complete(bench)
    await bench.gone(f"{REPLICASETS}/w")
    assert await sizes(bench) == {"web:2": 1}


@pytest.mark.cluster(virtual_time=True)
async def test_a_rollout_is_overtaken_by_the_next(bench: Bench) -> None:
    cluster = bench.cluster
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    await bench.create(DEPLOYMENTS, workload("Deployment", strategy=rolling, minReadySeconds=10))
    await cluster.advance(12)
    # Ready, but not for as long as it must be: the rollout goes no further.
    await bench.patch(f"{DEPLOYMENTS}/w", with_image("web:2"))
    await cluster.advance(5)
    assert await sizes(bench) == {"web:1": 1, "web:2": 1}
    await bench.patch(f"{DEPLOYMENTS}/w", with_image("web:3"))
    await cluster.advance(5)
    assert await sizes(bench) == {"web:1": 1, "web:2": 0, "web:3": 1}
    await cluster.advance(7)
    assert await sizes(bench) == {"web:1": 0, "web:2": 0, "web:3": 1}
    assert is_complete(await bench.get(f"{DEPLOYMENTS}/w"))
    assert [image_of(item) for item in await pods_of(bench)] == ["web:3"]


async def test_scaling_is_proportional_during_a_rollout(bench: Bench) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
    await bench.create(DEPLOYMENTS, workload("Deployment", 10, strategy=rolling))
    await complete(bench)
    bench.cluster.script(Outcome(waiting="ErrImagePull"), image="web:404")
    await bench.patch(f"{DEPLOYMENTS}/w", with_image("web:404"))
    await bench.cluster.settle()
    assert await sizes(bench) == {"web:1": 8, "web:404": 5}
    await bench.patch(f"{DEPLOYMENTS}/w", {"spec": {"replicas": 30}})
    await bench.cluster.settle()
    assert await sizes(bench) == {"web:1": 20, "web:404": 13}


async def test_the_life_of_a_deployment(bench: Bench) -> None:
    path = f"{DEPLOYMENTS}/w"
    async with bench.watching(f"{DEPLOYMENTS}?labelSelector=app%3Dw") as seen:
        await bench.create(DEPLOYMENTS, workload("Deployment", 2))
        await complete(bench)
        change: Obj = {"metadata": {"labels": {"e2e": "patched"}}, **with_image("web:2")}
        change["spec"]["replicas"] = 1
        await bench.patch(path, change)
        await complete(bench)
        everywhere = await bench.get("/apis/apps/v1/deployments?labelSelector=e2e%3Dpatched")
        [found] = everywhere["items"]
        assert image_of(found["spec"]["template"]) == "web:2"
        updated = await bench.put(path, {**found, "spec": {**found["spec"], "replicas": 3}})
        assert updated["metadata"]["generation"] == found["metadata"]["generation"] + 1
        await complete(bench)
        said = (await bench.get(f"{path}/status"))["status"]
        assert said["availableReplicas"] == 3
        nothing = {"readyReplicas": 0, "availableReplicas": 0, "unavailableReplicas": 3}
        noted = {"metadata": {"annotations": {"e2e": "status"}}, "status": nothing}
        patched = await bench.patch(f"{path}/status", noted)
        assert patched["metadata"]["annotations"]["e2e"] == "status"
        # What was said of the pods is put right again.
        await bench.state(path, lambda obj: obj["status"].get("readyReplicas") == 3)
        await bench.delete(path)
        await seen.until(lambda events: events[-1]["type"] == "DELETED")


async def test_a_replica_set_is_replaced_and_patched(bench: Bench) -> None:
    path = f"{REPLICASETS}/w"
    await bench.create(REPLICASETS, workload("ReplicaSet"))
    made = await ready(bench, "ReplicaSet", 1)
    await bench.put(path, {**made, "spec": {**made["spec"], "replicas": 2}})
    await ready(bench, "ReplicaSet", 2)
    change: Obj = {"metadata": {"labels": {"e2e": "patched"}}, **with_image("web:2")}
    change["spec"]["replicas"] = 3
    change["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 0
    patched = await bench.patch(path, change)
    assert patched["metadata"]["labels"]["e2e"] == "patched"
    await ready(bench, "ReplicaSet", 3)
    # The template counts for new pods alone.
    assert sorted(map(image_of, await pods_of(bench))) == ["web:1", "web:1", "web:2"]
