"""Exact counts of a job's pods, by way of its status and their finalizers (KEP-2307). Pure.

A pod that has finished is first named in `uncountedTerminatedPods`, then loses its finalizer, then
is counted and no longer named. Whatever happens between two of these, it is counted once.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct, field

from sampan.api.errors import Object

from . import job_indexes as indexes
from .job_plan import Survey, is_failed, is_indexed, new_condition
from .job_policies import judge
from .runtime import pods as podlib
from .runtime.conditions import condition

# Upstream's MaxUncountedPods: their uids stay below 20 KB.
MAX_UNCOUNTED = 500


class Named(Struct):
    """uids that are to be counted, by how the pod ended; and indexes."""

    lists: dict[str, list[str]]
    known: dict[str, set[str]]
    """Those that were named before."""
    indexes: list[int] = field(default_factory=list)

    @property
    def full(self) -> bool:
        return len(self.indexes) + sum(map(len, self.lists.values())) >= MAX_UNCOUNTED


class Tracking(Struct):
    """The first of a sync's two steps."""

    status: Object
    """To be written before any finalizer goes."""
    release: list[Object] = field(default_factory=list)
    """Pods that lose their finalizer then."""
    ending: Object | None = None
    """The condition that ends the job when all is counted."""
    full: bool = False
    """There is more than one sync may count."""
    handled: list[str] = field(default_factory=list)
    """Actions of the failure policy, per pod that met one."""


def track(found: Survey, status: Object, now_s: float) -> Tracking:
    """Name the pods that have finished. `status` is what is otherwise to be said."""
    out = Tracking(settle(status, found.tracked))
    uncounted = out.status["uncountedTerminatedPods"]
    lists = {kind: [*(uncounted.get(kind) or ())] for kind in ("succeeded", "failed")}
    named = Named(lists, {kind: set(uids) for kind, uids in lists.items()})
    pods = [pod for pod in found.pods if pod["metadata"]["uid"] in found.tracked]
    if is_indexed(found.job):
        # What succeeds first is the lowest, if not all can be told at once.
        pods.sort(key=lambda pod: _position(indexes.index_of(pod)))
    for pod in pods:
        if not _may_go(found, pod):
            continue
        out.release.append(pod)
        action = _name(found, pod, named)
        if action:
            out.handled.append(action)
        if named.full:
            out.full = True
            break
    out.status["uncountedTerminatedPods"] = {kind: uids for kind, uids in lists.items() if uids}
    if is_indexed(found.job):
        _say_indexes(found, out)
    _say_verdict(found, out, now_s)
    return out


def _position(index: int | None) -> int:
    return -1 if index is None else index


def _may_go(found: Survey, pod: Object) -> bool:
    """May the pod's finalizer be removed?"""
    job = found.job
    if job["metadata"].get("deletionTimestamp") or found.verdict is not None:
        return True
    if podlib.phase(pod) == "Succeeded":
        return True
    if not is_failed(job, pod):
        return False
    index = indexes.index_of(pod)
    kept = found.kept.get(index) if index is not None else None
    return kept is None or kept["metadata"]["uid"] != pod["metadata"]["uid"]


def _name(found: Survey, pod: Object, named: Named) -> str:
    """Put a finished pod where it is counted from; nowhere if it was already, or does not count.

    Returns the action of the failure policy that it met, if any."""
    job, uid = found.job, pod["metadata"]["uid"]
    indexed = is_indexed(job)
    index = indexes.valid_index(pod, job["spec"]["completions"]) if indexed else None
    if podlib.phase(pod) == "Succeeded" and uid not in named.known["failed"]:
        if not indexed:
            if uid not in named.known["succeeded"]:
                named.lists["succeeded"].append(uid)
        elif index is not None and not indexes.holds(found.done_before, index):
            named.indexes.append(index)
        return ""
    # The pods of a job that is to fail have all failed.
    failing = found.verdict is not None and found.verdict["type"] != "SuccessCriteriaMet"
    if not (is_failed(job, pod) or failing) or uid in named.known["failed"]:
        return ""
    if indexed and index is None:
        return ""
    verdict = judge(job, pod)
    if verdict.counts:
        named.lists["failed"].append(uid)
    return verdict.action


def _say_indexes(found: Survey, out: Tracking) -> None:
    # All that succeeded, also those whose finalizers go later: the index keeps them from counting
    # twice.
    put(out.status, "succeeded", indexes.total(found.done))
    put(out.status, "completedIndexes", indexes.text_of(found.done))
    if found.lost is not None:
        out.status["failedIndexes"] = indexes.text_of(found.lost)


def _say_verdict(found: Survey, out: Tracking, now_s: float) -> None:
    """The interim condition now, the one that ends the job when all is done."""
    verdict = found.verdict
    if verdict is None:
        return
    kind = verdict["type"]
    if kind != "Failed" and condition(out.status.get("conditions"), kind) is None:
        out.status["conditions"] = [*(out.status.get("conditions") or ()), verdict]
    ending = "Complete" if kind == "SuccessCriteriaMet" else "Failed"
    out.ending = new_condition(ending, verdict, now_s)


def settle(status: Object, tracked: Collection[str]) -> Object:
    """The status with those counted that are named and have no finalizer any more."""
    out = {**status}
    uncounted, left = status.get("uncountedTerminatedPods") or {}, {}
    for kind in ("succeeded", "failed"):
        uids = uncounted.get(kind) or ()
        kept = [uid for uid in uids if uid in tracked]
        put(out, kind, int(status.get(kind) or 0) + len(uids) - len(kept))
        if kept:
            left[kind] = kept
    out["uncountedTerminatedPods"] = left
    return out


def end(status: Object, tracking: Tracking) -> Object | None:
    """The status of a job that has ended; None if something is still to be counted or awaited."""
    ending = tracking.ending
    if ending is None or tracking.full or status["uncountedTerminatedPods"]:
        return None
    if status.get("terminating"):
        return None
    out = {**status, "conditions": [*(status.get("conditions") or ()), ending]}
    if ending["type"] == "Complete":
        out["completionTime"] = ending["lastTransitionTime"]
    return out


def put(status: Object, key: str, value: int | str) -> None:
    """Zero and "" are left out, as upstream's encoding does."""
    if value:
        status[key] = value
    else:
        status.pop(key, None)
