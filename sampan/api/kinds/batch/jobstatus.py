"""What the status of a job may say, and how it may change (ValidateJobStatusUpdate).

Most rules look only at what the write changes: a status that is already wrong, or that a change of
the spec has overtaken, must not keep its controller from putting it right (KEP-4368).
"""

from __future__ import annotations

from typing import Any

from ... import fields
from ...errors import Cause, Object
from ..formats import check_nonnegative
from .policies import read_indexes, shared_index

COUNTERS = ("active", "succeeded", "failed", "ready", "terminating")
FIRST = {"Failed": "FailureTarget", "Complete": "SuccessCriteriaMet"}
"""What must hold before a job may be finished: its pods are gone by then (KEP-3939, KEP-3998)."""
TERMINAL = ("Failed", "Complete", "FailureTarget")


def check_job_status(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    status, before = obj.get("status") or {}, (old or {}).get("status") or {}
    for field in COUNTERS:
        check_nonnegative(status.get(field), f"status.{field}", out)
    _check_uncounted(status.get("uncountedTerminatedPods") or {}, out)
    changed = {key for key in status.keys() | before.keys() if status.get(key) != before.get(key)}
    now, then = _conditions(status), _conditions(before)
    _check_conditions(now, then, out, criteria=obj["spec"].get("successPolicy") is not None)
    _check_times(obj["spec"], status, before, changed | (now ^ then), out)
    _check_finished(status, changed | (now ^ then), now, out)
    _check_indexes(obj["spec"], status, changed, out)
    _check_decrease(obj["spec"], status, before, out)
    return out


def _conditions(status: Object) -> set[str]:
    """Types of the conditions that hold."""
    return {
        item.get("type", "")
        for item in status.get("conditions") or ()
        if item.get("status") == "True"
    }


def _check_uncounted(pods: Object, out: list[Cause]) -> None:
    seen: set[str] = set()
    for field in ("succeeded", "failed"):
        for position, uid in enumerate(pods.get(field) or ()):
            path = f"status.uncountedTerminatedPods.{field}[{position}]"
            if not uid:
                out.append(fields.invalid(path, uid, "must not be empty"))
            elif uid in seen:
                out.append(fields.duplicate(path, uid))
            seen.add(uid)


def _check_conditions(now: set[str], then: set[str], out: list[Cause], *, criteria: bool) -> None:
    """`criteria`: does the job have a success policy?"""
    changed = now ^ then
    found = []
    if {"Complete", "Failed"} <= now and changed & {"Complete", "Failed"}:
        found.append("cannot set Complete=True and Failed=true conditions")
    if {"Complete", "FailureTarget"} <= now and changed & {"Complete", "FailureTarget"}:
        found.append("cannot set Complete=True and FailureTarget=true conditions")
    for kind, first in FIRST.items():
        if kind in now and first not in now and changed & {kind, first}:
            found.append(f"cannot set {kind}=True condition without the {first}=true condition")
    for other in ("Failed", "FailureTarget"):
        if {"SuccessCriteriaMet", other} <= now:
            found.append(f"cannot set SuccessCriteriaMet=True and {other}=true conditions")
    if criteria and "Complete" in now and "SuccessCriteriaMet" not in now:
        found.append(
            "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True"
        )
    for kind in TERMINAL:
        if kind in then and kind not in now:
            found.append(f"cannot disable the terminal {kind}=True condition")
    if "SuccessCriteriaMet" in then - now:
        found.append("cannot disable the SuccessCriteriaMet=True condition")
    if "Complete" in then and "SuccessCriteriaMet" in now - then:
        found.append(
            "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions"
        )
    out += [fields.unsuitable("status.conditions", why) for why in found]


def _check_times(
    spec: Object, status: Object, before: Object, changed: set[str], out: list[Cause]
) -> None:
    start, end = status.get("startTime"), status.get("completionTime")
    complete, path = "Complete" in _conditions(status), "status.completionTime"
    if changed & {"Complete", "completionTime"}:
        if end is not None and not complete:
            why = "cannot set completionTime when there is no Complete=True condition"
            out.append(fields.invalid(path, end, why))
        elif end is None and complete:
            out.append(fields.required(path, "completionTime is required for Complete jobs"))
    # Times of the API are of one form, and sort as they are.
    if changed & {"startTime", "completionTime"} and start and end and end < start:
        out.append(fields.invalid(path, end, "completionTime cannot be set before startTime"))
    was = before.get("completionTime")
    if end is not None and was is not None and end != was:
        out.append(fields.invalid(path, end, "completionTime cannot be mutated"))
    if before.get("startTime") is not None and "startTime" in changed and not spec.get("suspend"):
        why = "startTime cannot be removed for unsuspended job"
        out.append(fields.required("status.startTime", why))


def _check_finished(status: Object, changed: set[str], now: set[str], out: list[Cause]) -> None:
    ready, active = status.get("ready"), status.get("active") or 0
    if ready is not None and ready > active and changed & {"ready", "active"}:
        out.append(fields.invalid("status.ready", ready, "cannot set more ready pods than active"))
    if not now & {"Complete", "Failed"}:
        return
    finished = bool(changed & {"Complete", "Failed"})
    pods, leaving = status.get("uncountedTerminatedPods") or {}, status.get("terminating") or 0
    if leaving > 0 and (finished or "terminating" in changed):
        why = "terminating>0 is invalid for finished job"
        out.append(fields.invalid("status.terminating", leaving, why))
    if active > 0 and (finished or "active" in changed):
        why = "active>0 is invalid for finished job"
        out.append(fields.invalid("status.active", active, why))
    if status.get("startTime") is None and (finished or "startTime" in changed):
        why = "startTime is required for finished job"
        out.append(fields.required("status.startTime", why))
    uncounted = pods.get("succeeded") or pods.get("failed")
    if uncounted and (finished or "uncountedTerminatedPods" in changed):
        why = "uncountedTerminatedPods needs to be empty for finished job"
        out.append(fields.invalid("status.uncountedTerminatedPods", pods, why))


def _check_indexes(spec: Object, status: Object, changed: set[str], out: list[Cause]) -> None:
    completions: Any = spec.get("completions")
    done, failed = status.get("completedIndexes") or "", status.get("failedIndexes")
    if "completedIndexes" in changed:
        if completions is not None:
            problem = read_indexes(done, completions)[1]
            if problem:
                why = f"error parsing completedIndexes: {problem}"
                out.append(fields.invalid("status.completedIndexes", done, why))
        if done and spec.get("completionMode") != "Indexed":
            why = "cannot set non-empty completedIndexes when non-indexed completion mode"
            out.append(fields.invalid("status.completedIndexes", done, why))
    if "failedIndexes" in changed and failed is not None:
        if spec.get("backoffLimitPerIndex") is None:
            why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null"
            out.append(fields.invalid("status.failedIndexes", failed, why))
        elif completions is not None:
            problem = read_indexes(failed, completions)[1]
            if problem:
                why = f"error parsing failedIndexes: {problem}"
                out.append(fields.invalid("status.failedIndexes", failed, why))
    if {"failedIndexes", "completedIndexes"} & changed and failed and completions is not None:
        both = shared_index(done, failed, completions)
        if both is not None:
            why = f"failedIndexes and completedIndexes overlap at index: {both}"
            out.append(fields.invalid("status.failedIndexes", failed, why))


def _check_decrease(spec: Object, status: Object, before: Object, out: list[Cause]) -> None:
    # An Indexed job may be scaled down, and then forgets what succeeded beyond its end.
    elastic = spec.get("completionMode") == "Indexed" and (
        spec.get("completions") == spec.get("parallelism")
    )
    for field in ("failed",) if elastic else ("failed", "succeeded"):
        if (status.get(field) or 0) < (before.get(field) or 0):
            why = f"cannot decrease the {field} counter"
            out.append(fields.invalid(f"status.{field}", status.get(field) or 0, why))
