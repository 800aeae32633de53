"""Which node, or why none: the definition, one pod and all nodes. Pure.

`shapes.py` and `columns/` find the same node faster; a property test compares them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .guest import Guest
from .nodes import Nodes, NodeState, add_guest, without
from .plugins import Relation

NO_VICTIMS = "No preemption victims found for incoming pod"
NOT_HELPFUL = "Preemption is not helpful for scheduling"

States = list[tuple[Relation, Any]]


class Verdict(NamedTuple):
    """Why one node does not fit."""

    plugin: str
    reasons: list[str]
    helpless: bool


def prepare(guest: Guest, nodes: Nodes) -> States:
    """The relations that concern this pod, each with its state."""
    prepared = ((item, item.prepare(guest, nodes)) for item in guest.profile.relations)
    return [(item, state) for item, state in prepared if state is not None]


def judge(guest: Guest, node: NodeState, states: States, nodes: Nodes) -> Verdict | None:
    """The first filter that fails, in their order; None when the node fits. Pods that a place is
    kept for here, and that are as important, count as if they were here already."""
    if nodes.nominated:
        node = crowded(guest, node, nodes)
    for item in guest.profile.filters:
        found = item.reasons(guest.demand, node)
        if found:
            return Verdict(item.name, found, item.helpless)
    for relation, state in states:
        why, helpless = relation.reasons(state, node) if relation.filters else ("", False)
        if why:
            return Verdict(relation.name, [why], helpless)
    return None


def crowded(guest: Guest, node: NodeState, nodes: Nodes) -> NodeState:
    """The node with those on it who are nominated to it and go first."""
    ahead = nodes.ahead(guest, node.name)
    if ahead:
        node = without(node, set())
        for other in ahead:
            add_guest(node, other)
    return node


def is_free(guest: Guest, node: NodeState, nodes: Nodes) -> bool:
    """Does a node that fits also fit with those who are nominated to it?"""
    return guest.profile.fits(guest.demand, crowded(guest, node, nodes))


def choose(guest: Guest, nodes: Nodes) -> NodeState | None:
    """The node the pod is nominated to, if it fits; else the fitting node with the highest score;
    of equals, the first by name."""
    states = prepare(guest, nodes)
    own = nodes.by_name.get(guest.nominated)
    if own is not None and judge(guest, own, states, nodes) is None:
        return own
    fitting = [node for node in nodes.by_name.values() if judge(guest, node, states, nodes) is None]
    return rank(guest, fitting, states, {})


def rank(
    guest: Guest, fitting: Sequence[NodeState], states: States, given: Mapping[str, float]
) -> NodeState | None:
    """The best of the fitting nodes; `given` are points that others give, by node."""
    if not fitting:
        return None
    totals = [guest.profile.score(guest.demand, node) for node in fitting]
    for relation, state in states:
        for number, points in enumerate(relation.points(state, fitting)):
            totals[number] += relation.weight * points
    for number, node in enumerate(fitting):
        totals[number] += given.get(node.name, 0)
    ranked = zip(totals, fitting, strict=True)
    return min(ranked, key=lambda item: (-item[0], item[1].name))[1]


def verdicts_of(guest: Guest, nodes: Nodes, states: States) -> dict[str, Verdict]:
    """Why each node does not fit; nodes that do are left out."""
    judged = ((node.name, judge(guest, node, states, nodes)) for node in nodes.by_name.values())
    return {name: verdict for name, verdict in judged if verdict is not None}


def stop_of(states: States) -> str:
    """Why no node will do, whatever it is like (PreFilter); "" when it depends on the node."""
    return next(filter(None, (item.stops(state) for item, state in states if item.filters)), "")


def explain(verdicts: Mapping[str, Verdict], count: int, stop: str, preemption: str) -> str:
    """Why no node of `count` fits, in the words of upstream's FitError. `stop` is `stop_of`'s;
    `preemption` is why it did not help, "" when it did."""
    if not count:
        return "no nodes available to schedule pods"
    reasons = Counter(reason for item in verdicts.values() for reason in item.reasons)
    text = f"0/{count} nodes are available: {stop or histogram(reasons)}."
    if preemption:
        text += f" no new claims to deallocate, preemption: {preemption}"
    return text


def histogram(reasons: Counter[str]) -> str:
    return ", ".join(sorted(f"{number} {text}" for text, number in reasons.items()))
