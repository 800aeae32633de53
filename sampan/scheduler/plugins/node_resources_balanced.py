"""NodeResourcesBalancedAllocation: nodes whose CPU and memory would be used to like shares."""

from __future__ import annotations

from sampan.scheduler.demand import Demand
from sampan.scheduler.nodes import NodeState


def points(demand: Demand, node: NodeState) -> float:
    """100 less the standard deviation of the shares; of two shares that is half their distance."""
    cpu = _share("cpu", demand, node)
    memory = _share("memory", demand, node)
    return 100.0 * (1.0 - abs(cpu - memory) / 2.0)


def _share(key: str, demand: Demand, node: NodeState) -> float:
    capacity = node.allocatable.get(key, 0)
    if not capacity:
        return 0.0
    return min(1.0, (node.used.get(key, 0) + demand.requests.get(key, 0)) / capacity)
