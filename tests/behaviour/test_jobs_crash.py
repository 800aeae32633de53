"""Jobs and cron jobs whose controllers are killed after every single write: nothing is lost,
nothing is made or counted twice."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from sampan.aio.clock import SystemClock
from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.client.api import Client
from sampan.client.informer import Informers
from sampan.controllers.runtime.run import run_controllers
from tests.kit.cluster import Cluster
from tests.kit.mortal import Mortal

from .job_kit import cron, job
from .test_workloads_crash import Life, healthy
from .workload_kit import PATIENCE_S, PODS, PretendNode

JOBS = resource("jobs", "batch")
CRONS = resource("cronjobs", "batch")
INDEX = "batch.kubernetes.io/job-completion-index"

AT_ONCE = {"gracePeriodSeconds": 0, "propagationPolicy": "Background"}


class Ahead(SystemClock):
    """An hour later: an hourly start has been missed."""

    def now(self) -> float:
        return super().now() + 3600


class AheadLife(Life):
    async def start(self) -> None:
        client = Client(self.transport)
        informers = Informers(client, self.supervisor)
        self.running = await run_controllers(client, informers, self.supervisor, Ahead())


class EndingNode(PretendNode):
    """Pods end well as soon as they run; of the jobs that fail, the first fails and others run."""

    holding = True
    """Pods of the job `held` run on."""

    async def _advance(self, pod: Object, namespace: str, name: str) -> None:
        if pod["status"].get("phase") != "Running" or pod["metadata"].get("deletionTimestamp"):
            await super()._advance(pod, namespace, name)
            return
        phase = "Succeeded"
        if name.startswith("held") and self.holding:
            return
        if name.startswith("bad"):
            if pod["metadata"]["annotations"][INDEX] != "0":
                return
            phase = "Failed"
        await self.client.update(
            PODS, {**pod, "status": {**pod["status"], "phase": phase}}, "status"
        )


class Drill:
    """One job of each kind and a cron job, with one crash."""

    def __init__(self, cluster: Cluster, informers: Informers) -> None:
        self.cluster = cluster
        self.client = cluster.client
        self.caches = {kind: informers.informer(kind) for kind in (JOBS, CRONS, PODS)}
        self.changed = asyncio.Event()
        for cache in self.caches.values():
            cache.on_change(lambda old, new: self.changed.set())

    async def run(self, writes: int) -> bool:
        """False if all ended before the crash came."""
        life = AheadLife(Mortal(self.cluster.client.transport, writes))
        await life.start()
        minute = (time.gmtime().tm_min + 30) % 60
        indexed: Object = {"completionMode": "Indexed", "completions": 2, "parallelism": 2}
        for body in (
            job("good", completions=3, parallelism=2),
            job("bad", backoffLimit=0, **indexed),
        ):
            await self.client.create(JOBS, body, "default")
        await self.client.create(CRONS, cron("cron", f"{minute} * * * *"), "default")
        crashed = await self._until(life, END)
        if crashed:
            await life.end()
            life = AheadLife(Mortal(self.cluster.client.transport, 0))
            await life.start()
            await self._until(life, END)
        await life.end()
        await self._clear()
        return crashed

    async def suspend(self, writes: int, node: EndingNode) -> bool:
        """A job that is suspended while it runs and then goes on, with one crash on the way."""
        life = AheadLife(Mortal(self.cluster.client.transport, writes))
        await life.start()
        crashed, node.holding = False, True
        await self.client.create(JOBS, job("held", completions=2, parallelism=2), "default")
        for suspended, end in ((None, RUNNING), (True, SUSPENDED), (False, RESUMED)):
            if suspended is not None:
                node.holding = suspended
                await self.client.patch(JOBS, "held", {"spec": {"suspend": suspended}}, "default")
            if await self._until(life, end):
                crashed = True
                await life.end()
                life = AheadLife(Mortal(self.cluster.client.transport, 0))
                await life.start()
                await self._until(life, end)
        await life.end()
        await self._clear()
        return crashed

    async def _clear(self) -> None:
        for kind in (CRONS, JOBS, PODS):
            for item in self.caches[kind].list():
                await self.client.delete(kind, item["metadata"]["name"], "default", AT_ONCE)
        while any(map(len, self.caches.values())):
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), PATIENCE_S)

    async def _until(self, life: Life, end: Object) -> bool:
        """Wait for this state; True if the controllers died before."""
        return await life.until(lambda: self.end_state() == end, self.changed, self.end_state)

    def _jobs(self) -> dict[str, Object]:
        return {item["metadata"]["name"]: item for item in self.caches[JOBS].list()}

    def end_state(self) -> Object:
        jobs = {}
        for name, item in sorted(self._jobs().items()):
            said = item.get("status") or {}
            pods = [
                pod
                for pod in self.caches[PODS].list()
                if pod["metadata"]["labels"]["job-name"] == name
            ]
            jobs[name.split("-")[0]] = {
                "conditions": [found["type"] for found in said.get("conditions") or ()],
                "counts": (said.get("succeeded"), said.get("failed"), said.get("active")),
                "uncounted": said.get("uncountedTerminatedPods") or {},
                "pods": sorted(pod["status"]["phase"] for pod in pods),
                "held": any(pod["metadata"].get("finalizers") for pod in pods),
            }
        crons = [item.get("status") or {} for item in self.caches[CRONS].list()]
        told = [(said.keys(), len(self._jobs())) for said in crons]
        return {"jobs": jobs, "crons": [([*sorted(keys)], count) for keys, count in told]}


def _ended(kind: str, interim: str, pods: list[str], failed: int | None = None) -> Object:
    return {
        "conditions": [interim, kind],
        "counts": (len(pods) if kind == "Complete" else None, failed, None),
        "uncounted": {},
        "pods": pods,
        "held": False,
    }


def _held(conditions: list[str], counts: tuple[Any, ...], pods: list[str]) -> Object:
    """The job `held`; what runs is held by its finalizer."""
    found = {"conditions": conditions, "counts": counts, "uncounted": {}, "pods": pods}
    return {"jobs": {"held": {**found, "held": "Running" in pods}}, "crons": []}


RUNNING = _held([], (None, None, 2), ["Running", "Running"])
SUSPENDED = _held(["Suspended"], (None, None, None), [])
RESUMED = _held(["Suspended", "SuccessCriteriaMet", "Complete"], (2, None, None), ["Succeeded"] * 2)
END = {
    "jobs": {
        "bad": _ended("Failed", "FailureTarget", ["Failed"], 2),
        "cron": _ended("Complete", "SuccessCriteriaMet", ["Succeeded"]),
        "good": _ended("Complete", "SuccessCriteriaMet", ["Succeeded"] * 3),
    },
    "crons": [(["lastScheduleTime", "lastSuccessfulTime"], 3)],
}


@pytest.mark.trust
@pytest.mark.parametrize(("what", "least"), [("ends", 20), ("suspended", 15)])
async def test_a_crash_after_every_write_changes_nothing_in_the_end(what: str, least: int) -> None:
    async with healthy(EndingNode) as (cluster, informers, node):
        drill = Drill(cluster, informers)
        await informers.synced()
        writes = 1
        while await (drill.run(writes) if what == "ends" else drill.suspend(writes, node)):
            writes += 1
        # Pods, statuses, finalizers, deletions, the cron job's job: all were tried.
        assert writes > least
