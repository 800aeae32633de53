"""CronJobs: a job whenever the schedule says so.

Every cron job has one appointment in the queue, at its next time, or sooner to see whether the
clock was set meanwhile. Work per sync is that of the cron job's own jobs (index by owner).
"""

from __future__ import annotations

from typing import NamedTuple

from sampan.api.errors import AlreadyExists, NotFound, Object, StatusError, is_namespace_terminating
from sampan.api.resources import resource
from sampan.api.times import parse_time
from sampan.client.events import NORMAL, WARNING
from sampan.wire.exposition import Buckets

from . import cronjob_plan as planning
from .cronjob_schedule import Schedule, ScheduleError, read_schedule, zone_named
from .job_plan import is_finished
from .runtime.controller import Context, Controller
from .runtime.owners import add_owner_indexes, controller_of, controller_uid, owned, refers_to
from .runtime.queue import Request, Requeue
from .runtime.status import write_status

SKEW = "cronjob_controller_job_creation_skew_duration_seconds"
# prometheus.ExponentialBuckets(1, 2, 10)
SKEW_BUCKETS_S = tuple(float(2**power) for power in range(10))

LOOK_S = 600.0
"""How long a cron job is not looked at, at most. Its timer does not notice that the wall clock is
set, or that the machine sleeps."""

DOCUMENTED = "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/"


class Synced(NamedTuple):
    """What a sync came to."""

    status: Object
    wait_s: float | None = None
    error: Exception | None = None


class CronJobController(Controller):
    """See the module."""

    name = "cronjob"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("cronjobs", "batch")
        self.job_resource = resource("jobs", "batch")
        self.recorder = context.recorder("cronjob-controller")
        self.skew = Buckets(SKEW_BUCKETS_S)
        self.written: dict[Request, int] = {}
        """The version of each cron job's last status, until the cache has it."""
        self.jobs = self.informer(self.job_resource)
        self.crons = self.informer(self.resource)
        add_owner_indexes(self.jobs)
        self.crons.on_change(self._cron_changed)
        self.jobs.on_change(self._job_changed)

    def exposition(self) -> str:
        return "\n".join([f"# TYPE {SKEW} histogram", *self.skew.lines(SKEW), ""])

    def _cron_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            if old is not None:
                meta = old["metadata"]
                self.written.pop(Request(meta["namespace"], meta["name"]), None)
            return
        if old is None or _timing(old) == _timing(new):
            self.add(new)
            return
        # A new schedule holds from now on: times it would have had before are not made up for.
        meta, request = new["metadata"], None
        try:
            schedule = self._schedule(new)
        except ScheduleError:
            text = f"unparseable schedule for cronjob: {new['spec']['schedule']}"
            self.recorder.event(new, WARNING, "UnParseableCronJobSchedule", text)
            return
        request = Request(meta["namespace"], meta["name"])
        self.queue.add_after(request, planning.next_in_s(new, schedule, self.clock.now()))

    def _job_changed(self, old: Object | None, new: Object | None) -> None:
        for job in (old, new):
            reference = controller_of(job) if job is not None else None
            if job is not None and reference and refers_to(reference, self.resource):
                self.queue.add(Request(job["metadata"]["namespace"], reference["name"]))

    async def reconcile(self, request: Request) -> Requeue | None:
        cron = self.crons.get(*request)
        if cron is None:
            return None
        if int(cron["metadata"]["resourceVersion"]) < self.written.get(request, 0):
            return None
        jobs = [*owned(self.jobs, cron)]
        status = await self._look(cron, jobs)
        synced = await self._sync({**cron, "status": status}, self.clock.now())
        gone = set()
        for job in planning.surplus(cron, jobs):
            if await self._delete(cron, job):
                gone.add(job["metadata"]["uid"])
        await self._report(request, cron, planning.without(synced.status, gone))
        if synced.error is not None:
            raise synced.error
        return Requeue(synced.wait_s) if synced.wait_s is not None else None

    async def _look(self, cron: Object, jobs: list[Object]) -> Object:
        """The status with what has become of its jobs."""
        status: Object = cron.get("status") or {}
        active = {item["uid"]: item for item in status.get("active") or ()}
        for job in jobs:
            meta, end = job["metadata"], is_finished(job)
            if end and meta["uid"] in active:
                status = planning.without(status, {meta["uid"]})
                text = f"Saw completed job: {meta['name']}, status: {end}"
                self.recorder.event(cron, NORMAL, "SawCompletedJob", text)
            elif not end and meta["uid"] not in active:
                text = f"Saw a job that the controller did not create or forgot: {meta['name']}"
                self.recorder.event(cron, WARNING, "UnexpectedJob", text)
            status = planning.last_success(status, job)
        for uid in active.keys() - {job["metadata"]["uid"] for job in jobs}:
            item = active[uid]
            # The cache may be behind.
            if await self.jobs.get_live(item["namespace"], item["name"]) is None:
                status = planning.without(status, {uid})
                text = f"Active job went missing: {item['name']}"
                self.recorder.event(cron, NORMAL, "MissingJob", text)
        return status

    async def _sync(self, cron: Object, now_s: float) -> Synced:
        """Start the job that is due, if one is and may."""
        status, spec = cron["status"], cron["spec"]
        if cron["metadata"].get("deletionTimestamp"):
            return Synced(status)
        zone, text = spec.get("timeZone"), spec["schedule"]
        try:
            if zone is not None:
                zone_named(zone)
        except ScheduleError as error:
            why = f'invalid timeZone: "{zone}": {error}'
            self.recorder.event(cron, WARNING, "UnknownTimeZone", why)
            return Synced(status)
        if spec.get("suspend"):
            return Synced(status)
        try:
            schedule = self._schedule(cron, tell=True)
        except ScheduleError as error:
            why = f'unparseable schedule: "{text}" : {error}'
            self.recorder.event(cron, WARNING, "UnparseableSchedule", why)
            return Synced(status)
        try:
            found = planning.due(cron, schedule, now_s)
        except ScheduleError as error:
            why = f"invalid schedule: {text} : {error}"
            self.recorder.event(cron, WARNING, "InvalidSchedule", why)
            return Synced(status)
        if found.recent_s is None:
            return Synced(status, min(LOOK_S, planning.next_in_s(cron, schedule, now_s)))
        if found.missed > planning.MANY:
            why = (
                "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or "
                "check clock skew"
            )
            self.recorder.event(cron, WARNING, "TooManyMissedTimes", why)
        if self._is_held(cron, found.recent_s, now_s):
            return Synced(status, planning.next_in_s(cron, schedule, now_s))
        return await self._start(cron, schedule, found.recent_s)

    def _is_held(self, cron: Object, scheduled_s: float, now_s: float) -> bool:
        """Is the start too late, already made, or not to be made beside another?"""
        status, spec = cron["status"], cron["spec"]
        if planning.is_late(cron, scheduled_s, now_s):
            text = f"Missed scheduled time to start a job: {planning.spoken(scheduled_s)}"
            self.recorder.event(cron, WARNING, "MissSchedule", text)
            return True
        active, last = status.get("active") or (), status.get("lastScheduleTime")
        name = planning.job_name(cron, scheduled_s)
        if any(item["name"] == name for item in active) or (
            last is not None and parse_time(last) == scheduled_s
        ):
            return True
        if spec.get("concurrencyPolicy") == "Forbid" and active:
            text = (
                "Not starting job because prior execution is running and concurrency policy is "
                "Forbid"
            )
            self.recorder.event(cron, NORMAL, "JobAlreadyActive", text)
            return True
        return False

    async def _start(self, cron: Object, schedule: Schedule, scheduled_s: float) -> Synced:
        status = cron["status"]
        if cron["spec"].get("concurrencyPolicy") == "Replace":
            for item in status.get("active") or ():
                job = await self.jobs.get_live(item["namespace"], item["name"])
                if job is not None and not await self._delete(cron, job):
                    name = f"{item['namespace']}/{item['name']}"
                    return Synced(status, error=OSError(f"could not replace job {name}"))
                status = planning.without(status, {item["uid"]})
        body = planning.new_job(self.resource, cron, scheduled_s)
        try:
            job = await self._create(cron, body, scheduled_s)
        except StatusError as error:
            if not is_namespace_terminating(error):
                text = f"Error creating job: {error}"
                self.recorder.event(cron, WARNING, "FailedCreate", text)
            return Synced(status, error=error)
        if job is None:
            return Synced(status)
        # Dying here is harmless: the name of the job is that of its time, and finds it again.
        status = planning.scheduled(status, job, scheduled_s)
        now = {**cron, "status": status}
        return Synced(status, planning.next_in_s(now, schedule, self.clock.now()))

    async def _create(self, cron: Object, body: Object, scheduled_s: float) -> Object | None:
        """The job, made now or before a crash; None if the name is somebody else's."""
        meta = body["metadata"]
        try:
            job = await self.client.create(self.job_resource, body, meta["namespace"])
        except AlreadyExists:
            known = await self.jobs.get_live(meta["namespace"], meta["name"])
            mine = known is not None and controller_uid(known) == cron["metadata"]["uid"]
            return known if mine else None
        created_s = parse_time(job["metadata"]["creationTimestamp"])
        self.skew.add(created_s - scheduled_s)
        text = f"Created job {job['metadata']['name']}"
        self.recorder.event(cron, NORMAL, "SuccessfulCreate", text)
        return job

    async def _delete(self, cron: Object, job: Object) -> bool:
        """Delete a job and, in the background, its pods. False if that failed."""
        meta = job["metadata"]
        options = {"propagationPolicy": "Background", "preconditions": {"uid": meta["uid"]}}
        try:
            await self.client.delete(self.job_resource, meta["name"], meta["namespace"], options)
        except NotFound:
            return True
        except (StatusError, OSError) as error:
            self.recorder.event(cron, WARNING, "FailedDelete", f"Deleted job: {error}")
            return False
        self.recorder.event(cron, NORMAL, "SuccessfulDelete", f"Deleted job {meta['name']}")
        return True

    def _schedule(self, cron: Object, *, tell: bool = False) -> Schedule:
        """Raises ScheduleError."""
        text, zone = cron["spec"]["schedule"], cron["spec"].get("timeZone") or ""
        if "TZ" not in text:
            return read_schedule(text, zone)
        if tell:
            why = (
                f'CRON_TZ or TZ used in schedule "{text}" is not officially supported, see '
                f"{DOCUMENTED} for more details"
            )
            self.recorder.event(cron, WARNING, "UnsupportedSchedule", why)
        return read_schedule(text)

    async def _report(self, request: Request, cron: Object, status: Object) -> None:
        written = await write_status(self.client, self.resource, cron, status)
        if written is not None and written is not cron:
            self.written[request] = int(written["metadata"]["resourceVersion"])


def _timing(cron: Object) -> tuple[str, str | None]:
    return cron["spec"]["schedule"], cron["spec"].get("timeZone")
