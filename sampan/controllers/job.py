"""Jobs: pods that run until so many have succeeded, each counted exactly once (KEP-2307).

Work per sync is that of the job's own pods (index by owner) plus the orphans that carry the first
label of its selector. A job that waits (for a back-off, for its deadline) has one appointment in
the queue. A finished job is never looked at again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sampan.api.errors import NotFound, Object
from sampan.api.times import format_time
from sampan.client.events import NORMAL, WARNING
from sampan.client.interface import STRATEGIC_PATCH

from . import job_metrics as metrics
from .job_backoff import Backoff
from .job_plan import (
    FINALIZER,
    Observed,
    Survey,
    completed,
    deadline_s,
    has_finalizer,
    is_complete,
    is_finished,
    is_suspended,
    new_condition,
    plan,
    survey,
)
from .job_pods import new_pod
from .job_status import Tracking, end, put, settle, track
from .runtime import pods as podlib
from .runtime.claim import claim
from .runtime.conditions import condition
from .runtime.controller import Context
from .runtime.parallel import each
from .runtime.podcontroller import PodController
from .runtime.queue import Request, Requeue

# A sync costs some 5 us per pod: a job of 1000 whose pods all change is looked at twenty times a
# second, one of a hundred is not held up.
PACE_S = 50e-6

MANAGER = "kubernetes.io/job-controller"
"""What `managedBy` says of jobs that are ours."""


class Done(NamedTuple):
    """What a sync has made of its plan."""

    active: int
    ready: int
    terminating: int
    action: str = metrics.TRACKING
    error: Exception | None = None
    wait_s: float = 0.0


class JobController(PodController):
    """See the module."""

    name = "job"
    kind = ("jobs", "batch")
    component = "job-controller"

    def __init__(self, context: Context) -> None:
        # Before the rest: what is cached already comes to the handlers at once.
        self.counters = metrics.counters()
        self.durations = metrics.Durations()
        self.backoffs: dict[Request, Backoff] = {}
        self.released: dict[Request, set[str]] = {}
        """uids of pods whose finalizer is gone, until the cache shows it."""
        self.written: dict[Request, int] = {}
        """The version of each job's last status, until the cache has it: what came before would
        make pods anew that are counted already."""
        super().__init__(context)

    def exposition(self) -> str:
        return self.counters.exposition() + self.durations.exposition()

    def forget(self, request: Request) -> None:
        super().forget(request)
        for known in (self.backoffs, self.released, self.written):
            known.pop(request, None)

    def may_adopt(self, owner: Object, pod: Object) -> bool:
        return not is_finished(owner) and super().may_adopt(owner, pod)

    def owner_changed(self, old: Object | None, new: Object | None) -> None:
        super().owner_changed(old, new)
        if old is None and new is not None:
            manager = new["spec"].get("managedBy")
            if manager not in (None, MANAGER):
                self.counters.add(metrics.EXTERNAL, manager)

    def pod_changed(self, old: Object | None, new: Object | None) -> None:
        metrics.count_tracked(self.counters, old, new)
        super().pod_changed(old, new)
        pod = new or old
        if self.released and pod is not None and (new is None or not has_finalizer(new)):
            owner = self.owner_of(pod)
            if owner is not None:
                self.released.get(owner, set()).discard(pod["metadata"]["uid"])

    async def reconcile(self, request: Request) -> Requeue | None:
        known = self.owners.get(*request)
        if (
            known is None
            or is_finished(known)
            or known["spec"].get("managedBy", MANAGER) != (MANAGER)
        ):
            self.forget(request)
            return None
        if int(known["metadata"]["resourceVersion"]) < self.written.get(request, 0):
            return None
        waiting_s = self.expectations.outstanding_s(request)
        now_s, begin_s = self.clock.now(), self.clock.monotonic()
        pods = await claim(self.pods, self.owners, known, finalizer=FINALIZER)
        job = {**known, "status": _started(known, now_s)}
        removed = frozenset(self.released.get(request, ()))
        observed = Observed(job, pods, removed, self.backoffs.get(request))
        found = survey(observed, now_s)
        done = await self._act(request, found, bool(waiting_s))
        status, result = self._status(found, done, bool(waiting_s)), "error"
        try:
            await self._track(request, known, found, status)
            result = "success" if done.error is None else "error"
        finally:
            took_s = self.clock.monotonic() - begin_s
            self.counters.add(metrics.SYNCS, metrics.mode(job), result, done.action)
            self.durations.observe(job, result, done.action, took_s)
        if done.error is not None:
            raise done.error
        self.queue.rest(request, PACE_S * len(pods))
        waits = [wait for wait in (deadline_s(job, now_s), done.wait_s, waiting_s) if wait]
        return Requeue(min(waits)) if waits else None

    async def _act(self, request: Request, found: Survey, waiting: bool) -> Done:
        """Give up pods and make pods."""
        job, active = found.job, found.active
        done = Done(len(active), found.ready, found.terminating)
        if found.verdict is not None:
            gone, error = await self._give_up(request, job, active, keep=True)
            if len(gone) < len(active) or waiting:
                # It has not ended yet: there are pods that nobody was told to stop.
                found.verdict = None
            return _without(done, gone, error, metrics.DELETED if active else metrics.TRACKING)
        if waiting or job["metadata"].get("deletionTimestamp"):
            return done._replace(action=metrics.RECONCILING)
        todo = plan(found, self.clock.now())
        if todo.delete:
            gone, error = await self._give_up(request, job, todo.delete, keep=False)
            return _without(done, gone, error, metrics.DELETED)
        if todo.create:
            count, error = await self._make(request, found, todo.create)
            return done._replace(active=done.active + count, error=error, action=metrics.CREATED)
        return done._replace(wait_s=todo.wait_s)

    async def _make(
        self, request: Request, found: Survey, places: Sequence[int | None]
    ) -> tuple[int, Exception | None]:
        """How many pods were made, and why no more."""
        bodies = (new_pod(self.resource, found, place) for place in places)
        count, error = await self.create_pods(request, found.job, bodies, len(places))
        reason = metrics.creation_reason(found)
        for status, number in (("succeeded", count), ("failed", int(error is not None))):
            if number:
                self.counters.add(metrics.CREATIONS, reason, status, count=number)
        return count, error

    async def _give_up(
        self, request: Request, job: Object, pods: Sequence[Object], *, keep: bool
    ) -> tuple[list[Object], Exception | None]:
        """Delete pods; the ones that are going, and the first error. Without `keep` they lose
        their finalizers first, and are counted as nothing."""
        if keep:
            return await self.delete_pods(request, job, pods)
        self.expect_deletions(request, pods)
        return await self.delete_pods(request, job, pods, self._release)

    async def _release(self, pod: Object) -> None:
        """Take the finalizer off a pod. Raises NotFound if it is gone already."""
        meta = pod["metadata"]
        if not has_finalizer(pod):
            return
        patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}}
        await self.client.patch(
            self.pod_resource, meta["name"], patch, meta["namespace"], content_type=STRATEGIC_PATCH
        )

    def _status(self, found: Survey, done: Done, waiting: bool) -> Object:
        """What the status says besides what has been counted."""
        job, now_s = found.job, self.clock.now()
        status = {**job["status"], "ready": done.ready, "terminating": done.terminating}
        put(status, "active", done.active)
        if found.verdict is None and is_complete(found, done.active):
            found.verdict = completed(now_s)
        elif found.verdict is None and done.action != metrics.RECONCILING and not waiting:
            self._say_suspended(job, status, now_s)
        return status

    def _say_suspended(self, job: Object, status: Object, now_s: float) -> None:
        suspended = is_suspended(job)
        old = condition(status.get("conditions"), "Suspended")
        if (old is not None and old["status"] == "True") == suspended:
            return
        word = "Suspended" if suspended else "Resumed"
        text = {"reason": f"Job{word}", "message": f"Job {word.lower()}"}
        new = new_condition("Suspended", text, now_s, "True" if suspended else "False")
        conditions = status.get("conditions") or []
        status["conditions"] = [new if item is old else item for item in conditions]
        if old is None:
            status["conditions"].append(new)
        if suspended:
            # What was counted for the deadline is void (KEP-2232), and the template may be
            # changed again (KEP-5440).
            status.pop("startTime", None)
        else:
            status["startTime"] = new["lastTransitionTime"]
        self.recorder.event(job, NORMAL, word, f"Job {word.lower()}")

    async def _track(self, request: Request, known: Object, found: Survey, status: Object) -> None:
        """Name what has finished, take its finalizers off, count it; and end the job."""
        tracking = track(found, status, self.clock.now())
        job = await self._write(request, known, tracking.status)
        if job is None:
            return
        self.backoffs[request] = found.backoff
        for action in tracking.handled:
            self.counters.add(metrics.HANDLED, action)
        released, error = await self._release_all(request, tracking)
        status = settle(tracking.status, found.tracked - released)
        ended = end(status, tracking) if error is None else None
        metrics.count_finished(self.counters, found.job, known, ended or status)
        if await self._write(request, job, ended or status) is None:
            return
        if ended is not None and tracking.ending is not None:
            self._tell_end(found, tracking.ending, ended)
        if error is not None:
            raise error

    async def _release_all(
        self, request: Request, tracking: Tracking
    ) -> tuple[set[str], Exception | None]:
        """uids of the pods whose finalizer is gone, and what kept another."""
        pods = tracking.release
        if not pods:
            return set(), None
        expected = self.released.setdefault(request, set())
        expected |= {pod["metadata"]["uid"] for pod in pods}
        gone, failed = set(), None
        for pod, result in zip(pods, await each(self._release, pods), strict=True):
            uid = pod["metadata"]["uid"]
            if result is None or isinstance(result, NotFound):
                gone.add(uid)
                current = self.pods.get(pod["metadata"]["namespace"], pod["metadata"]["name"])
                if current is None or not has_finalizer(current):
                    expected.discard(uid)
            else:
                expected.discard(uid)
                failed = result if isinstance(result, Exception) else failed
        return gone, failed

    async def _write(self, request: Request, job: Object, status: Object) -> Object | None:
        """The job with this status; None if there is no such job any more."""
        written = await self.report(job, status)
        if written is not None and written is not job:
            self.written[request] = int(written["metadata"]["resourceVersion"])
        return written

    def _tell_end(self, found: Survey, ending: Object, status: Object) -> None:
        job, reason = found.job, ending.get("reason", "")
        result = "failed" if ending["type"] == "Failed" else "succeeded"
        if ending["type"] == "Failed":
            self.recorder.event(job, WARNING, reason, ending.get("message", ""))
        else:
            wanted = job["spec"].get("completions")
            if wanted is not None and (status.get("succeeded") or 0) > wanted:
                text = "Too many succeeded pods running after completion count reached"
                self.recorder.event(job, WARNING, "TooManySucceededPods", text)
            self.recorder.event(job, NORMAL, "Completed", "Job completed")
        self.counters.add(metrics.FINISHED, metrics.mode(job), result, reason)


def _started(job: Object, now_s: float) -> Object:
    """Its status, with the time it started: now, if it is seen for the first time."""
    status = job.get("status") or {}
    if status.get("startTime") or is_suspended(job):
        return dict(status)
    return {**status, "startTime": format_time(now_s)}


def _without(done: Done, gone: list[Object], error: Exception | None, action: str) -> Done:
    """The counts after these pods were given up."""
    return done._replace(
        active=done.active - len(gone),
        ready=done.ready - sum(map(podlib.is_ready, gone)),
        terminating=done.terminating + len(gone),
        action=action,
        error=error,
    )
