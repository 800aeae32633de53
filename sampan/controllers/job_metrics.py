"""What the job controller counts, under upstream's names (pkg/controller/job/metrics)."""

from __future__ import annotations

from sampan.api.errors import Object
from sampan.wire.exposition import Buckets

from . import job_indexes as indexes
from .job_plan import Survey, has_finalizer, is_indexed
from .runtime import pods as podlib
from .runtime.metrics import Counters

DURATION = "job_controller_job_sync_duration_seconds"
# prometheus.ExponentialBuckets(0.004, 2, 15)
DURATION_BUCKETS_S = tuple(0.004 * 2**power for power in range(15))
SYNCS = "job_controller_job_syncs_total"
FINISHED = "job_controller_jobs_finished_total"
PODS = "job_controller_job_pods_finished_total"
INDEXES = "job_controller_job_finished_indexes_total"
CREATIONS = "job_controller_job_pods_creation_total"
HANDLED = "job_controller_pod_failures_handled_by_failure_policy_total"
TRACKED = "job_controller_terminated_pods_tracking_finalizer_total"
EXTERNAL = "job_controller_jobs_by_external_controller_total"

# What a sync has done.
RECONCILING, TRACKING = "reconciling", "tracking"
CREATED, DELETED = "pods_created", "pods_deleted"


def counters() -> Counters:
    return Counters(
        {
            SYNCS: ("completion_mode", "result", "action"),
            FINISHED: ("completion_mode", "result", "reason"),
            PODS: ("completion_mode", "result"),
            INDEXES: ("status", "backoffLimit"),
            CREATIONS: ("reason", "status"),
            HANDLED: ("action",),
            TRACKED: ("event",),
            EXTERNAL: ("controller_name",),
        }
    )


class Durations:
    """How long syncs took, by what they did: at most sixteen histograms."""

    def __init__(self) -> None:
        self._known: dict[str, Buckets] = {}

    def observe(self, job: Object, result: str, action: str, seconds: float) -> None:
        label = f'completion_mode="{mode(job)}",result="{result}",action="{action}"'
        known = self._known.setdefault(label, Buckets(DURATION_BUCKETS_S))
        known.add(seconds)

    def exposition(self) -> str:
        """Prometheus text; "" before the first sync."""
        out = [f"# TYPE {DURATION} histogram"] if self._known else []
        for label, known in self._known.items():
            out += known.lines(DURATION, label)
        return "".join(f"{line}\n" for line in out)


def mode(job: Object) -> str:
    return "Indexed" if is_indexed(job) else "NonIndexed"


def creation_reason(found: Survey) -> str:
    """Why pods are made."""
    only_failed = found.job["spec"].get("podReplacementPolicy") == "Failed"
    if only_failed and found.failed > 0:
        return "recreate_failed"
    if found.failed > 0 or found.terminating > 0:
        return "recreate_terminating_or_failed"
    return "new"


def count_finished(counted: Counters, job: Object, before: Object, status: Object) -> None:
    """Pods and indexes that this sync has counted."""
    old = before.get("status") or {}
    for key, result in (("succeeded", "succeeded"), ("failed", "failed")):
        number = (status.get(key) or 0) - (old.get(key) or 0)
        if number > 0:
            counted.add(PODS, mode(job), result, count=number)
    if not is_indexed(job):
        return
    limit = "global" if job["spec"].get("backoffLimitPerIndex") is None else "perIndex"
    for key, result in (("completedIndexes", "succeeded"), ("failedIndexes", "failed")):
        if status.get(key) == old.get(key):
            continue
        end = job["spec"]["completions"]
        now, then = (indexes.total(indexes.parse(item.get(key), end)) for item in (status, old))
        if now > then:
            counted.add(INDEXES, result, limit, count=now - then)


def count_tracked(counted: Counters, old: Object | None, new: Object | None) -> None:
    """Finished pods that got the finalizer, or lost it."""
    before, after = (item is not None and _is_tracked(item) for item in (old, new))
    if before != after:
        counted.add(TRACKED, "add" if after else "delete")


def _is_tracked(pod: Object) -> bool:
    return podlib.is_finished(pod) and has_finalizer(pod)
