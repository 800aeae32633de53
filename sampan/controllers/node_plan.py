"""What a node's silence and its conditions mean: conditions, taints, evictions. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sampan.api.errors import Object
from sampan.api.placement import tolerates
from sampan.api.times import format_time

from .runtime.conditions import condition

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
NO_SCHEDULE, NO_EXECUTE = "NoSchedule", "NoExecute"

# Conditions the kubelet keeps; all become Unknown when it falls silent.
KUBELET_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
# (condition, status) -> the NoSchedule taint it brings (TaintNodesByCondition).
CONDITION_TAINTS = {
    ("Ready", "False"): NOT_READY,
    ("Ready", "Unknown"): UNREACHABLE,
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
}
# Only these are this controller's to take away; what others put on a node stays.
OWN_NO_SCHEDULE = frozenset({*CONDITION_TAINTS.values(), UNSCHEDULABLE})
OWN_NO_EXECUTE = frozenset({NOT_READY, UNREACHABLE})


def ready_status(node: Object) -> str:
    """True, False or Unknown, as the Ready condition says; "" without one."""
    found = condition((node.get("status") or {}).get("conditions"), "Ready")
    return str(found.get("status")) if found is not None else ""


def is_evicted(node: Object) -> bool:
    """Has this controller put a taint on it that drives pods away?"""
    return any(
        item.get("effect") == NO_EXECUTE and item.get("key") in OWN_NO_EXECUTE
        for item in node["spec"].get("taints") or ()
    )


def silent_conditions(node: Object, now_s: float) -> list[Object]:
    """The node's conditions once its kubelet is no longer heard of."""
    conditions = [*((node.get("status") or {}).get("conditions") or ())]
    now = format_time(now_s)
    for kind in KUBELET_CONDITIONS:
        old = condition(conditions, kind)
        if old is None:
            conditions.append(
                {
                    "type": kind,
                    "status": "Unknown",
                    "lastHeartbeatTime": node["metadata"].get("creationTimestamp"),
                    "lastTransitionTime": now,
                    "reason": "NodeStatusNeverUpdated",
                    "message": "Kubelet never posted node status.",
                }
            )
        elif old.get("status") != "Unknown":
            new = {
                **old,
                "status": "Unknown",
                "lastTransitionTime": now,
                "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
            }
            conditions[conditions.index(old)] = new
    return conditions


def taints(node: Object, now_s: float, *, evict: bool) -> list[Object]:
    """The taints the node is to have; others' first, in their order.

    `evict` False keeps NoExecute taints off: it is not the node's turn, or when no node at all is
    ready, the fault is likely the control plane's own, and evicting everything would make it worse.
    """
    wanted = _wanted(node, evict)
    kept, have = [], set()
    for taint in node["spec"].get("taints") or ():
        key = (taint.get("key"), taint.get("effect"))
        own = (key[1] == NO_SCHEDULE and key[0] in OWN_NO_SCHEDULE) or (
            key[1] == NO_EXECUTE and key[0] in OWN_NO_EXECUTE
        )
        if not own or key in wanted:
            kept.append(taint)
            have.add(key)
    for name, effect in wanted:
        if (name, effect) not in have:
            kept.append({"key": name, "effect": effect, "timeAdded": format_time(now_s)})
    return kept


def _wanted(node: Object, evict: bool) -> list[tuple[str, str]]:
    found = []
    for item in (node.get("status") or {}).get("conditions") or ():
        key = CONDITION_TAINTS.get((item.get("type", ""), item.get("status", "")))
        if key is not None:
            found.append((key, NO_SCHEDULE))
    if node["spec"].get("unschedulable"):
        found.append((UNSCHEDULABLE, NO_SCHEDULE))
    status = ready_status(node)
    if evict and status == "False":
        found.append((NOT_READY, NO_EXECUTE))
    if evict and status == "Unknown":
        found.append((UNREACHABLE, NO_EXECUTE))
    return found


class Eviction(NamedTuple):
    """A pod is to leave its node; `after_s` counted from the taint."""

    after_s: float


def eviction(pod: Object, node_taints: Sequence[Object]) -> Eviction | None:
    """Whether NoExecute taints drive the pod away, and when; None if it may stay."""
    strong = [taint for taint in node_taints if taint.get("effect") == NO_EXECUTE]
    if not strong:
        return None
    limits: list[float] = []
    for taint in strong:
        used = [item for item in pod["spec"].get("tolerations") or () if tolerates(item, taint)]
        if not used:
            return Eviction(0.0)
        limits += [
            max(0.0, float(item["tolerationSeconds"]))
            for item in used
            if item.get("tolerationSeconds") is not None
        ]
    return Eviction(min(limits)) if limits else None
