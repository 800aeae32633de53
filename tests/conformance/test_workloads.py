"""What holds for several kinds that make pods (as upstream's test/e2e/apps: deployment.go,
replica_set.go, rc.go, statefulset.go, daemon_set.go)."""

from __future__ import annotations

import pytest

from .bench import PODS, Bench, pod
from .workloads import PATHS, image_of, pods_of, ready, with_image, workload

SCALED = ("Deployment", "ReplicaSet", "StatefulSet")
WITH_STATUS = ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet")
COLLECTED = ("DaemonSet", "ReplicaSet", "StatefulSet")
REPLICATED = ("ReplicaSet", "ReplicationController")


@pytest.mark.parametrize("kind", [*SCALED, "ReplicationController"])
async def test_the_scale_is_read_and_written(bench: Bench, kind: str) -> None:
    path = f"{PATHS[kind]}/w"
    await bench.create(PATHS[kind], workload(kind))
    await ready(bench, kind, 1)
    scale = await bench.get(f"{path}/scale")
    assert (scale["kind"], scale["spec"]["replicas"], scale["status"]["replicas"]) == (
        "Scale",
        1,
        1,
    )
    scale["spec"]["replicas"] = 2
    assert (await bench.put(f"{path}/scale", scale))["spec"]["replicas"] == 2
    assert (await bench.get(path))["spec"]["replicas"] == 2
    await ready(bench, kind, 2)
    patched = await bench.patch(f"{path}/scale", {"spec": {"replicas": 4}})
    assert patched["spec"]["replicas"] == 4
    assert (await bench.get(path))["spec"]["replicas"] == 4
    await ready(bench, kind, 4)


@pytest.mark.parametrize("kind", WITH_STATUS)
async def test_the_status_is_read_and_written(bench: Bench, kind: str) -> None:
    path = f"{PATHS[kind]}/w"
    await bench.create(PATHS[kind], workload(kind))
    made = await ready(bench, kind, 1)
    chosen = f"{PATHS[kind]}?labelSelector=app%3Dw&resourceVersion="
    async with bench.watching(f"{chosen}{made['metadata']['resourceVersion']}") as seen:
        for verb in ("Update", "Patch"):
            read = await bench.get(f"{path}/status")
            said = {"type": f"Status{verb}", "status": "True", "reason": "E2E", "message": "set"}
            conditions = [*(read["status"].get("conditions") or ()), said]
            if verb == "Update":
                body = {**read, "status": {**read["status"], "conditions": conditions}}
                written = await bench.put(f"{path}/status", body)
            else:
                changed = {"status": {"conditions": conditions}}
                written = await bench.patch(f"{path}/status", changed)
            assert said.items() <= written["status"]["conditions"][-1].items()
            await bench.cluster.settle()
            left = (await bench.get(path))["status"]["conditions"]
            assert said["type"] in [item["type"] for item in left]
        await seen.until(
            lambda events: (
                {"StatusUpdate", "StatusPatch"}
                <= {
                    item["type"]
                    for event in events
                    for item in event["object"]["status"].get("conditions") or ()
                }
            )
        )


@pytest.mark.parametrize("kind", COLLECTED)
async def test_a_collection_is_listed_and_deleted(bench: Bench, kind: str) -> None:
    path = PATHS[kind]
    await bench.create(path, workload(kind))
    await bench.create(path, workload(kind, name="other"))
    await ready(bench, kind, 1)
    # StatefulSets are patched on the way; the others may be, too.
    change = {"metadata": {"labels": {"patched": "yes"}}, **with_image("web:2")}
    patched = await bench.patch(f"{path}/w", change)
    assert image_of(patched["spec"]["template"]) == "web:2"
    chosen = f"{path}?labelSelector=patched%3Dyes"
    assert await bench.names(chosen) == ["w"]
    await bench.delete(chosen)
    assert await bench.names(path) == ["other"]
    await bench.listed(f"{PODS}?labelSelector=app%3Dw", lambda items: not items)


@pytest.mark.parametrize("kind", REPLICATED)
async def test_a_pod_is_adopted_and_released(bench: Bench, kind: str) -> None:
    orphan = await bench.create(PODS, pod("orphan", {"app": "w"}))
    owner = await bench.create(PATHS[kind], workload(kind))
    adopted = await bench.state(
        f"{PODS}/orphan", lambda obj: obj["metadata"].get("ownerReferences")
    )
    assert adopted["metadata"]["uid"] == orphan["metadata"]["uid"]
    [reference] = adopted["metadata"]["ownerReferences"]
    assert reference["controller"] is True
    assert reference["uid"] == owner["metadata"]["uid"]
    await bench.cluster.settle()
    assert await bench.names(PODS) == ["orphan"]
    await bench.patch(f"{PODS}/orphan", {"metadata": {"labels": {"app": "else"}}})
    await bench.state(f"{PODS}/orphan", lambda obj: not obj["metadata"].get("ownerReferences"))
    [other] = await bench.listed(f"{PODS}?labelSelector=app%3Dw", bool)
    assert other["metadata"]["ownerReferences"][0]["uid"] == owner["metadata"]["uid"]


@pytest.mark.parametrize("kind", REPLICATED)
async def test_each_replica_runs_the_image(bench: Bench, kind: str) -> None:
    await bench.create(PATHS[kind], workload(kind, 2))
    await ready(bench, kind, 2)
    pods = await pods_of(bench)
    assert len(pods) == len({item["status"]["podIP"] for item in pods}) == 2
    assert {item["status"]["containerStatuses"][0]["image"] for item in pods} == {"web:1"}
    assert all(item["metadata"]["name"].startswith("w-") for item in pods)
