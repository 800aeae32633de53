"""The wall clock is set forward and back while controllers run: nothing is made twice, nothing runs
hot, and all goes on. (Timers are by another clock, which no one sets.)"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from sampan.testing.clock import VirtualClock
from sampan.testing.cluster import Cluster, Options

from .job_kit import job
from .workload_kit import deployment

DAY_S = 86400.0


class Jumps:
    """A cluster whose wall clock may be set."""

    def __init__(self, c: Cluster) -> None:
        assert isinstance(c.clock, VirtualClock)
        self.offset_s = 0.0
        real = c.clock.now
        # On the instance: timers go by the real one.
        c.clock.now = lambda: real() + self.offset_s  # type: ignore[method-assign]


@asynccontextmanager
async def cluster() -> AsyncIterator[tuple[Cluster, Jumps]]:
    async with await Cluster.start(Options(virtual_time=True)) as found:
        await found.settle()
        yield found, Jumps(found)


async def test_rollouts_and_finished_jobs() -> None:
    async with cluster() as (c, clock):
        await c.create(deployment("web", 3, minReadySeconds=10, progressDeadlineSeconds=60))
        await c.create(job(ttlSecondsAfterFinished=100))
        await c.advance(5)
        for jump_s in (DAY_S, -2 * DAY_S, DAY_S):
            clock.offset_s += jump_s
            image = {"spec": {"containers": [{"name": "c", "image": f"web:{clock.offset_s}"}]}}
            await c.patch("deployment", "web", {"spec": {"template": image}})
            revision = c.store.revision
            await c.advance(100)
            # Heartbeats and three rollouts' writes, not a loop's.
            assert c.store.revision - revision < 300
            found = (await c.get("deployment", "web"))["status"]
            assert found["updatedReplicas"] == found["replicas"] == 3
        await c.advance(60)
        assert (await c.get("deployment", "web"))["status"]["availableReplicas"] == 3
        assert await c.list("jobs") == []


async def test_cron_jobs() -> None:
    async with cluster() as (c, clock):
        spec = job()["spec"]
        body = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c"}}
        limits = {"successfulJobsHistoryLimit": 100}
        times = {"schedule": "* * * * *", "jobTemplate": {"spec": spec}, **limits}
        await c.create({**body, "spec": times})

        async def made(seconds: float) -> int:
            """Jobs that are new after so long."""
            before = len(await c.list("jobs"))
            await c.advance(seconds)
            return len(await c.list("jobs")) - before

        assert await made(120) == 2
        clock.offset_s = DAY_S
        # The last of those that were missed, if anything looks, and those that are due.
        assert await made(120) in (2, 3)
        clock.offset_s = 0.0
        revision = c.store.revision
        # What was scheduled is in the future: nothing is made twice.
        assert await made(180) == 0
        assert c.store.revision - revision < 400
        last = (await c.get("cronjob", "c"))["status"]["lastScheduleTime"]
        assert datetime.fromisoformat(last) > datetime.fromtimestamp(c.clock.now(), UTC)
        clock.offset_s = DAY_S
        # It is looked at every ten minutes at least.
        assert await made(660) >= 1
