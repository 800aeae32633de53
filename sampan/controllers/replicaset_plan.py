"""How many pods a ReplicaSet makes, which it gives up, and what it reports. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from sampan.api.errors import Object
from sampan.api.times import format_time, parse_time

from .runtime import pods as podlib
from .runtime.conditions import condition, with_condition, without

# Upstream's BurstReplicas: how many pods one sync creates or deletes at most.
BURST = 500
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
PHASE_RANK = {"Pending": 0, "Unknown": 1, "Running": 2}


class Observed(Struct, frozen=True):
    """What a sync looks at."""

    replica_set: Object
    pods: Sequence[Object]
    """Active pods it controls."""
    terminating: int = 0
    """Pods it controls that are on their way out."""
    per_node: Mapping[str, int] | None = None
    """Active pods by node, of all ReplicaSets of the same owner; to spread what is left."""


class Plan(Struct, frozen=True):
    create: int = 0
    delete: Sequence[Object] = ()


class Failure(Struct, frozen=True):
    """Why the plan could not be carried out; `verb` is Create or Delete."""

    verb: str
    message: str


def plan(observed: Observed, now_s: float) -> Plan:
    """Pods to create or to delete, at most BURST."""
    meta = observed.replica_set["metadata"]
    if meta.get("deletionTimestamp"):
        return Plan()
    missing = wanted(observed.replica_set) - len(observed.pods)
    if missing >= 0:
        return Plan(create=min(missing, BURST))
    count = min(-missing, BURST)
    return Plan(delete=rank(observed.pods, observed.per_node, now_s)[:count])


def wanted(replica_set: Object) -> int:
    replicas = replica_set["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def rank(pods: Sequence[Object], per_node: Mapping[str, int] | None, now_s: float) -> list[Object]:
    """The pods in the order they are given up (upstream's ActivePodsWithRanks)."""
    counts = per_node if per_node is not None else Counter(map(_node, pods))
    return sorted(pods, key=lambda pod: _deletion_key(pod, counts, now_s))


def _deletion_key(pod: Object, counts: Mapping[str, int], now_s: float) -> tuple[Any, ...]:
    """Smaller goes first: unassigned, pending, not ready, cheap, crowded, young, restarting."""
    meta = pod["metadata"]
    ready = podlib.is_ready(pod)
    since = podlib.ready_since_s(pod)
    created = parse_time(meta["creationTimestamp"]) if meta.get("creationTimestamp") else 0.0
    return (
        bool(_node(pod)),
        PHASE_RANK.get(podlib.phase(pod), 0),
        ready,
        _cost(pod),
        -counts.get(_node(pod), 0),
        _age_rank(since, now_s) if ready else 0,
        -podlib.restarts(pod),
        _age_rank(created, now_s),
        meta.get("uid", ""),
    )


def _age_rank(since_s: float, now_s: float) -> int:
    """Ages in powers of two (LogarithmicScaleDown); a pod without the time goes first."""
    if not since_s:
        return -1
    # In nanoseconds, as Go's durations are.
    return int(math.log2(max(1.0, (now_s - since_s) * 1e9)))


def _cost(pod: Object) -> int:
    """The deletion cost its owner wrote on it; what is not a 32-bit number counts as 0."""
    text = (pod["metadata"].get("annotations") or {}).get(DELETION_COST, "")
    try:
        value = int(text)
    except ValueError:
        return 0
    if str(value) != text or not -(1 << 31) <= value < 1 << 31:
        return 0
    return value


def _node(pod: Object) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or "")


def status_of(observed: Observed, failure: Failure | None, now_s: float) -> Object:
    """The status this view gives; conditions of others are kept."""
    replica_set = observed.replica_set
    template = (replica_set["spec"].get("template") or {}).get("metadata") or {}
    labels = (template.get("labels") or {}).items()
    min_ready_s = int(replica_set["spec"].get("minReadySeconds") or 0)
    labelled = ready = available = 0
    for pod in observed.pods:
        labelled += labels <= (pod["metadata"].get("labels") or {}).items()
        ready += podlib.is_ready(pod)
        available += podlib.available_in_s(pod, min_ready_s, now_s) == 0
    old = replica_set.get("status") or {}
    counts = {
        "fullyLabeledReplicas": labelled,
        "readyReplicas": ready,
        "availableReplicas": available,
        "terminatingReplicas": observed.terminating,
        "observedGeneration": replica_set["metadata"].get("generation", 0),
    }
    status: Object = {"replicas": len(observed.pods)}
    status |= {key: value for key, value in counts.items() if value}
    # Zero is told apart from unknown here: upstream's field is a pointer.
    status["terminatingReplicas"] = observed.terminating
    conditions = _conditions(old.get("conditions"), failure, now_s)
    if conditions:
        status["conditions"] = conditions
    return status


def _conditions(
    old: Sequence[Object] | None, failure: Failure | None, now_s: float
) -> Sequence[Object]:
    if failure is None:
        return without(old, "ReplicaFailure")
    if condition(old, "ReplicaFailure") is not None:
        return old or ()
    new = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": f"Failed{failure.verb}",
        "message": failure.message,
        "lastTransitionTime": format_time(now_s),
    }
    return with_condition(old, new)


def available_later_s(observed: Observed, now_s: float) -> float | None:
    """When the next ready pod becomes available; None if there is none to wait for."""
    min_ready_s = int(observed.replica_set["spec"].get("minReadySeconds") or 0)
    waits = [podlib.available_in_s(pod, min_ready_s, now_s) for pod in observed.pods]
    return min((wait for wait in waits if wait), default=None)
