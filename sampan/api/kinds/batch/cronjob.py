"""CronJob (batch/v1)."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..core.podspec.template import default_template
from ..doubts import doubt_pod_name
from ..formats import check_nonnegative
from ..printing import (
    AGE,
    CONTAINERS,
    IMAGES,
    NAME,
    NONE,
    SELECTOR,
    UNSET,
    age,
    container_cells,
    name,
    selector_text,
    since,
)
from .jobspec import check_job_spec, warn_job_spec
from .schedule import schedule_problem

POLICIES = ("Allow", "Forbid", "Replace")
MAX_NAME = 52
"""A job's name adds 11 characters to its cron job's and must fit a label."""


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if not spec.get("concurrencyPolicy"):
        spec["concurrencyPolicy"] = "Allow"
    spec.setdefault("suspend", False)
    spec.setdefault("successfulJobsHistoryLimit", 3)
    spec.setdefault("failedJobsHistoryLimit", 1)
    template = spec.get("jobTemplate")
    if template is None:
        template = spec["jobTemplate"] = {}
    default_template(template.setdefault("spec", {}))
    obj.setdefault("status", {})


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    if old is not None and spec == old.get("spec"):
        return out
    own_name = obj["metadata"].get("name") or ""
    if old is None and len(own_name) > MAX_NAME:
        why = f"must be no more than {MAX_NAME} characters"
        out.append(fields.invalid("metadata.name", own_name, why))
    schedule = spec.get("schedule") or ""
    if not schedule:
        out.append(fields.required("spec.schedule"))
    else:
        _check_schedule(schedule, spec, out, kept="TZ" in _before(old, "schedule"))
    if old is None or spec.get("timeZone") != (old.get("spec") or {}).get("timeZone"):
        _check_zone(spec.get("timeZone"), out)
    for field in (
        "startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit",
    ):  # fmt: skip
        check_nonnegative(spec.get(field), f"spec.{field}", out)
    policy = spec.get("concurrencyPolicy")
    if policy not in POLICIES:
        out.append(fields.not_supported("spec.concurrencyPolicy", policy or "", POLICIES))
    job = dict((spec.get("jobTemplate") or {}).get("spec") or {})
    # A template is not defaulted; what is absent will be when the job is made.
    job.setdefault("completionMode", "NonIndexed")
    path = "spec.jobTemplate.spec"
    check_job_spec(job, path, out)
    if job.get("selector") is not None:
        why = "`selector` will be auto-generated"
        out.append(fields.invalid(f"{path}.selector", job["selector"], why))
    if job.get("manualSelector"):
        out.append(fields.not_supported(f"{path}.manualSelector", True, ("nil", "false")))
    return out


def _before(old: Object | None, field: str) -> str:
    return ((old or {}).get("spec") or {}).get(field) or ""


def _check_schedule(schedule: str, spec: Object, out: list[Cause], *, kept: bool) -> None:
    """`kept`: it had a time zone before there was a field for it, and may go on having one."""
    problem = schedule_problem(schedule)
    if problem:
        out.append(fields.invalid("spec.schedule", schedule, problem))
    if "TZ" in schedule:
        why = ""
        if not kept:
            why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        elif spec.get("timeZone") is not None:
            why = "cannot use both timeZone field and TZ or CRON_TZ in schedule"
        if why:
            out.append(fields.invalid("spec.schedule", schedule, why))


def _check_zone(zone: str | None, out: list[Cause]) -> None:
    if zone is None:
        return
    path = "spec.timeZone"
    if not zone:
        out.append(fields.invalid(path, zone, "timeZone must be nil or non-empty string"))
        return
    if zone.lower() == "local":
        why = "timeZone must be an explicit time zone as defined in " \
              "https://www.iana.org/time-zones"  # fmt: skip
        out.append(fields.invalid(path, zone, why))
        return
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        out.append(fields.invalid(path, zone, f"unknown time zone {zone}"))


def warnings(obj: Object, old: Object | None) -> list[str]:
    spec = obj["spec"]
    out = doubt_pod_name(obj) if old is None else []
    if old is None or spec != old.get("spec"):
        job = (spec.get("jobTemplate") or {}).get("spec") or {}
        out += warn_job_spec(job, "spec.jobTemplate.spec")
    if old is not None and "TZ" in (spec.get("schedule") or ""):
        out.append(
            "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see "
            "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
        )
    return out


def cells(obj: Object, now_s: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    job = (spec.get("jobTemplate") or {}).get("spec") or {}
    last, suspend = status.get("lastScheduleTime"), spec.get("suspend")
    return [
        name(obj),
        spec.get("schedule") or "",
        spec.get("timeZone") or NONE,
        UNSET if suspend is None else str(bool(suspend)),
        len(status.get("active") or ()),
        since(last, now_s) if last else NONE,
        age(obj, now_s),
        *container_cells(job.get("template")),
        selector_text(job.get("selector")),
    ]


KIND = Kind(
    group="batch",
    version="v1",
    kind="CronJob",
    short_names=("cj",),
    categories=("all",),
    storage="cronjobs",
    default=default,
    validate=validate,
    warnings=warnings,
    columns=(
        NAME,
        Column("Schedule", "string", "When jobs are made, as cron writes it."),
        Column("Timezone", "string", "The time zone of the schedule."),
        Column("Suspend", "boolean", "No jobs are made while true."),
        Column("Active", "integer", "Jobs that run now."),
        Column("Last Schedule", "string", "Time since the last job was made."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ),
    cells=cells,
)
