"""NodeResourcesFit: requests within what is allocatable; nodes are scored by a strategy.

Strategies, by upstream's NodeResourcesFitArgs.scoringStrategy: LeastAllocated (the default),
MostAllocated and RequestedToCapacityRatio, each over weighted resources.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from sampan.scheduler.demand import Demand
from sampan.scheduler.nodes import NodeState

Points = Callable[[Demand, NodeState], float]
Weights = Sequence[tuple[str, int]]
"""(resource, weight)."""
DEFAULT: Weights = (("cpu", 1), ("memory", 1))


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


def least_allocated(weights: Weights) -> Points:
    if tuple(weights) == DEFAULT:
        return points
    return _weighted(weights, lambda capacity, used: 100.0 * free_share(capacity, used))


def most_allocated(weights: Weights) -> Points:
    def used_share(capacity: int, used: int) -> float:
        return 100.0 * min(used, capacity) / capacity if capacity else 0.0

    return _weighted(weights, used_share)


def requested_to_capacity(weights: Weights, shape: Sequence[tuple[int, int]]) -> Points:
    """`shape` are points (utilization 0 to 100, score 0 to 10), ascending; lines between them."""

    def on_the_line(capacity: int, used: int) -> float:
        share = 100.0 if not capacity or used > capacity else 100.0 * used / capacity
        if share <= shape[0][0]:
            return 10.0 * shape[0][1]
        for (left, low), (right, high) in pairwise(shape):
            if share <= right:
                return 10.0 * (low + (high - low) * (share - left) / (right - left))
        return 10.0 * shape[-1][1]

    return _weighted(weights, on_the_line)


def _weighted(weights: Weights, value: Callable[[int, int], float]) -> Points:
    def sum_up(demand: Demand, node: NodeState) -> float:
        total, weighed = 0.0, 0
        for key, weight in weights:
            capacity = node.allocatable.get(key, 0)
            # What a node does not have, or a pod does not ask for, says nothing (but CPU and
            # memory, which everybody uses).
            if not capacity or (key not in ("cpu", "memory") and key not in demand.requests):
                continue
            total += weight * value(capacity, _used(key, demand, node))
            weighed += weight
        return total / weighed if weighed else 0.0

    return sum_up


def _used(key: str, demand: Demand, node: NodeState) -> int:
    if key == "cpu":
        return node.scored_cpu + demand.scored_cpu
    if key == "memory":
        return node.scored_memory + demand.scored_memory
    return node.used.get(key, 0) + demand.requests.get(key, 0)
