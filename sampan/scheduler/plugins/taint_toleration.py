"""TaintToleration: a node's taints keep away the pods that do not tolerate them."""

from __future__ import annotations

from sampan.api.placement import tolerates
from sampan.scheduler.demand import Demand
from sampan.scheduler.nodes import NodeState

KEEPS_AWAY = ("NoSchedule", "NoExecute")


def reasons(demand: Demand, node: NodeState) -> list[str]:
    for taint in node.taints:
        if taint.get("effect") in KEEPS_AWAY and not any(
            tolerates(item, taint) for item in demand.tolerations
        ):
            return ["node(s) had untolerated taint(s)"]
    return []


def points(demand: Demand, node: NodeState) -> float:
    """100 without untolerated PreferNoSchedule taints, less for each."""
    if not node.taints:
        return 100.0
    count: int = sum(
        taint.get("effect") == "PreferNoSchedule"
        and not any(tolerates(item, taint) for item in demand.tolerations)
        for taint in node.taints
    )
    return 100.0 / (1 + count)
