"""Which node, or why none: the definition, one pod and all nodes. Pure.

`shapes.py` and `columns/` find the same node faster; a property test compares them.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from .demand import Demand
from .guest import Guest
from .nodes import Nodes, NodeState
from .plugins import FILTERS, RELATIONS, SCORES, Relation

NO_VICTIMS = "No preemption victims found for incoming pod"
NOT_HELPFUL = "Preemption is not helpful for scheduling"

States = list[tuple[Relation, Any]]


class Verdict(NamedTuple):
    """Why one node does not fit."""

    plugin: str
    reasons: list[str]
    helpless: bool


def fits(demand: Demand, node: NodeState) -> bool:
    """By the node alone; other nodes may still speak against it."""
    return not any(item.reasons(demand, node) for item in FILTERS)


def score(demand: Demand, node: NodeState) -> float:
    return sum(item.weight * item.points(demand, node) for item in SCORES)


def prepare(guest: Guest, nodes: Nodes) -> States:
    """The relations that concern this pod, each with its state."""
    prepared = ((item, item.prepare(guest, nodes)) for item in RELATIONS)
    return [(item, state) for item, state in prepared if state is not None]


def judge(guest: Guest, node: NodeState, states: States) -> Verdict | None:
    """The first filter that fails, in their order; None when the node fits."""
    for item in FILTERS:
        found = item.reasons(guest.demand, node)
        if found:
            return Verdict(item.name, found, item.helpless)
    for relation, state in states:
        why, helpless = relation.reasons(state, node)
        if why:
            return Verdict(relation.name, [why], helpless)
    return None


def choose(guest: Guest, nodes: Nodes) -> NodeState | None:
    """The fitting node with the highest score; of equals, the first by name."""
    states = prepare(guest, nodes)
    fitting = [node for node in nodes.by_name.values() if judge(guest, node, states) is None]
    if not fitting:
        return None
    totals = [score(guest.demand, node) for node in fitting]
    for relation, state in states:
        for number, points in enumerate(relation.points(state, fitting)):
            totals[number] += relation.weight * points
    ranked = zip(totals, fitting, strict=True)
    return min(ranked, key=lambda item: (-item[0], item[1].name))[1]


def explain(guest: Guest, nodes: Nodes) -> str:
    """Why no node fits, in the words of upstream's FitError."""
    reasons: Counter[str] = Counter()
    preemption: Counter[str] = Counter()
    states = prepare(guest, nodes)
    for node in nodes.by_name.values():
        verdict = judge(guest, node, states)
        if verdict is not None:
            reasons.update(verdict.reasons)
            preemption[NOT_HELPFUL if verdict.helpless else NO_VICTIMS] += 1
    count = len(nodes.by_name)
    if not count:
        return "no nodes available to schedule pods"
    return (
        f"0/{count} nodes are available: {histogram(reasons)}. no new claims to deallocate, "
        f"preemption: 0/{count} nodes are available: {histogram(preemption)}."
    )


def histogram(reasons: Counter[str]) -> str:
    return ", ".join(sorted(f"{number} {text}" for text, number in reasons.items()))
