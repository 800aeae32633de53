"""How a job stands and what it does: indexes, back-off, policies; and lives of jobs as
transcripts, one line per sync."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.api.times import format_time
from sampan.controllers import job_indexes as indexes
from sampan.controllers.job_backoff import Backoff, after
from sampan.controllers.job_plan import (
    FINALIZER,
    Observed,
    Plan,
    Survey,
    completed,
    is_complete,
    plan,
    survey,
)
from sampan.controllers.job_pods import new_pod
from sampan.controllers.job_policies import judge
from sampan.controllers.job_status import end, settle, track
from sampan.controllers.runtime import pods as podlib
from tests.kit.transcript import hold

NOW_S = 1_700_000_000.0
JOBS = resource("jobs", "batch")


@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)), st.integers(1, 70))
def test_indexes_are_sets(one: set[int], other: set[int], completions: int) -> None:
    left, right = (indexes.with_indexes((), found) for found in (one, other))
    assert indexes.total(left) == len(one)
    assert indexes.merge(left, right) == indexes.with_indexes((), one | other)
    assert indexes.shared(left, right) == len(one & other)
    assert {item for item in range(70) if indexes.holds(left, item)} == one
    kept = {item for item in one if item < completions}
    assert indexes.parse(indexes.text_of(left), completions) == indexes.with_indexes((), kept)
    missing = [item for item in range(completions) if item not in one]
    for count in (0, 1, 5, 100):
        assert indexes.missing(left, count, completions) == missing[:count]


def test_text_of_indexes() -> None:
    assert indexes.text_of(indexes.with_indexes((), [7, 0, 1, 3, 4, 5, 9])) == "0,1,3-5,7,9"
    assert indexes.parse("1,x,3-5,9-2000", 12) == ((1, 1), (3, 5), (9, 11))


@pytest.mark.parametrize(
    ("failures", "waits_s"), [(0, 0), (1, 10), (2, 20), (3, 40), (6, 320), (7, 600), (900, 600)]
)
def test_backoff_doubles_up_to_ten_minutes(failures: int, waits_s: float) -> None:
    record = Backoff(failures, NOW_S)
    assert record.left_s(NOW_S) == waits_s
    assert record.left_s(NOW_S + 1000) == 0


def test_a_success_forgets_failures_before_it() -> None:
    early, late = (pod("a", "Failed", ended_s=when) for when in (10, 30))
    won = pod("w", "Succeeded", ended_s=20)
    assert after(None, [], [early, late]) == Backoff(2, NOW_S + 30)
    assert after(Backoff(5, NOW_S), [won], [early, late]) == Backoff(1, NOW_S + 30)
    assert after(Backoff(5, NOW_S), [won], [early]) == Backoff()


def test_the_first_rule_that_matches_decides() -> None:
    def rule(action: str, operator: str, *values: int, **more: Any) -> Object:
        codes = {"operator": operator, "values": values, **more}
        return {"action": action, "onExitCodes": codes}

    rules = [
        rule("Ignore", "In", 5, containerName="other"),
        rule("Ignore", "In", 7),
        {
            "action": "FailIndex",
            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
        },
        rule("FailJob", "NotIn", 1, 2),
    ]
    job = {"spec": {"podFailurePolicy": {"rules": rules}}}
    assert judge(job, pod("p", "Failed", code=7)) == ("", False, "Ignore")
    assert judge(job, pod("p", "Failed", code=1)) == ("", True, "")
    assert judge(job, pod("p", "Failed", code=5)).message == (
        "Container c for pod ns/p failed with exit code 5 matching FailJob rule at index 3"
    )
    gone = pod("p", "Failed", code=0)
    gone["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
    assert judge(job, gone) == ("", True, "FailIndex")


def pod(name: str, phase: str, *, ended_s: float = 0, code: int = 0) -> Object:
    ended = {"exitCode": code, "finishedAt": format_time(NOW_S + ended_s)}
    return {
        "metadata": {"name": name, "namespace": "ns", "uid": name, "annotations": {}},
        "status": {
            "phase": phase,
            "containerStatuses": [{"name": "c", "state": {"terminated": ended}}],
        },
    }


class Life:
    """A job whose syncs are told, with a store and a node of a few lines."""

    def __init__(self, **spec: Any) -> None:
        template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}
        self.job: Object = {
            "metadata": {"name": "j", "namespace": "ns", "uid": "j"},
            "spec": {"backoffLimit": 6, "parallelism": 1, "template": template, **spec},
            "status": {"startTime": format_time(NOW_S)},
        }
        self.pods: list[Object] = []
        self.now_s = NOW_S
        self.backoff: Backoff | None = None
        self.made = 0
        self.lines = [f"job {' '.join(f'{key}={value}' for key, value in spec.items())}"]

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.lines.append(f"after {seconds:g} s")

    def ends(self, phase: str, *names: str) -> None:
        """These pods end so."""
        for item in self.pods:
            if item["metadata"]["name"] in names:
                ended = {"exitCode": int(phase == "Failed"), "finishedAt": format_time(self.now_s)}
                item["status"] = {
                    "phase": phase,
                    "containerStatuses": [{"name": "c", "state": {"terminated": ended}}],
                }
        self.lines.append(f"{phase}: {' '.join(names)}")

    def sync(self) -> None:
        found = survey(Observed(self.job, self.pods, frozenset(), self.backoff), self.now_s)
        self.backoff = found.backoff
        todo, active = Plan(), len(found.active)
        if found.verdict is None:
            todo = plan(found, self.now_s)
            active += len(todo.create) - len(todo.delete)
            if is_complete(found, active):
                found.verdict = completed(self.now_s)
        else:
            for item in found.active:
                item["metadata"]["deletionTimestamp"] = format_time(self.now_s)
            active = 0
        said = self._do(found, todo)
        tracking = track(found, {**self.job["status"], "active": active}, self.now_s)
        for item in tracking.release:
            item["metadata"]["finalizers"] = []
        left = {item["metadata"]["uid"] for item in self.pods if item["metadata"].get("finalizers")}
        status = settle(tracking.status, left)
        self.job["status"] = end(status, tracking) or status
        self.lines.append(f"  {said or 'nothing'} -> {self._told()}")

    def _do(self, found: Survey, todo: Plan) -> str:
        names = []
        for index in todo.create:
            self.made += 1
            body = new_pod(JOBS, found, index)
            body["metadata"] |= {"name": f"p{self.made}", "uid": f"p{self.made}"}
            body["status"] = {"phase": "Running"}
            assert FINALIZER in body["metadata"]["finalizers"]
            self.pods.append(body)
            names.append(f"p{self.made}" + ("" if index is None else f"[{index}]"))
        # They lose their finalizers first, and are counted as nothing.
        self.pods = [item for item in self.pods if item not in todo.delete]
        return " ".join(
            [
                *([f"make {' '.join(names)}"] if names else []),
                *(f"delete {item['metadata']['name']}" for item in todo.delete),
                *([f"wait {todo.wait_s:g} s"] if todo.wait_s else []),
            ]
        )

    def _told(self) -> str:
        status = self.job["status"]
        keys = ("active", "succeeded", "failed", "completedIndexes", "failedIndexes")
        parts = [f"{key}={status[key]}" for key in keys if status.get(key)]
        return " ".join(parts + [item["type"] for item in status.get("conditions", ())])


def test_a_job_that_fails_twice_and_succeeds(request: pytest.FixtureRequest) -> None:
    life = Life(completions=2, parallelism=2)
    life.sync()
    life.ends("Failed", "p1")
    life.sync()
    life.wait(10)
    life.sync()
    life.ends("Failed", "p3")
    life.ends("Succeeded", "p2")
    life.sync()
    life.wait(10)
    life.sync()
    life.ends("Succeeded", "p4")
    life.sync()
    hold(request, "job_retries", "\n".join(life.lines) + "\n")


def test_indexes_fail_and_are_tried_again(request: pytest.FixtureRequest) -> None:
    life = Life(completions=3, parallelism=2, completionMode="Indexed", backoffLimitPerIndex=1)
    life.sync()
    life.ends("Failed", "p1")
    life.sync()
    life.ends("Succeeded", "p2")
    life.sync()
    life.wait(10)
    life.sync()
    life.ends("Failed", "p4")
    life.sync()
    life.ends("Succeeded", "p3")
    life.sync()
    hold(request, "job_indexes", "\n".join(life.lines) + "\n")


def test_a_job_is_scaled_and_reaches_its_limit(request: pytest.FixtureRequest) -> None:
    life = Life(completions=9, parallelism=3, backoffLimit=0)
    life.sync()
    life.job["spec"]["parallelism"] = 1
    life.sync()
    life.job["spec"]["parallelism"] = 2
    life.sync()
    life.ends("Failed", "p4")
    life.sync()
    assert [podlib.is_terminating(item) for item in life.pods] == [True, False]
    hold(request, "job_limit", "\n".join(life.lines) + "\n")
