"""Cron jobs with all controllers, in time the test turns."""

from __future__ import annotations

from datetime import datetime

import pytest

from sampan.aio.clock import Clock
from sampan.aio.tasks import Supervisor
from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.client.informer import Informers
from sampan.controllers.runtime.controller import Options as ControllerOptions
from sampan.controllers.runtime.run import run_controllers
from sampan.testing import Outcome
from sampan.testing.cluster import Cluster
from tests.kit.clock import FakeClock, settle
from tests.kit.cluster import api_cluster

from .job_kit import cluster, cron, events

JOBS = resource("jobs", "batch")
CRONS = resource("cronjobs", "batch")
SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
PERIOD_S = 300
RUNS = Outcome(run_s=1e6)


async def to_next(found: Cluster, extra_s: float = 1) -> None:
    """Until just after the next multiple of five minutes."""
    await found.advance(PERIOD_S - found.clock.now() % PERIOD_S + extra_s)


async def jobs(found: Cluster) -> list[str]:
    return [item["metadata"]["name"] for item in await found.list("jobs")]


def due(found: Cluster, name: str = "c") -> str:
    """The name of the job of the start that was last."""
    return f"{name}-{int(found.clock.now() // PERIOD_S * PERIOD_S) // 60}"


async def test_a_job_is_made_at_its_time_and_the_old_ones_go() -> None:
    async with cluster() as found:
        await found.create(cron(successfulJobsHistoryLimit=2))
        await found.settle()
        assert await jobs(found) == []
        names = []
        for _ in range(3):
            await to_next(found)
            names.append(due(found))
        assert await jobs(found) == names[1:]
        said = (await found.get("cronjob", "c"))["status"]
        assert said.keys() == {"lastScheduleTime", "lastSuccessfulTime"}
        job = await found.get("job", names[-1])
        assert job["metadata"]["annotations"] == {SCHEDULED: said["lastScheduleTime"]}
        owner = job["metadata"]["ownerReferences"][0]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("CronJob", "c", True)
        assert await events(found, "CronJob") == [
            f"Normal SuccessfulCreate: Created job {names[0]}",
            f"Normal SawCompletedJob: Saw completed job: {names[0]}, status: Complete",
            f"Normal SuccessfulCreate: Created job {names[1]}",
            f"Normal SawCompletedJob: Saw completed job: {names[1]}, status: Complete",
            f"Normal SuccessfulCreate: Created job {names[2]}",
            f"Normal SawCompletedJob: Saw completed job: {names[2]}, status: Complete",
            f"Normal SuccessfulDelete: Deleted job {names[0]}",
        ]


@pytest.mark.parametrize(
    ("policy", "left", "active"), [("Allow", 3, 3), ("Forbid", 1, 1), ("Replace", 1, 1)]
)
async def test_what_becomes_of_a_job_that_still_runs(policy: str, left: int, active: int) -> None:
    async with cluster() as found:
        found.script(RUNS)
        await found.create(cron(concurrencyPolicy=policy))
        names = []
        for _ in range(3):
            await to_next(found)
            names.append(due(found))
        there = await jobs(found)
        assert len(there) == left
        assert there[-1] == (names[0] if policy == "Forbid" else names[-1])
        said = (await found.get("cronjob", "c"))["status"]["active"]
        assert [item["name"] for item in said] == there
        assert len(said) == active
        held = "Normal JobAlreadyActive: Not starting job because prior execution is running and "
        told = held + "concurrency policy is Forbid" in await events(found, "CronJob")
        assert told == (policy == "Forbid")


async def test_forbidden_starts_are_made_up_for_when_the_job_has_ended() -> None:
    async with cluster() as found:
        found.script(Outcome(run_s=PERIOD_S + 100))
        await found.create(cron(concurrencyPolicy="Forbid"))
        await to_next(found)
        first = due(found)
        await to_next(found)
        second = due(found)
        assert await jobs(found) == [first]
        await found.advance(150)
        assert await jobs(found) == [first, second]


async def test_suspended_and_then_the_last_start_is_made_up_for() -> None:
    async with cluster() as found:
        await found.create(cron(suspend=True))
        for _ in range(3):
            await to_next(found)
        assert await jobs(found) == []
        await found.patch("cronjob", "c", {"spec": {"suspend": False}})
        await found.settle()
        assert await jobs(found) == [due(found)]


async def test_a_start_may_be_too_late() -> None:
    async with cluster() as found:
        await found.create(cron(suspend=True, startingDeadlineSeconds=60))
        await to_next(found, 100)
        await found.patch("cronjob", "c", {"spec": {"suspend": False}})
        await found.settle()
        assert await jobs(found) == []
        await to_next(found)
        assert await jobs(found) == [due(found)]


async def test_hundreds_of_starts_were_missed() -> None:
    async with cluster() as found:
        await found.create(cron(schedule="* * * * *", suspend=True))
        await found.advance(102 * 60)
        await found.patch("cronjob", "c", {"spec": {"suspend": False}})
        await found.settle()
        assert await jobs(found) == [f"c-{int(found.clock.now() // 60)}"]
        assert (
            "Warning TooManyMissedTimes: too many missed start times. Set or decrease "
            ".spec.startingDeadlineSeconds or check clock skew"
        ) in await events(found, "CronJob")


async def test_a_new_schedule_holds_from_now_on() -> None:
    async with cluster() as found:
        await found.create(cron(schedule="0 0 1 1 *"))
        await to_next(found, 200)
        await found.patch("cronjob", "c", {"spec": {"schedule": "*/5 * * * *"}})
        await found.settle()
        assert await jobs(found) == []
        await to_next(found)
        assert await jobs(found) == [due(found)]


async def test_made_by_hand_and_gone_by_hand() -> None:
    async with cluster() as found:
        found.script(RUNS)
        await found.create(cron())
        await to_next(found)
        mine, owner = due(found), await found.get("cronjob", "c")
        body = {
            **await found.get("job", mine),
            "metadata": {
                "name": "by-hand",
                "annotations": {"cronjob.kubernetes.io/instantiate": "manual"},
                "ownerReferences": [
                    {
                        "apiVersion": "batch/v1", "kind": "CronJob", "name": "c",
                        "uid": owner["metadata"]["uid"], "controller": True,
                    }
                ],
            },
            "spec": owner["spec"]["jobTemplate"]["spec"],
        }  # fmt: skip
        await found.create(body)
        await found.delete("job", mine, options={"propagationPolicy": "Background"})
        await found.settle()
        said = await events(found, "CronJob")
        unexpected = "Saw a job that the controller did not create or forgot: by-hand"
        assert f"Warning UnexpectedJob: {unexpected}" in said
        assert f"Normal MissingJob: Active job went missing: {mine}" in said
        assert "active" not in (await found.get("cronjob", "c"))["status"]
        await found.delete("cronjob", "c", options={"propagationPolicy": "Background"})
        await found.settle()
        assert await jobs(found) == []


async def test_a_schedule_whose_time_never_comes() -> None:
    async with cluster() as found:
        await found.create(cron(schedule="0 0 31 2 *"))
        await found.advance(600)
        said = await events(found, "CronJob")
        why = "time difference between two schedules is less than 1 second"
        assert said == [f"Warning InvalidSchedule: invalid schedule: 0 0 31 2 * : {why}"]


@pytest.mark.parametrize(
    ("begin", "stamps"),
    [
        # The night whose third hour is skipped in Berlin.
        ("2026-03-29T00:00:00+00:00", ["2026-03-29T04:30:00+02:00"]),
        # The one that has it twice.
        ("2026-10-25T00:00:00+00:00", ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00",
                                       "2026-10-25T04:30:00+01:00"]),
    ],
)  # fmt: skip
async def test_daylight_saving(begin: str, stamps: list[str]) -> None:
    clock = FakeClock(datetime.fromisoformat(begin).timestamp())
    body = cron(schedule="30 2,4 * * *", timeZone="Europe/Berlin")
    made = await _over(clock, 4 * 3600, body)
    assert [job["metadata"]["annotations"][SCHEDULED] for job in made] == stamps


async def _over(clock: FakeClock, seconds: float, body: Object) -> list[Object]:
    """The jobs that a cron job makes in this time; no pod of them ever runs."""
    chosen: Clock = clock
    async with api_cluster(clock=chosen) as server:
        supervisor = Supervisor(chosen)
        informers = Informers(server.client, supervisor, chosen)
        running = await run_controllers(
            server.client, informers, supervisor, chosen, ControllerOptions()
        )
        await informers.synced()
        await server.client.create(CRONS, body, "default")
        await settle()
        for _ in range(int(seconds // 1800)):
            await clock.advance(1800)
            await settle(500)
        listed = await server.client.list(JOBS, "default")
        await running.stop()
        await supervisor.stop()
        return [*listed["items"]]
