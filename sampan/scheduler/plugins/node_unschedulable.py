"""NodeUnschedulable: cordoned nodes take only pods that tolerate it."""

from __future__ import annotations

from sampan.api.errors import Object
from sampan.api.placement import tolerates
from sampan.scheduler.demand import Demand
from sampan.scheduler.nodes import NodeState

CORDON: Object = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


def reasons(demand: Demand, node: NodeState) -> list[str]:
    if node.unschedulable and not any(tolerates(item, CORDON) for item in demand.tolerations):
        return ["node(s) were unschedulable"]
    return []
