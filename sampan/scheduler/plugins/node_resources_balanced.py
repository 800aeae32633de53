"""NodeResourcesBalancedAllocation: nodes whose CPU and memory would be used to like shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sampan.scheduler.demand import Demand
from sampan.scheduler.nodes import NodeState


def balanced_over(names: Sequence[str]) -> Callable[[Demand, NodeState], float]:
    """The same of any resources; what a node does not have, or the pod does not ask for and is
    somebody's own, says nothing."""

    # Loaded by who names resources: it costs some milliseconds.
    from statistics import pstdev

    def points_of(demand: Demand, node: NodeState) -> float:
        shares = [
            _share(name, demand, node)
            for name in names
            if node.allocatable.get(name) and ("/" not in name or name in demand.requests)
        ]
        return 100.0 * (1.0 - pstdev(shares)) if len(shares) > 1 else 100.0

    return points_of


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
