"""StatefulSets, DaemonSets and their revisions (as upstream's test/e2e/apps: statefulset.go,
daemon_set.go, controller_revision.go)."""

from __future__ import annotations

import pytest

from sampan.node.simulation.outcome import Outcome

from .bench import PODS, Bench, Obj
from .workloads import APPS, PATHS, image_of, pods_of, ready, with_image, workload

STATEFUL, DAEMONS = PATHS["StatefulSet"], PATHS["DaemonSet"]
REVISIONS = f"{APPS}/controllerrevisions"
UNREADY, READY = Outcome(ready_s=None), Outcome()


async def images(bench: Bench) -> dict[str, str]:
    """Image by the pod's name."""
    return {item["metadata"]["name"]: image_of(item) for item in await pods_of(bench)}


async def test_scaling_is_in_order_and_halts_at_what_is_unhealthy(bench: Bench) -> None:
    cluster, path = bench.cluster, f"{STATEFUL}/w"
    cluster.script(UNREADY, "w-0")
    async with bench.watching(f"{PODS}?labelSelector=app%3Dw") as seen:
        await bench.create(STATEFUL, workload("StatefulSet", 3))
        await cluster.settle()
        assert await bench.names(PODS) == ["w-0"]
        cluster.script(READY)
        await ready(bench, "StatefulSet", 3)
        assert [name for kind, name in seen.names if kind == "ADDED"] == ["w-0", "w-1", "w-2"]
        cluster.script(UNREADY)
        await ready(bench, "StatefulSet", 0)
        await bench.patch(path, {"spec": {"replicas": 0}})
        await cluster.settle()
        assert await bench.names(PODS) == ["w-0", "w-1", "w-2"]
        cluster.script(READY)
        await bench.listed(PODS, lambda items: not items)
        gone = [name for kind, name in seen.names if kind == "DELETED"]
        assert gone == ["w-2", "w-1", "w-0"]


async def test_canaries_and_phases(bench: Bench) -> None:
    path = f"{STATEFUL}/w"

    def rolling(partition: int) -> Obj:
        return {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}

    await bench.create(STATEFUL, workload("StatefulSet", 3, updateStrategy=rolling(3)))
    made = await ready(bench, "StatefulSet", 3)
    await bench.patch(path, with_image("web:2"))
    await bench.cluster.settle()
    waiting = await bench.get(path)
    assert waiting["status"]["currentRevision"] == made["status"]["currentRevision"]
    assert waiting["status"]["updateRevision"] != made["status"]["currentRevision"]
    assert set((await images(bench)).values()) == {"web:1"}
    await bench.patch(path, {"spec": {"updateStrategy": rolling(2)}})
    await bench.cluster.settle()
    canary = {"w-0": "web:1", "w-1": "web:1", "w-2": "web:2"}
    assert await images(bench) == canary
    for name in ("w-0", "w-2"):
        # Each comes back at the revision of its side.
        await bench.delete(f"{PODS}/{name}", gracePeriodSeconds=0)
        await ready(bench, "StatefulSet", 3)
        await bench.cluster.settle()
        assert await images(bench) == canary
    for partition in (1, 0):
        await bench.patch(path, {"spec": {"updateStrategy": rolling(partition)}})
        await bench.cluster.settle()
        old = [name for name, image in (await images(bench)).items() if image == "web:1"]
        assert old == [f"w-{place}" for place in range(partition)]
    found = (await bench.get(path))["status"]
    assert found["currentRevision"] == found["updateRevision"]


@pytest.mark.cluster(nodes=2)
async def test_a_daemon_runs_on_each_node_and_is_revived(bench: Bench) -> None:
    await bench.create(DAEMONS, workload("DaemonSet"))
    await ready(bench, "DaemonSet", 2)
    pods = await pods_of(bench)
    assert len({item["spec"]["nodeName"] for item in pods}) == 2
    lost = pods[0]
    await bench.delete(f"{PODS}/{lost['metadata']['name']}", gracePeriodSeconds=0)
    await bench.listed(
        PODS,
        lambda items: (
            len({item["spec"].get("nodeName") for item in items}) == 2
            and lost["metadata"]["uid"] not in {item["metadata"]["uid"] for item in items}
        ),
    )


@pytest.mark.cluster(nodes=2)
async def test_a_rollback_restarts_nothing_needlessly(bench: Bench) -> None:
    bench.cluster.script(Outcome(waiting="ErrImagePull"), image="web:404")
    await bench.create(DAEMONS, workload("DaemonSet"))
    await ready(bench, "DaemonSet", 2)
    before = {item["metadata"]["uid"] for item in await pods_of(bench)}
    await bench.patch(f"{DAEMONS}/w", with_image("web:404"))
    await bench.listed(PODS, lambda items: "web:404" in map(image_of, items))
    await bench.cluster.settle()
    kept = before & {item["metadata"]["uid"] for item in await pods_of(bench)}
    assert len(kept) == 1
    await bench.patch(f"{DAEMONS}/w", with_image("web:1"))
    await bench.listed(PODS, lambda items: {*map(image_of, items)} == {"web:1"})
    await ready(bench, "DaemonSet", 2)
    assert kept < {item["metadata"]["uid"] for item in await pods_of(bench)}


async def test_the_life_of_a_controller_revision(bench: Bench) -> None:
    chosen = f"{REVISIONS}?labelSelector=app%3Dw"
    owner = await bench.create(DAEMONS, workload("DaemonSet"))
    await ready(bench, "DaemonSet", 1)
    [first] = (await bench.get(chosen))["items"]
    name = first["metadata"]["name"]
    patched = await bench.patch(f"{REVISIONS}/{name}", {"metadata": {"labels": {"e2e": "yes"}}})
    assert patched["metadata"]["labels"]["e2e"] == "yes"
    reference = patched["metadata"]["ownerReferences"]
    body = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {"name": "w-other", "labels": {"app": "w"}, "ownerReferences": reference},
        "data": {"spec": {"template": {"$patch": "replace"}}},
        "revision": 2,
    }
    assert reference[0]["uid"] == owner["metadata"]["uid"]
    await bench.create(REVISIONS, body)
    assert len(await bench.names(chosen)) == 2
    await bench.delete(f"{REVISIONS}/w-other")
    assert await bench.names(chosen) == [name]
    read = await bench.get(f"{REVISIONS}/{name}")
    read["metadata"]["labels"][name] = "updated"
    updated = await bench.put(f"{REVISIONS}/{name}", read)
    assert updated["metadata"]["labels"][name] == "updated"
    await bench.patch(f"{DAEMONS}/w", {"spec": {"template": {"metadata": {"labels": {"x": "y"}}}}})
    await bench.listed(chosen, lambda items: len(items) == 2)
    await bench.cluster.settle()
    await bench.delete(f"{REVISIONS}?labelSelector={name}%3Dupdated")
    await bench.cluster.settle()
    # Nobody makes the old one anew, and the present one has the next number.
    [last] = (await bench.get(chosen))["items"]
    assert last["metadata"]["name"] != name
    assert last["revision"] in (2, 3)
