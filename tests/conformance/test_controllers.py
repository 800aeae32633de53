"""ReplicationControllers (as upstream's test/e2e/apps/rc.go); test_workloads.py has the rest."""

from __future__ import annotations

from sampan.api.errors import Object

from .bench import CONTROLLERS, NS, Bench
from .workloads import pods_of, ready, workload

KIND = "ReplicationController"


async def test_exceeding_a_quota_is_a_condition(bench: Bench) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}}
    await bench.create(f"{NS}/resourcequotas", {**quota, "spec": {"hard": {"pods": "2"}}})
    await bench.state(f"{NS}/resourcequotas/q", lambda obj: (obj.get("status") or {}).get("hard"))
    await bench.create(CONTROLLERS, workload(KIND, 3))

    def failure(obj: Object) -> Object | None:
        conditions = (obj.get("status") or {}).get("conditions") or ()
        return next((item for item in conditions if item["type"] == "ReplicaFailure"), None)

    found = failure(await bench.state(f"{CONTROLLERS}/w", failure))
    assert found is not None
    assert (found["status"], found["reason"]) == ("True", "FailedCreate")
    assert "exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2" in found["message"]
    assert len(await pods_of(bench)) == 2
    await bench.patch(f"{CONTROLLERS}/w", {"spec": {"replicas": 2}})
    await bench.state(f"{CONTROLLERS}/w", lambda obj: failure(obj) is None)


async def test_the_life_of_a_controller(bench: Bench) -> None:
    path = f"{CONTROLLERS}/w"
    async with bench.watching(f"{CONTROLLERS}?labelSelector=app%3Dw") as seen:
        await bench.create(CONTROLLERS, workload(KIND))
        await ready(bench, KIND, 1)
        labelled = await bench.patch(path, {"metadata": {"labels": {"e2e": "patched"}}})
        assert labelled["metadata"]["labels"] == {"app": "w", "e2e": "patched"}
        nothing = {"readyReplicas": 0, "availableReplicas": 0}
        await bench.patch(f"{path}/status", {"status": nothing})
        # What was said of the pods is put right again.
        await ready(bench, KIND, 1)
        assert (await bench.get(f"{path}/status"))["kind"] == KIND
        await bench.patch(f"{path}/scale", {"spec": {"replicas": 2}})
        await ready(bench, KIND, 2)
        everywhere = "/api/v1/replicationcontrollers?labelSelector=e2e%3Dpatched"
        [found] = (await bench.get(everywhere))["items"]
        updated = await bench.put(path, {**found, "spec": {**found["spec"], "replicas": 3}})
        assert updated["spec"]["replicas"] == 3
        await ready(bench, KIND, 3)
        await bench.delete(f"{CONTROLLERS}?labelSelector=e2e%3Dpatched")
        await seen.until(lambda events: events[-1]["type"] == "DELETED")
        types = [event["type"] for event in seen.events]
        assert types[0] == "ADDED"
        assert types.count("ADDED") == types.count("DELETED") == 1
