"""Deletes jobs a while after they have finished (ttlSecondsAfterFinished, KEP-592).

A job that has a time to live has one appointment in the queue, when it is over.
"""

from __future__ import annotations

from sampan.api.errors import NotFound, Object
from sampan.api.resources import resource
from sampan.api.times import parse_time
from sampan.wire.exposition import Buckets

from .job_plan import is_finished
from .runtime.conditions import condition
from .runtime.controller import Context, Controller
from .runtime.queue import Request, Requeue

DELAY = "ttl_after_finished_controller_job_deletion_duration_seconds"
# prometheus.ExponentialBuckets(0.1, 2, 14)
DELAY_BUCKETS_S = tuple(0.1 * 2**power for power in range(14))


class TtlAfterFinishedController(Controller):
    """See the module."""

    name = "ttl_jobs_to_delete"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("jobs", "batch")
        self.delay = Buckets(DELAY_BUCKETS_S)
        self.jobs = self.informer(self.resource)
        self.jobs.on_change(self._job_changed)

    def exposition(self) -> str:
        return "\n".join([f"# TYPE {DELAY} histogram", *self.delay.lines(DELAY), ""])

    def _job_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and expires_s(new) is not None:
            self.add(new)

    async def reconcile(self, request: Request) -> Requeue | None:
        job = self.jobs.get(*request)
        if job is None or self._left_s(job) is None:
            return None
        if left := self._left_s(job):
            return Requeue(left)
        # The time to live may have been prolonged a moment ago.
        live = await self.jobs.get_live(*request)
        left = self._left_s(live) if live is not None else None
        if live is None or left is None:
            return None
        if left:
            return Requeue(left)
        meta = live["metadata"]
        options = {
            "propagationPolicy": "Foreground",
            "preconditions": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]},
        }
        try:
            await self.client.delete(self.resource, request.name, request.namespace, options)
        except NotFound:
            return None
        self.delay.add(self.clock.now() - (expires_s(live) or 0.0))
        return None

    def _left_s(self, job: Object) -> float | None:
        """How long it stays; None for ever, 0 no longer."""
        when_s = expires_s(job)
        return None if when_s is None else max(0.0, when_s - self.clock.now())


def expires_s(job: Object) -> float | None:
    """When the job is to go; None if it stays, or goes already."""
    ttl, end = job["spec"].get("ttlSecondsAfterFinished"), is_finished(job)
    if ttl is None or not end or job["metadata"].get("deletionTimestamp"):
        return None
    found = condition(job["status"].get("conditions"), end) or {}
    finished = found.get("lastTransitionTime")
    return parse_time(finished) + int(ttl) if finished else None
