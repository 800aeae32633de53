"""Which job of a cron job is due, what it is called, and which finished ones go. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime

from msgspec import Struct

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object
from sampan.api.times import format_time, parse_time

from .cronjob_schedule import Schedule, ScheduleError, zone_named
from .job_plan import is_finished
from .runtime.owners import controller_reference

SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"

# Upstream's nextScheduleDelta: later than the exact time, so that a clock that is put back a little
# does not find it still ahead.
DELAY_S = 0.1
MANY = 100
"""Starts missed beyond which only the last is spoken of as due, with a warning."""


class Due(Struct, frozen=True):
    """Where a schedule stands."""

    earliest_s: float
    """Starts before are not looked for."""
    recent_s: float | None = None
    """The latest time that has come since; None if none has."""
    missed: int = 0
    """About how many have come."""


def due(cron: Object, schedule: Schedule, now_s: float, *, deadline: bool = True) -> Due:
    """The last start since the one before. With `deadline`, not before those that may still start.

    Raises ScheduleError for a schedule whose time never comes."""
    spec, last = cron["spec"], (cron.get("status") or {}).get("lastScheduleTime")
    earliest_s = parse_time(last or cron["metadata"]["creationTimestamp"])
    limit = spec.get("startingDeadlineSeconds")
    if deadline and limit is not None:
        earliest_s = max(earliest_s, now_s - limit)
    first = schedule.next_s(earliest_s)
    second = schedule.next_s(first) if first is not None else None
    if first is None or second is None or second - first < 1:
        raise ScheduleError("time difference between two schedules is less than 1 second")
    if now_s < first:
        return Due(earliest_s)
    if now_s < second:
        # Upstream does not count this one among the missed.
        return Due(earliest_s, first)
    # A rough count, by the distance of the first two; then the last, from a little before.
    step = int(second - first)
    missed = int(now_s - first) // step + 1
    found, recent_s = schedule.next_s(first + (missed - 2) * step), None
    while found is not None and found <= now_s:
        recent_s, found = found, schedule.next_s(found)
    return Due(earliest_s, recent_s, missed)


def next_in_s(cron: Object, schedule: Schedule, now_s: float) -> float:
    """How long until the next start, whatever became of those before."""
    try:
        found = due(cron, schedule, now_s, deadline=False)
    except ScheduleError:
        after_s: float = now_s
    else:
        after_s = now_s if found.missed else found.earliest_s
        if found.recent_s is not None:
            after_s = found.recent_s
    when = schedule.next_s(after_s)
    return max(0.0, (when if when is not None else now_s) + DELAY_S - now_s)


def is_late(cron: Object, scheduled_s: float, now_s: float) -> bool:
    limit = cron["spec"].get("startingDeadlineSeconds")
    return limit is not None and scheduled_s + limit < now_s


def job_name(cron: Object, scheduled_s: float) -> str:
    """One name per start, so that none is made twice: no schedule is finer than a minute."""
    return f"{cron['metadata']['name']}-{int(scheduled_s) // 60}"


def new_job(resource: Descriptor, cron: Object, scheduled_s: float) -> Object:
    """The job of a start. Raises ScheduleError for a time zone nobody knows."""
    template = cron["spec"]["jobTemplate"]
    meta = template.get("metadata") or {}
    zone = cron["spec"].get("timeZone")
    moment = datetime.fromtimestamp(int(scheduled_s), zone_named(zone) if zone else UTC)
    stamp = moment.isoformat().replace("+00:00", "Z")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(cron, scheduled_s),
            "namespace": cron["metadata"]["namespace"],
            "labels": meta.get("labels") or {},
            "annotations": {**(meta.get("annotations") or {}), SCHEDULED: stamp},
            "ownerReferences": [controller_reference(resource, cron)],
        },
        "spec": template["spec"],
    }


def reference_to(job: Object) -> Object:
    """As the list of active jobs has it."""
    meta = job["metadata"]
    about = {key: meta[key] for key in ("namespace", "name", "uid", "resourceVersion")}
    return {"kind": "Job", "apiVersion": "batch/v1", **about}


def surplus(cron: Object, jobs: Iterable[Object]) -> list[Object]:
    """Finished jobs beyond the limits of the history, the oldest first."""
    spec, found = cron["spec"], [*jobs]
    out: list[Object] = []
    for end, limit in (
        ("Complete", spec.get("successfulJobsHistoryLimit")),
        ("Failed", spec.get("failedJobsHistoryLimit")),
    ):
        ended = sorted((job for job in found if is_finished(job) == end), key=_age)
        if limit is not None:
            out += ended[: max(0, len(ended) - limit)]
    return out


def _age(job: Object) -> tuple[bool, str, str]:
    """Jobs that never started come last."""
    start = job["status"].get("startTime") or ""
    return not start, start, job["metadata"]["name"]


def spoken(when_s: float) -> str:
    """A time as upstream's events say it (RFC 1123, UTC)."""
    return time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(when_s))


def last_success(status: Object, job: Object) -> Object:
    """The status with the time of the job's success, if that is the last."""
    end = (job.get("status") or {}).get("completionTime")
    if is_finished(job) != "Complete" or not end:
        return status
    known = status.get("lastSuccessfulTime")
    return {**status, "lastSuccessfulTime": end} if not known or known < end else status


def scheduled(status: Object, job: Object, scheduled_s: float) -> Object:
    """The status with a job that was started for this time."""
    active = [*(status.get("active") or ()), reference_to(job)]
    return {**status, "active": active, "lastScheduleTime": format_time(scheduled_s)}


def without(status: Object, uids: set[str]) -> Object:
    """The status without these jobs among the active ones."""
    left = [item for item in status.get("active") or () if item.get("uid") not in uids]
    out = {key: value for key, value in status.items() if key != "active"}
    return {**out, "active": left} if left else out
