"""NodeResourcesFit: requests within what is allocatable; the least allocated node is preferred."""

from __future__ import annotations

from sampan.scheduler.demand import Demand
from sampan.scheduler.nodes import NodeState


def reasons(demand: Demand, node: NodeState) -> list[str]:
    """All that is short, as upstream lists it."""
    found = []
    if len(node.pods) + 1 > node.allocatable.get("pods", 0):
        found.append("Too many pods")
    for key, amount in demand.requests.items():
        if amount > node.allocatable.get(key, 0) - node.used.get(key, 0):
            found.append(f"Insufficient {key}")
    return found


def points(demand: Demand, node: NodeState) -> float:
    """LeastAllocated over CPU and memory: the free share after placing the pod. Not rounded, so
    that many small pods spread over large nodes one by one."""
    cpu = free_share(node.allocatable.get("cpu", 0), node.scored_cpu + demand.scored_cpu)
    memory = free_share(
        node.allocatable.get("memory", 0), node.scored_memory + demand.scored_memory
    )
    return 50.0 * (cpu + memory)


def free_share(capacity: int, used: int) -> float:
    return (capacity - used) / capacity if capacity > used else 0.0
