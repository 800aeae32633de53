"""Jobs with all controllers and a node whose pods end as the test says, in time the test turns."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.errors import Invalid, Object
from sampan.testing import Outcome
from sampan.testing.cluster import Cluster, Options

from .job_kit import FINISHED, cluster, events, failed, job, pods, status

INDEX = "batch.kubernetes.io/job-completion-index"
FINALIZER = "batch.kubernetes.io/job-tracking"
FAIL_JOB = {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]}
RUNS = Outcome(run_s=1e6)


async def test_pods_are_made_and_counted_until_so_many_have_succeeded() -> None:
    async with cluster() as found:
        found.script(Outcome(run_s=10))
        await found.create(job(completions=5, parallelism=2))
        await found.settle()
        assert await status(found) == {"active": 2, "ready": 2}
        await found.advance(10)
        assert await status(found) == {"active": 2, "ready": 2, "succeeded": 2}
        await found.advance(20)
        assert await status(found) == {"succeeded": 5, **FINISHED}
        made = await pods(found, phase="Succeeded")
        assert len(made) == 5
        assert not any(pod["metadata"].get("finalizers") for pod in made)
        said = (await found.get("job", "j"))["status"]
        assert said["uncountedTerminatedPods"] == {}
        assert said["completionTime"] > said["startTime"]
        assert [line.split(":")[0] for line in await events(found)] == [
            "Normal SuccessfulCreate"
        ] * 5 + ["Normal Completed"]
        await found.delete("job", "j", options={"propagationPolicy": "Background"})
        await found.settle()
        assert await pods(found) == []


async def test_a_work_queue_is_done_when_one_has_succeeded_and_the_rest_have_ended() -> None:
    async with cluster() as found:
        found.script(RUNS)
        await found.create(job(parallelism=3))
        await found.settle()
        first = (await pods(found))[0]["metadata"]["name"]
        found.script(Outcome(run_s=0), first)
        await found.advance(1)
        assert await status(found) == {"active": 2, "ready": 2, "succeeded": 1}
        found.script(Outcome(run_s=0))
        await found.advance(1)
        assert await status(found) == {"succeeded": 3, **FINISHED}


async def test_an_indexed_job_tells_its_pods_who_they_are() -> None:
    async with cluster() as found:
        found.script(Outcome(run_s=5), "j-[13]-*")
        found.script(Outcome(run_s=50), "j-[024]-*")
        await found.create(job(completions=5, parallelism=5, completionMode="Indexed"))
        await found.advance(10)
        assert await status(found) == {
            "active": 3, "ready": 3, "succeeded": 2, "completedIndexes": "1,3",
        }  # fmt: skip
        for pod in await pods(found):
            meta, spec = pod["metadata"], pod["spec"]
            index = meta["annotations"][INDEX]
            assert meta["name"].startswith(f"j-{index}-")
            assert meta["labels"][INDEX] == index
            assert spec["hostname"] == f"j-{index}"
            variable = {
                "name": "JOB_COMPLETION_INDEX",
                "valueFrom": {
                    "fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX}']"}
                },
            }
            assert variable in spec["containers"][0]["env"]
        await found.advance(50)
        assert await status(found) == {"succeeded": 5, "completedIndexes": "0-4", **FINISHED}


async def test_an_indexed_job_grows_and_shrinks() -> None:
    async with cluster() as found:
        found.script(RUNS)
        found.script(Outcome(run_s=1), "j-3-*")
        await found.create(job(completions=4, parallelism=4, completionMode="Indexed"))
        await found.advance(2)
        assert (await status(found))["completedIndexes"] == "3"
        await found.patch("job", "j", {"spec": {"completions": 2, "parallelism": 2}})
        await found.settle()
        assert await status(found) == {"active": 2, "ready": 2}
        await found.patch("job", "j", {"spec": {"completions": 3, "parallelism": 3}})
        await found.settle()
        indexes = sorted(
            pod["metadata"]["annotations"][INDEX] for pod in await pods(found, phase="Running")
        )
        assert indexes == ["0", "1", "2"]
        found.script(Outcome(run_s=0))
        await found.advance(1)
        assert await status(found) == {"succeeded": 3, "completedIndexes": "0-2", **FINISHED}


async def test_failures_back_off_and_reach_their_limit() -> None:
    async with cluster() as found:
        found.script(Outcome(exit_code=1))
        await found.create(job(backoffLimit=3))
        moments = [0]
        await found.settle()
        for second in range(1, 100):
            await found.advance(1)
            if len(await pods(found)) > len(moments):
                moments.append(second)
        # The node's and the controller's seconds are cut: one more or less.
        assert all(
            abs(seen - due) <= 1 for seen, due in zip(moments, [0, 10, 30, 70], strict=True)
        ), moments
        assert await status(found) == {"failed": 4, **failed("BackoffLimitExceeded")}
        said = await events(found)
        text = "Job has reached the specified backoff limit"
        assert said[-1] == f"Warning BackoffLimitExceeded: {text}"
        found.script(Outcome())
        await found.advance(600)
        assert len(await pods(found)) == 4


async def test_a_success_forgives_the_failures_before_it() -> None:
    async with cluster() as found:
        found.script(Outcome(exit_code=1))
        await found.create(job(completions=2, backoffLimit=9))
        await found.advance(35)
        assert await status(found) == {"failed": 3}
        found.script(Outcome(run_s=0))
        await found.advance(40)
        # 40 s after the third failure one succeeds, and the next comes at once.
        assert await status(found) == {"failed": 3, "succeeded": 2, **FINISHED}


async def test_restarts_count_where_the_node_restarts() -> None:
    async with cluster() as found:
        found.script(Outcome(exit_code=1, back_off_s=1))
        await found.create(job(pod={"restartPolicy": "OnFailure"}, backoffLimit=2))
        await found.advance(10)
        said = await status(found)
        assert said == {"failed": 1, **failed("BackoffLimitExceeded")}
        assert await pods(found) == []


async def test_an_index_has_failures_of_its_own() -> None:
    async with cluster() as found:
        found.script(Outcome(exit_code=1), "j-1-*")
        spec: Object = {"completions": 3, "parallelism": 3, "completionMode": "Indexed"}
        await found.create(job(**spec, backoffLimitPerIndex=1))
        await found.settle()
        assert await status(found) == {
            "succeeded": 2, "completedIndexes": "0,2", "failedIndexes": "",
        }  # fmt: skip
        await found.advance(12)
        assert await status(found) == {
            "succeeded": 2, "failed": 2, "completedIndexes": "0,2", "failedIndexes": "1",
            **failed("FailedIndexes"),
        }  # fmt: skip
        counts = {
            pod["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"]
            for pod in await pods(found, phase="Failed")
        }
        assert counts == {"0", "1"}
        assert not any(pod["metadata"].get("finalizers") for pod in await pods(found))


async def test_too_many_indexes_fail() -> None:
    async with cluster() as found:
        found.script(Outcome(exit_code=1), "j-[12]-*")
        found.script(RUNS, "j-[03]-*")
        spec: Object = {"completions": 4, "parallelism": 4, "completionMode": "Indexed"}
        await found.create(job(**spec, backoffLimitPerIndex=0, maxFailedIndexes=1))
        await found.settle()
        said = await status(found)
        # Those that ran are stopped, and have failed with the job.
        assert said["failedIndexes"] == "1,2"
        assert said["Failed"] == "MaxFailedIndexesExceeded"
        assert said["failed"] == 4


async def test_a_deadline_ends_what_runs() -> None:
    async with cluster() as found:
        found.script(RUNS)
        await found.create(job(parallelism=2, completions=2, activeDeadlineSeconds=30))
        await found.advance(29)
        assert await status(found) == {"active": 2, "ready": 2}
        await found.advance(2)
        assert await status(found) == {"failed": 2, **failed("DeadlineExceeded")}
        assert await pods(found) == []
        text = "Job was active longer than specified deadline"
        assert (await events(found))[-1] == f"Warning DeadlineExceeded: {text}"


async def test_the_end_of_a_job_waits_for_its_pods_to_stop() -> None:
    async with cluster() as found:
        found.script(Outcome(run_s=1e6, stop_s=20))
        await found.create(job(activeDeadlineSeconds=10))
        await found.advance(11)
        assert await status(found) == {
            "failed": 1, "terminating": 1, "FailureTarget": "DeadlineExceeded",
        }  # fmt: skip
        await found.advance(20)
        assert await status(found) == {"failed": 1, **failed("DeadlineExceeded")}


async def test_exit_codes_fail_the_job_at_once() -> None:
    async with cluster() as found:
        found.script(Outcome(exit_code=42))
        await found.create(job(podFailurePolicy=FAIL_JOB))
        await found.settle()
        assert await status(found) == {"failed": 1, **failed("PodFailurePolicy")}
        name = (await pods(found))[0]["metadata"]["name"]
        assert (await events(found))[-1] == (
            f"Warning PodFailurePolicy: Container c for pod default/{name} failed with exit code "
            "42 matching FailJob rule at index 0"
        )


async def test_exit_codes_fail_an_index_at_once() -> None:
    rule = {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [42]}}
    spec: Object = {"completions": 4, "parallelism": 2, "completionMode": "Indexed"}
    async with cluster() as found:
        found.script(Outcome(exit_code=42), "j-[02]-*")
        policy = {"rules": [rule]}
        await found.create(job(**spec, backoffLimitPerIndex=3, podFailurePolicy=policy))
        await found.settle()
        assert await status(found) == {
            "succeeded": 2, "failed": 2, "completedIndexes": "1,3", "failedIndexes": "0,2",
            **failed("FailedIndexes"),
        }  # fmt: skip
        assert (
            'job_controller_pod_failures_handled_by_failure_policy_total{action="FailIndex"} 2\n'
        ) in _metrics(found)


async def test_what_others_say_in_the_status_stays() -> None:
    async with cluster() as found:
        found.script(Outcome(run_s=10))
        await found.create(job())
        await found.settle()
        mine = {"type": "Mine", "status": "True", "reason": "Said"}
        change = {"status": {"conditions": [mine]}}
        await found.patch("job", "j", change, subresource="status")
        await found.advance(11)
        assert await status(found) == {"succeeded": 1, "Mine": "Said", **FINISHED}


async def test_a_silent_nodes_pods_are_replaced() -> None:
    async with await Cluster.start(Options(nodes=2, virtual_time=True)) as found:
        found.script(RUNS)
        await found.create(job())
        await found.settle()
        first = (await pods(found))[0]
        found.stop_node(first["spec"]["nodeName"])
        # 40 s until it is missed, 300 s that pods tolerate it.
        await found.advance(400)
        second = next(pod for pod in await pods(found) if pod["spec"] != first["spec"])
        assert second["spec"]["nodeName"] != first["spec"]["nodeName"]
        assert await status(found) == {
            "active": 1, "ready": 1, "failed": 1, "terminating": 1,
        }  # fmt: skip


async def test_disruptions_are_ignored_and_replaced() -> None:
    rule = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    async with cluster() as found:
        found.script(RUNS)
        await found.create(job(podFailurePolicy={"rules": [rule]}, backoffLimit=0))
        await found.settle()
        first = (await pods(found))[0]["metadata"]["name"]
        condition = {"type": "DisruptionTarget", "status": "True"}
        done = {"phase": "Failed", "conditions": [condition]}
        await found.patch("pod", first, {"status": done}, subresource="status")
        await found.advance(11)
        assert await status(found) == {"active": 1, "ready": 1}
        assert len(await pods(found)) == 2


@pytest.mark.parametrize(
    ("rule", "done"),
    [
        ({"succeededIndexes": "0,2"}, "0,2"),
        ({"succeededIndexes": "0-3", "succeededCount": 1}, "0"),
        ({"succeededCount": 2}, "0,2"),
    ],
)
async def test_some_indexes_may_be_enough(rule: Object, done: str) -> None:
    async with cluster() as found:
        found.script(RUNS)
        for index in done.split(","):
            found.script(Outcome(run_s=0), f"j-{index}-*")
        spec: Object = {"completions": 4, "parallelism": 4, "completionMode": "Indexed"}
        await found.create(job(**spec, successPolicy={"rules": [rule]}))
        await found.settle()
        assert await status(found) == {
            "succeeded": len(done.split(",")), "completedIndexes": done,
            "SuccessCriteriaMet": "SuccessPolicy", "Complete": "SuccessPolicy",
        }  # fmt: skip
        said = (await found.get("job", "j"))["status"]["conditions"][-1]
        assert said["message"] == "Matched rules at index 0"
        assert await pods(found, phase="Running") == []


async def test_a_suspended_job_may_be_changed_before_it_goes_on() -> None:
    async with cluster() as found:
        found.script(RUNS)
        await found.create(job(parallelism=1))
        await found.settle()
        container = {"name": "c", "image": "work:1", "resources": {"requests": {"cpu": "10m"}}}
        pod = {"nodeSelector": {"kubernetes.io/os": "linux"}, "containers": [container]}
        change = {"spec": {"template": {"spec": pod}}}
        with pytest.raises(Invalid, match="field is immutable"):
            await found.patch("job", "j", change)
        await found.patch("job", "j", {"spec": {"suspend": True}})
        await found.settle()
        image = {"spec": {"template": {"spec": {"containers": [{**container, "image": "x"}]}}}}
        with pytest.raises(Invalid, match="field is immutable"):
            await found.patch("job", "j", image)
        await found.patch("job", "j", change)
        await found.patch("job", "j", {"spec": {"suspend": False}})
        await found.settle()
        made = (await pods(found))[0]["spec"]
        assert made["nodeSelector"] == pod["nodeSelector"]
        assert made["containers"][0]["resources"] == container["resources"]


async def test_suspend_and_resume() -> None:
    async with cluster() as found:
        found.script(RUNS)
        await found.create(job(suspend=True, parallelism=2, activeDeadlineSeconds=60))
        await found.settle()
        assert await status(found) == {"Suspended": "JobSuspended"}
        assert "startTime" not in (await found.get("job", "j"))["status"]
        await found.advance(100)
        await found.patch("job", "j", {"spec": {"suspend": False}})
        await found.advance(50)
        assert await status(found) == {"active": 2, "ready": 2}
        await found.patch("job", "j", {"spec": {"suspend": True}})
        await found.settle()
        # Pods that are given up have not failed.
        assert await status(found) == {"Suspended": "JobSuspended"}
        assert await pods(found) == []
        await found.patch("job", "j", {"spec": {"suspend": False}})
        await found.advance(59)
        assert await status(found) == {"active": 2, "ready": 2}
        await found.advance(2)
        assert (await status(found))["Failed"] == "DeadlineExceeded"
        words = [line.split(":")[0].split()[1] for line in await events(found)]
        assert [word for word in words if word in ("Suspended", "Resumed")] == [
            "Suspended",
            "Resumed",
        ]


@pytest.mark.parametrize(("policy", "early"), [("TerminatingOrFailed", 1), ("Failed", 0)])
async def test_when_a_pod_that_goes_is_replaced(policy: str, early: int) -> None:
    async with cluster() as found:
        found.script(Outcome(run_s=1e6, stop_s=25))
        await found.create(job(podReplacementPolicy=policy))
        await found.settle()
        first = (await pods(found))[0]["metadata"]["name"]
        await found.delete("pod", first)
        await found.advance(15)
        assert (await status(found)).get("active", 0) == early
        await found.advance(25)
        assert await status(found) == {"active": 1, "ready": 1, "failed": 1}
        assert len(await pods(found)) == 1


async def test_a_pod_that_no_node_ever_had_is_replaced() -> None:
    async with cluster() as found:
        nowhere = {"nodeSelector": {"no": "where"}}
        await found.create(job(pod=nowhere, podReplacementPolicy="Failed"))
        await found.settle()
        first = (await pods(found))[0]["metadata"]["name"]
        await found.delete("pod", first)
        await found.advance(11)
        assert await status(found) == {"active": 1, "failed": 1}
        assert (await pods(found))[0]["metadata"]["name"] != first


async def test_the_host_names_of_an_indexed_job_must_be_possible() -> None:
    async with cluster() as found:
        spec: Object = {"completionMode": "Indexed", "parallelism": 1}
        await found.create(job("j" * 61, **spec, completions=10))
        with pytest.raises(Invalid, match=f"with invalid DNS label: {'k' * 61}-10"):
            await found.create(job("k" * 61, **spec, completions=11))
        await found.settle()
        made = (await pods(found, phase="Succeeded"))[0]
        assert len(made["metadata"]["name"]) <= 63
        assert made["spec"]["hostname"].startswith("j" * 61 + "-")


async def test_a_job_of_somebody_else_is_left_alone() -> None:
    async with cluster() as found:
        await found.create(job(managedBy="example.com/queue"))
        await found.settle()
        assert await pods(found) == []
        assert not (await found.get("job", "j")).get("status")


async def test_pods_are_adopted_and_released() -> None:
    async with cluster() as found:
        found.script(RUNS)
        await found.create(job(parallelism=1))
        await found.settle()
        pod = (await pods(found))[0]
        name, labels = pod["metadata"]["name"], pod["metadata"]["labels"]
        gone: dict[str, Any] = dict.fromkeys(labels)
        await found.patch("pod", name, {"metadata": {"labels": gone}})
        await found.settle()
        released = await found.get("pod", name)
        assert not released["metadata"].get("ownerReferences")
        assert not released["metadata"].get("finalizers")
        assert len(await pods(found)) == 2
        await found.patch("pod", name, {"metadata": {"labels": labels}})
        await found.settle()
        adopted = [
            item["metadata"]
            for item in await pods(found)
            if item["metadata"].get("finalizers") == [FINALIZER]
        ]
        # One of the two is one too many.
        assert len(adopted) == 1
        assert adopted[0]["ownerReferences"][0]["name"] == "j"
        assert await status(found) == {"active": 1, "ready": 1}


async def test_a_pod_that_would_not_be_counted_is_replaced() -> None:
    async with cluster() as found:
        found.script(Outcome(run_s=10))
        await found.create(job(completions=2, parallelism=2, backoffLimit=0))
        await found.settle()
        first = (await pods(found))[0]["metadata"]["name"]
        await found.patch("pod", first, {"metadata": {"finalizers": None}})
        await found.advance(30)
        assert await status(found) == {"succeeded": 2, **FINISHED}
        left = [pod["metadata"]["name"] for pod in await pods(found)]
        assert len(left) == 2
        assert first not in left


async def test_finished_jobs_go_with_their_pods_when_their_time_is_over() -> None:
    async with cluster() as found:
        await found.create(job(ttlSecondsAfterFinished=60))
        await found.create(job("stays"))
        await found.settle()
        assert "Complete" in await status(found)
        await found.advance(58)
        assert await found.find("job", "j")
        await found.advance(4)
        assert await found.find("job", "j") is None
        assert await found.find("job", "stays")
        assert {pod["metadata"]["labels"]["job-name"] for pod in await pods(found)} == {"stays"}


async def test_pods_without_a_job_lose_the_finalizer() -> None:
    async with cluster() as found:
        found.script(RUNS)
        await found.create(job())
        await found.settle()
        await found.delete("job", "j", options={"propagationPolicy": "Orphan"})
        await found.settle()
        left = await pods(found)
        assert len(left) == 1
        assert not left[0]["metadata"].get("finalizers")


async def test_the_quota_is_told_and_tried_again() -> None:
    async with cluster() as found:
        quota = {"spec": {"hard": {"pods": "1"}}, "metadata": {"name": "q"}}
        await found.create({"apiVersion": "v1", "kind": "ResourceQuota", **quota})
        await found.settle()
        found.script(RUNS)
        await found.create(job(completions=3, parallelism=3))
        await found.settle()
        assert await status(found) == {"active": 1, "ready": 1}
        told = [line for line in await events(found) if "FailedCreate" in line]
        assert told
        assert "exceeded quota" in told[0]
        await found.patch("quota", "q", {"spec": {"hard": {"pods": "9"}}})
        await found.advance(130)
        assert await status(found) == {"active": 3, "ready": 3}


async def test_what_is_counted_is_told_under_upstreams_names() -> None:
    async with cluster() as found:
        await found.create(job(completions=2))
        await found.settle()
        text = _metrics(found)
    mode = 'completion_mode="NonIndexed"'
    assert (
        f'job_controller_jobs_finished_total{{{mode},result="succeeded",'
        'reason="CompletionsReached"} 1\n'
    ) in text
    assert f'job_controller_job_pods_finished_total{{{mode},result="succeeded"}} 2\n' in text
    assert 'job_controller_job_pods_creation_total{reason="new",status="succeeded"} 2\n' in text
    label = f'{{{mode},result="success",action="pods_created"}}'
    assert f"job_controller_job_sync_duration_seconds_count{label} 2\n" in text


def _metrics(found: Cluster) -> str:
    return "".join(tell() for tell in found.server.expositions)
