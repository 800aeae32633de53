"""Jobs and CronJobs (as upstream's test/e2e/apps/job.go and cronjob.go); the rest is proven by
tests/behaviour/test_jobs.py and test_cronjobs.py."""

from __future__ import annotations

import asyncio

import pytest

from sampan.api.errors import Object
from sampan.node.simulation.outcome import Outcome

from .bench import PODS, Bench, Obj, die, discovered, live_through
from .workloads import JOBS, pods_of, workload

CRONS = "/apis/batch/v1/namespaces/default/cronjobs"
INDEXED: Obj = {"completionMode": "Indexed"}
RUNS, ENDS = Outcome(run_s=3600), Outcome(run_s=0)


def condition(job: Object, kind: str) -> str:
    """The reason of a condition; "" if it is not true."""
    found = (job.get("status") or {}).get("conditions") or ()
    return next(
        (
            item.get("reason", "-")
            for item in found
            if (item["type"], item["status"]) == (kind, "True")
        ),
        "",
    )


async def test_the_status_of_a_job(bench: Bench) -> None:
    path = f"{JOBS}/w"
    bench.cluster.script(RUNS)
    await bench.create(JOBS, workload("Job", parallelism=2, completions=4))
    await bench.state(path, lambda obj: (obj.get("status") or {}).get("ready") == 2)
    said = {"type": "CustomConditionType", "status": "True", "reason": "E2E"}
    noted = {"annotations": {"patchedstatus": "true"}}
    change = {"metadata": noted, "status": {"conditions": [said]}}
    patched = await bench.patch(f"{path}/status", change)
    assert patched["metadata"]["annotations"] == {"patchedstatus": "true"}
    assert condition(patched, "CustomConditionType") == "E2E"
    patched["status"]["conditions"].append({**said, "type": "Second"})
    updated = await bench.put(f"{path}/status", patched)
    assert condition(updated, "Second") == "E2E"
    read = await bench.get(f"{path}/status")
    assert read["metadata"]["uid"] == patched["metadata"]["uid"]
    await bench.cluster.settle()
    # The controller's own next write leaves them.
    await bench.patch(path, {"spec": {"parallelism": 1}})
    left = await bench.state(path, lambda obj: obj["status"].get("active") == 1)
    assert condition(left, "CustomConditionType") == condition(left, "Second") == "E2E"


async def test_a_job_is_deleted_with_its_pods(bench: Bench) -> None:
    bench.cluster.script(RUNS)
    await bench.create(JOBS, workload("Job", parallelism=2, completions=4))
    await bench.state(f"{JOBS}/w", lambda obj: (obj.get("status") or {}).get("active") == 2)
    await bench.listed(
        PODS, lambda items: [item["status"]["phase"] for item in items] == ["Running"] * 2
    )
    await bench.delete(f"{JOBS}/w", propagationPolicy="Foreground")
    await bench.gone(f"{JOBS}/w")
    assert await bench.names(PODS) == []


async def test_the_life_of_a_job(bench: Bench) -> None:
    path = f"{JOBS}/w"
    async with bench.watching(f"{JOBS}?labelSelector=app%3Dw") as seen:
        await bench.create(JOBS, workload("Job", suspend=True, parallelism=2, completions=2))
        await bench.state(path, lambda obj: condition(obj, "Suspended"))
        assert await bench.names(PODS) == []
        labelled = await bench.patch(path, {"metadata": {"labels": {"e2e": "patched"}}})
        assert labelled["metadata"]["labels"]["e2e"] == "patched"
        read = await bench.get(path)
        read["metadata"]["annotations"] = {"updated": "true"}
        updated = await bench.put(path, {**read, "spec": {**read["spec"], "suspend": False}})
        assert updated["metadata"]["annotations"] == {"updated": "true"}
        everywhere = "/apis/batch/v1/jobs?labelSelector=e2e%3Dpatched"
        assert await bench.names(everywhere) == ["w"]
        await bench.state(path, lambda obj: condition(obj, "Complete"))
        await bench.expect(
            200,
            "DELETE",
            f"{JOBS}?labelSelector=e2e%3Dpatched",
            {"propagationPolicy": "Background"},
        )
        await seen.until(lambda events: events[-1]["type"] == "DELETED")
        await bench.listed(PODS, lambda items: not items)


@pytest.mark.cluster(virtual_time=True)
async def test_tasks_that_fail_are_restarted_where_they_are(bench: Bench) -> None:
    cluster = bench.cluster
    cluster.script(Outcome(exit_code=1, back_off_s=1))
    body = workload("Job", parallelism=2, completions=4, backoffLimit=6)
    body["spec"]["template"]["spec"]["restartPolicy"] = "OnFailure"
    await bench.create(JOBS, body)
    await cluster.settle()
    first = {item["metadata"]["uid"] for item in await pods_of(bench)}
    cluster.script(ENDS)
    await cluster.advance(5)
    done = await bench.get(f"{JOBS}/w")
    assert condition(done, "Complete")
    assert (done["status"]["succeeded"], done["status"].get("failed", 0)) == (4, 0)
    pods = (await bench.get(PODS))["items"]
    restarts = {
        item["metadata"]["uid"]: item["status"]["containerStatuses"][0]["restartCount"]
        for item in pods
    }
    assert first == {uid for uid, count in restarts.items() if count}


@pytest.mark.cluster(virtual_time=True)
async def test_an_eviction_is_no_failure_where_the_policy_says_so(bench: Bench) -> None:
    cluster, count = bench.cluster, 3
    cluster.script(RUNS)
    rule = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    sizes: Obj = {"parallelism": count, "completions": count, "backoffLimit": 0}
    await bench.create(
        JOBS, workload("Job", **sizes, **INDEXED, podFailurePolicy={"rules": [rule]})
    )
    await cluster.settle()
    pods = await pods_of(bench)
    assert len(pods) == count
    body: Obj = {"apiVersion": "policy/v1", "kind": "Eviction"}
    for item in pods:
        name = item["metadata"]["name"]
        await bench.create(f"{PODS}/{name}/eviction", {**body, "metadata": {"name": name}})
    await cluster.advance(40)
    left = await pods_of(bench)
    assert len(left) == count
    assert not {item["metadata"]["uid"] for item in left} & {
        item["metadata"]["uid"] for item in pods
    }
    cluster.script(ENDS)
    await cluster.advance(2)
    done = await bench.get(f"{JOBS}/w")
    assert condition(done, "Complete") == "CompletionsReached"
    assert done["status"]["succeeded"] == count
    assert not done["status"].get("failed")


async def test_a_success_policy_that_all_indexes_meet(bench: Bench) -> None:
    rules = {"rules": [{"succeededCount": 2}]}
    sizes: Obj = {"parallelism": 2, "completions": 2}
    async with bench.watching(JOBS) as seen, asyncio.timeout(10):
        await bench.create(JOBS, workload("Job", **sizes, **INDEXED, successPolicy=rules))
        done = await bench.state(f"{JOBS}/w", lambda obj: condition(obj, "Complete"))
        assert (
            condition(done, "Complete") == condition(done, "SuccessCriteriaMet") == "SuccessPolicy"
        )
        said = done["status"]
        assert (said["completedIndexes"], said["succeeded"]) == ("0,1", 2)
        assert said["ready"] == said["terminating"] == 0
        assert not said.get("active")
        assert not said.get("failed")
        met = [condition(event["object"], "SuccessCriteriaMet") for event in seen.events]
        assert "SuccessPolicy" in met


async def test_cron_jobs(bench: Bench) -> None:
    await discovered(bench, "batch", "v1", "cronjobs", "cronjobs/status")
    template = {"spec": {"template": workload("Job")["spec"]["template"]}}
    body = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "spec": {"schedule": "*/1 * * * *", "suspend": True, "jobTemplate": template},
    }
    change, back = {"spec": {"schedule": "0 * * * *"}}, {"spec": {"schedule": "5 * * * *"}}
    name = await live_through(bench, CRONS, body, change, back)
    path = f"{CRONS}/{name}/status"
    moment = "2026-01-02T03:04:05Z"
    patched = await bench.patch(path, {"status": {"lastScheduleTime": moment}})
    assert patched["status"]["lastScheduleTime"] == moment
    read = await bench.get(path)
    assert read["status"]["lastScheduleTime"] == moment
    read["status"]["lastScheduleTime"] = "2026-02-02T03:04:05Z"
    updated = await bench.put(path, read)
    assert updated["status"]["lastScheduleTime"] == "2026-02-02T03:04:05Z"
    await die(bench, CRONS, name)
