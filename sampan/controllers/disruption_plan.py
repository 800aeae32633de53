"""What a disruption budget allows: counts of its pods, pure (policy/v1 PodDisruptionBudget).

Upstream's decisions (pkg/controller/disruption): expected pods are those their owners want; one
that was promised to an eviction does not count as healthy until it is gone, or for two minutes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from sampan.api.errors import Object
from sampan.api.times import format_time, parse_time

from .deployment_sizes import scaled
from .runtime import pods as podlib
from .runtime.conditions import condition

DELETION_S = 120.0
"""How long an evicted pod may take to be deleted (upstream's DeletionTimeout)."""
STALE_S = 120.0
"""How long a pod may say that it is about to be disrupted (stalePodDisruptionTimeout)."""

ALLOWED = "DisruptionAllowed"
TARGET = "DisruptionTarget"
SUFFICIENT, INSUFFICIENT, FAILED = "SufficientPods", "InsufficientPods", "SyncFailed"


class Wanted(NamedTuple):
    """How many pods there should be, and how many of them healthy."""

    expected: int
    healthy: int


class Disrupted(NamedTuple):
    """Pods promised to evictions."""

    pending: dict[str, str]
    """Those not deleted yet, and when they were promised."""
    overdue: list[Object]
    """Those that should have been deleted by now."""
    recheck_s: float | None
    """When the next of the pending ones is overdue."""


class Observed(Struct, frozen=True):
    """A budget and its pods."""

    budget: Object
    pods: Sequence[Object]
    wanted: Wanted
    now_s: float


def needs_scale(budget: Object) -> bool:
    """Is it about the number of pods their owners want? Not with a plain minAvailable."""
    spec = budget["spec"]
    if spec.get("maxUnavailable") is not None:
        return True
    return isinstance(spec.get("minAvailable"), str)


def wanted(budget: Object, pods: int, scale: int) -> Wanted:
    """`scale` is what the owners want, where `needs_scale`. Percents round up (KEP-85)."""
    spec = budget["spec"]
    most, least = spec.get("maxUnavailable"), spec.get("minAvailable")
    if most is not None:
        return Wanted(scale, max(0, scale - scaled(most, scale, up=True)))
    if isinstance(least, str):
        return Wanted(scale, scaled(least, scale, up=True))
    if least is not None:
        return Wanted(pods, int(least))
    return Wanted(0, 0)


def disrupted(budget: Object, pods: Iterable[Object], now_s: float) -> Disrupted:
    """Which of the promised pods are still to go; those deleted or gone are settled."""
    promised = (budget.get("status") or {}).get("disruptedPods") or {}
    out = Disrupted({}, [], None)
    if not promised:
        return out
    for pod in pods:
        name = pod["metadata"]["name"]
        if podlib.is_terminating(pod) or name not in promised:
            continue
        due_s = parse_time(promised[name]) + DELETION_S
        if due_s < now_s:
            out.overdue.append(pod)
            continue
        out.pending[name] = promised[name]
        if out.recheck_s is None or due_s < out.recheck_s:
            out = out._replace(recheck_s=due_s)
    return out


def healthy(pods: Iterable[Object], promised: Mapping[str, str]) -> int:
    return sum(
        podlib.is_ready(pod)
        for pod in pods
        if not podlib.is_terminating(pod) and pod["metadata"]["name"] not in promised
    )


def status_of(observed: Observed, promised: Mapping[str, str]) -> Object:
    """The budget's status; the one it has if nothing changed."""
    budget, need = observed.budget, observed.wanted
    old: Object = budget.get("status") or {}
    current = healthy(observed.pods, promised)
    # A budget that matches no pods allows nothing: its first pods may appear before we see them.
    allowed = max(0, current - need.healthy) if need.expected > 0 else 0
    generation = int(budget["metadata"].get("generation") or 0)
    status: Object = {
        **{key: value for key, value in old.items() if key != "disruptedPods"},
        "currentHealthy": current,
        "desiredHealthy": need.healthy,
        "expectedPods": need.expected,
        "disruptionsAllowed": allowed,
        "observedGeneration": generation,
    }
    if promised:
        status["disruptedPods"] = dict(promised)
    status["conditions"] = with_allowed(status, observed.now_s)
    return status


def failed_status(budget: Object, why: str, now_s: float) -> Object:
    """The status when nothing could be counted: no eviction is approved on old figures."""
    status: Object = {**(budget.get("status") or {}), "disruptionsAllowed": 0}
    new = {
        "type": ALLOWED,
        "status": "False",
        "reason": FAILED,
        "message": why,
        "observedGeneration": int(status.get("observedGeneration") or 0),
    }
    status["conditions"] = _with(status.get("conditions"), new, now_s)
    return status


def with_allowed(status: Object, now_s: float) -> list[Object]:
    """The conditions of a status, with DisruptionAllowed as its disruptionsAllowed says."""
    enough = int(status.get("disruptionsAllowed") or 0) > 0
    new = {
        "type": ALLOWED,
        "status": "True" if enough else "False",
        "reason": SUFFICIENT if enough else INSUFFICIENT,
        "message": "",
        "observedGeneration": int(status.get("observedGeneration") or 0),
    }
    return _with(status.get("conditions"), new, now_s)


def _with(conditions: Sequence[Object] | None, new: Object, now_s: float) -> list[Object]:
    """As apimachinery's SetStatusCondition: in its place, with the time of its last turn."""
    out = [*(conditions or ())]
    for position, item in enumerate(out):
        if item.get("type") == new["type"]:
            same = item.get("status") == new["status"] and item.get("lastTransitionTime")
            since = item["lastTransitionTime"] if same else format_time(now_s)
            out[position] = {**new, "lastTransitionTime": since}
            return out
    return [*out, {**new, "lastTransitionTime": format_time(now_s)}]


def stale_in_s(pod: Object, now_s: float) -> float | None:
    """How long until a pod that says it is about to be disrupted, and was not, has said so for
    too long; None if it says nothing, or is right (KEP-3329)."""
    status = pod.get("status") or {}
    found = condition(status.get("conditions"), TARGET)
    if found is None or podlib.is_terminating(pod) or podlib.is_finished(pod):
        return None
    # The node may take any time from the condition it sets to the pod's end.
    if found.get("status") != "True" or found.get("reason") == "TerminationByKubelet":
        return None
    since = found.get("lastTransitionTime")
    return max(0.0, parse_time(since) + STALE_S - now_s) if since else 0.0


def settled(pod: Object, now_s: float) -> Object:
    """The pod, which says that it is not about to be disrupted."""
    status = pod["status"]
    new = {"type": TARGET, "status": "False", "lastTransitionTime": format_time(now_s)}
    conditions = [new if item["type"] == TARGET else item for item in status["conditions"]]
    return {**pod, "status": {**status, "conditions": conditions}}
