"""Which node, or why none: the definition, one pod and all nodes. Pure.

`shapes.py` finds the same node faster; a property test compares the two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from .demand import Demand
from .nodes import NodeState
from .plugins import FILTERS, SCORES

NO_VICTIMS = "No preemption victims found for incoming pod"
NOT_HELPFUL = "Preemption is not helpful for scheduling"


def fits(demand: Demand, node: NodeState) -> bool:
    return not any(item.reasons(demand, node) for item in FILTERS)


def score(demand: Demand, node: NodeState) -> float:
    return sum(item.weight * item.points(demand, node) for item in SCORES)


def choose(demand: Demand, nodes: Iterable[NodeState]) -> NodeState | None:
    """The fitting node with the highest score; of equals, the first by name."""
    fitting = [node for node in nodes if fits(demand, node)]
    return min(fitting, key=lambda node: (-score(demand, node), node.name), default=None)


def explain(demand: Demand, nodes: Iterable[NodeState]) -> str:
    """Why no node fits, in the words of upstream's FitError."""
    reasons: Counter[str] = Counter()
    preemption: Counter[str] = Counter()
    count = 0
    for node in nodes:
        count += 1
        for item in FILTERS:
            found = item.reasons(demand, node)
            if found:
                reasons.update(found)
                preemption[NOT_HELPFUL if item.helpless else NO_VICTIMS] += 1
                break
    if not count:
        return "no nodes available to schedule pods"
    return (
        f"0/{count} nodes are available: {histogram(reasons)}. no new claims to deallocate, "
        f"preemption: 0/{count} nodes are available: {histogram(preemption)}."
    )


def histogram(reasons: Counter[str]) -> str:
    return ", ".join(sorted(f"{number} {text}" for text, number in reasons.items()))
