"""What a job's pods come to: how it stands, and which pods it makes or gives up. Pure.

`survey` looks at everything once; `plan` says what to do while the job goes on. The decisions are
those of upstream's job controller (pkg/controller/job), in its order of precedence.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet

from msgspec import Struct, field

from sampan.api.errors import Object
from sampan.api.times import format_time, parse_time

from . import job_indexes as indexes
from .job_backoff import Backoff, after, finished_s, left_s
from .job_policies import judge, success
from .replicaset_plan import rank
from .runtime import pods as podlib
from .runtime.conditions import condition

FINALIZER = "batch.kubernetes.io/job-tracking"
FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED = "batch.kubernetes.io/job-index-ignored-failure-count"

# Upstream's MaxPodCreateDeletePerSync.
BURST = 500


class Observed(Struct, frozen=True):
    """What a sync looks at."""

    job: Object
    pods: Sequence[Object]
    """All that it controls."""
    removed: AbstractSet[str] = frozenset()
    """uids of pods whose finalizer is gone, which the cache does not show yet."""
    backoff: Backoff | None = None
    """None if the job is seen for the first time."""


class Survey(Struct):
    """How a job stands."""

    job: Object
    pods: Sequence[Object]
    active: list[Object]
    ready: int
    terminating: int
    succeeded: int
    failed: int
    backoff: Backoff
    tracked: set[str]
    """uids of pods that carry the finalizer."""
    done_before: indexes.Intervals = ()
    """Indexes that had succeeded at the last sync."""
    done: indexes.Intervals = ()
    lost: indexes.Intervals | None = None
    """Indexes that failed, with backoffLimitPerIndex."""
    kept: dict[int, Object] = field(default_factory=dict)
    """By index the failed pod that hands its count of failures on to the one that replaces it."""
    verdict: Object | None = None
    """The condition that ends the job."""


class Plan(Struct, frozen=True):
    """What to do; one of the three."""

    delete: Sequence[Object] = ()
    create: Sequence[int | None] = ()
    """Per pod its index."""
    wait_s: float = 0.0
    """Nothing is made before."""


def survey(observed: Observed, now_s: float) -> Survey:
    """Count, and see whether the job has reached its end."""
    job, status = observed.job, observed.job.get("status") or {}
    uncounted = status.get("uncountedTerminatedPods") or {}
    tracked = {
        pod["metadata"]["uid"]
        for pod in observed.pods
        if has_finalizer(pod) and pod["metadata"]["uid"] not in observed.removed
    }
    fresh = [pod for pod in observed.pods if _counts(job, pod, tracked)]
    won = _new(fresh, uncounted.get("succeeded"), lambda pod: podlib.phase(pod) == "Succeeded")
    lost = _new(fresh, uncounted.get("failed"), lambda pod: is_failed(job, pod))
    active = [pod for pod in observed.pods if podlib.is_active(pod)]
    backoff = observed.backoff
    if backoff is None:
        backoff = _remembered(job, observed.pods, tracked)
    found = Survey(
        job=job,
        pods=observed.pods,
        active=active,
        ready=sum(map(podlib.is_ready, active)),
        terminating=sum(map(_is_terminating, observed.pods)),
        succeeded=_number(status, "succeeded") + len(won) + len(uncounted.get("succeeded") or ()),
        failed=_number(status, "failed")
        + sum(judge(job, pod).counts for pod in lost)
        + len(uncounted.get("failed") or ()),
        backoff=after(backoff, won, lost),
        tracked=tracked,
    )
    _find_verdict(found, now_s)
    if is_indexed(job):
        _survey_indexes(found, fresh, now_s)
    return found


def _counts(job: Object, pod: Object, tracked: Collection[str]) -> bool:
    if pod["metadata"]["uid"] not in tracked:
        return False
    return not is_indexed(job) or indexes.valid_index(pod, job["spec"]["completions"]) is not None


def _new(
    pods: Sequence[Object], known: Sequence[str] | None, test: Callable[[Object], bool]
) -> list[Object]:
    before = set(known or ())
    return [pod for pod in pods if pod["metadata"]["uid"] not in before and test(pod)]


def _remembered(job: Object, pods: Sequence[Object], tracked: Collection[str]) -> Backoff:
    """What pods tell that were counted before this controller began."""
    counted = [pod for pod in pods if pod["metadata"]["uid"] not in tracked]
    won = [pod for pod in counted if podlib.phase(pod) == "Succeeded"]
    return after(None, won, [pod for pod in counted if podlib.phase(pod) == "Failed"])


def _find_verdict(found: Survey, now_s: float) -> None:
    """The conditions that end a job of any mode, in upstream's order."""
    job, spec = found.job, found.job["spec"]
    conditions = (job.get("status") or {}).get("conditions")
    target = condition(conditions, "FailureTarget")
    met = condition(conditions, "SuccessCriteriaMet")
    if met is not None and met["status"] == "True":
        found.verdict = met
        return
    if target is not None and target["status"] == "True":
        found.verdict = new_condition("Failed", target, now_s)
        return
    for pod in found.pods if spec.get("podFailurePolicy") is not None else ():
        message = judge(job, pod).message if is_failed(job, pod) else ""
        if message:
            found.verdict = failure("PodFailurePolicy", message, now_s)
            return
    limit = spec["backoffLimit"]
    if found.failed > limit or _restarts_exceed(found, limit):
        why = "Job has reached the specified backoff limit"
        found.verdict = failure("BackoffLimitExceeded", why, now_s)
    elif deadline_s(job, now_s) == 0:
        why = "Job was active longer than specified deadline"
        found.verdict = failure("DeadlineExceeded", why, now_s)


def _restarts_exceed(found: Survey, limit: int) -> bool:
    """Restarts of containers count where it is the node that restarts them."""
    if found.job["spec"]["template"]["spec"].get("restartPolicy") != "OnFailure":
        return False
    count = sum(
        item.get("restartCount") or 0
        for pod in found.pods
        if podlib.phase(pod) in ("Running", "Pending")
        for kind in ("initContainerStatuses", "containerStatuses")
        for item in (pod.get("status") or {}).get(kind) or ()
    )
    return count > 0 if limit == 0 else count >= limit


def _survey_indexes(found: Survey, fresh: Sequence[Object], now_s: float) -> None:
    job, spec, status = found.job, found.job["spec"], found.job.get("status") or {}
    completions: int = spec["completions"]
    found.done_before = indexes.parse(status.get("completedIndexes"), completions)
    new = {indexes.index_of(pod) for pod in fresh if podlib.phase(pod) == "Succeeded"}
    found.done = indexes.with_indexes(found.done_before, (item for item in new if item is not None))
    found.succeeded = indexes.total(found.done)
    limit = spec.get("backoffLimitPerIndex")
    if limit is not None:
        before = indexes.parse(status.get("failedIndexes"), completions)
        bad = {indexes.index_of(pod) for pod in fresh if _index_fails(job, pod, limit)}
        found.lost = indexes.with_indexes(before, (item for item in bad if item is not None))
        count, most = indexes.total(found.lost), spec.get("maxFailedIndexes")
        if found.verdict is None and most is not None and count > most:
            why = "Job has exceeded the specified maximal number of failed indexes"
            found.verdict = failure("MaxFailedIndexesExceeded", why, now_s)
        elif found.verdict is None and count and count + found.succeeded >= completions:
            found.verdict = failure("FailedIndexes", "Job has failed indexes", now_s)
        _keep(found, fresh)
    if found.verdict is None:
        message = success(job, found.done)
        if message:
            text = {"reason": "SuccessPolicy", "message": message}
            found.verdict = new_condition("SuccessCriteriaMet", text, now_s)


def _index_fails(job: Object, pod: Object, limit: int) -> bool:
    if not is_failed(job, pod):
        return False
    verdict = judge(job, pod)
    return verdict.action == "FailIndex" or (verdict.counts and failures_of(pod) >= limit)


def _keep(found: Survey, fresh: Sequence[Object]) -> None:
    """Of each index that waits for a replacement, the pod that failed last (KEP-3850): its
    finalizer stays until the new pod has its count."""
    busy = {indexes.index_of(pod) for pod in found.active}
    for pod in fresh:
        index = indexes.index_of(pod)
        if index is None or index in busy or not is_failed(found.job, pod):
            continue
        if indexes.holds(found.done, index) or indexes.holds(found.lost or (), index):
            continue
        known = found.kept.get(index)
        if known is None or _order(known) <= _order(pod):
            found.kept[index] = pod


def _order(pod: Object) -> tuple[int, float]:
    return failures_of(pod) + failures_of(pod, IGNORED), finished_s(pod)


def failures_of(pod: Object, annotation: str = FAILURES) -> int:
    """How often its index had failed before the pod was made; 0 for what is no such number."""
    text = (pod["metadata"].get("annotations") or {}).get(annotation) or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else 0


def plan(found: Survey, now_s: float) -> Plan:
    """What to do for a job that goes on: give up pods, make pods, or wait."""
    job, spec = found.job, found.job["spec"]
    active = len(found.active)
    if is_suspended(job):
        return Plan(delete=_surplus(found, active, now_s))
    wanted, completions = spec["parallelism"], spec.get("completions")
    if completions is not None:
        wanted = max(0, min(completions - found.succeeded, wanted))
    elif found.succeeded:
        # A work queue: one success says that the work is done, and what runs finishes.
        wanted = active
    delete = _surplus(found, max(0, active - wanted), now_s)[:BURST]
    if delete:
        return Plan(delete=delete)
    only_failed = replaces_only_failed(job)
    lacking = wanted - active - (found.terminating if only_failed else 0)
    if lacking <= 0:
        return Plan()
    per_index = spec.get("backoffLimitPerIndex") is not None
    wait_s = 0.0 if per_index else found.backoff.left_s(now_s)
    if wait_s:
        return Plan(wait_s=wait_s)
    lacking = min(lacking, BURST)
    if not is_indexed(job):
        return Plan(create=[None] * lacking)
    todo = indexes.missing(_taken(found, only_failed), lacking, spec["completions"])
    waits = {item: _index_wait_s(found.kept.get(item), now_s) for item in todo}
    ready = [item for item in todo if not waits[item]]
    if ready or not todo:
        return Plan(create=ready)
    return Plan(wait_s=min(waits.values()))


def _taken(found: Survey, only_failed: bool) -> indexes.Intervals:
    busy = [pod for pod in found.pods if only_failed and _is_terminating(pod)] + found.active
    taken = {index for pod in busy if (index := indexes.index_of(pod)) is not None}
    return indexes.with_indexes(indexes.merge(found.done, found.lost or ()), taken)


def _index_wait_s(last: Object | None, now_s: float) -> float:
    if last is None:
        return 0.0
    count = failures_of(last) + failures_of(last, IGNORED) + 1
    return left_s(count, finished_s(last), now_s)


def _surplus(found: Survey, least: int, now_s: float) -> list[Object]:
    """Pods without a place (no index, one too high, a second of the same), then the cheapest.

    First those without the finalizer: nobody would count them. They were being given up when the
    controller died, or somebody took it off."""
    out = [pod for pod in found.active if not has_finalizer(pod)]
    left = [pod for pod in found.active if has_finalizer(pod)] if out else found.active
    if is_indexed(found.job):
        completions, by_index = found.job["spec"]["completions"], dict[int, list[Object]]()
        for pod in left:
            index = indexes.valid_index(pod, completions)
            if index is None:
                out.append(pod)
            else:
                by_index.setdefault(index, []).append(pod)
        left = []
        for pods in by_index.values():
            ordered = rank(pods, None, now_s) if len(pods) > 1 else pods
            out += ordered[:-1]
            left.append(ordered[-1])
    if len(out) < least:
        out += rank(left, None, now_s)[: least - len(out)]
    return out


def is_complete(found: Survey, active: int) -> bool:
    """Has the job what it wants? `active`: pods that are left after what the sync has done."""
    completions = found.job["spec"].get("completions")
    wanted = 1 if completions is None else completions
    return active == 0 and found.succeeded >= wanted


def deadline_s(job: Object, now_s: float) -> float | None:
    """How long until the job has been active too long: 0 if it has, None if it may for ever."""
    limit, start = job["spec"].get("activeDeadlineSeconds"), job["status"].get("startTime")
    if limit is None or not start or is_suspended(job):
        return None
    return max(0.0, parse_time(start) + int(limit) - now_s)


def is_failed(job: Object, pod: Object) -> bool:
    """Failed; or going, where a replacement does not wait until it is gone."""
    phase = podlib.phase(pod)
    if phase == "Failed":
        return True
    return podlib.is_terminating(pod) and phase != "Succeeded" and not replaces_only_failed(job)


def replaces_only_failed(job: Object) -> bool:
    spec = job["spec"]
    only_failed: bool = spec.get("podReplacementPolicy") == "Failed"
    return only_failed or spec.get("podFailurePolicy") is not None


def _is_terminating(pod: Object) -> bool:
    return podlib.is_terminating(pod) and not podlib.is_finished(pod)


def is_indexed(job: Object) -> bool:
    return bool(job["spec"].get("completionMode") == "Indexed")


def is_suspended(job: Object) -> bool:
    return bool(job["spec"].get("suspend"))


def is_finished(job: Object) -> str:
    """Complete or Failed; "" while it is neither."""
    for item in (job.get("status") or {}).get("conditions") or ():
        if item["type"] in ("Complete", "Failed") and item["status"] == "True":
            return str(item["type"])
    return ""


def has_finalizer(pod: Object) -> bool:
    return FINALIZER in (pod["metadata"].get("finalizers") or ())


def failure(reason: str, message: str, now_s: float) -> Object:
    """The job is to fail; it has when its pods are gone and counted (KEP-3939)."""
    return new_condition("FailureTarget", {"reason": reason, "message": message}, now_s)


def completed(now_s: float) -> Object:
    text = {
        "reason": "CompletionsReached", "message": "Reached expected number of succeeded pods",
    }  # fmt: skip
    return new_condition("SuccessCriteriaMet", text, now_s)


def new_condition(kind: str, text: Object, now_s: float, status: str = "True") -> Object:
    """With the reason and message of `text`."""
    now = format_time(now_s)
    out = {"type": kind, "status": status, "lastProbeTime": now, "lastTransitionTime": now}
    return out | {key: text[key] for key in ("reason", "message") if text.get(key)}


def _number(status: Object, key: str) -> int:
    return int(status.get(key) or 0)
