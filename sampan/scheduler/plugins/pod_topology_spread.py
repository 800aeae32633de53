"""PodTopologySpread: pods that a selector matches, evenly over zones, hosts or other domains. The
definition; `columns/spread.py` computes the same over all nodes at once.

Hard constraints (DoNotSchedule) bound how many more a domain may have than the emptiest one; soft
ones (ScheduleAnyway) prefer emptier domains. Only nodes that have every key, and that the pod could
go to by affinity and taints as the constraint's policies say, are counted (KEP-3094).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sampan.scheduler.guest import Guest
from sampan.scheduler.nodes import Nodes, NodeState
from sampan.scheduler.relations import Constraint

from . import node_affinity, taint_toleration

HOSTNAME = "kubernetes.io/hostname"
SKEWED = "node(s) didn't match pod topology spread constraints"
MISSING = "node(s) didn't match pod topology spread constraints (missing required label)"


def included(constraint: Constraint, guest: Guest, node: NodeState) -> bool:
    """Do the constraint's policies count this node?"""
    if constraint.honor_affinity and node_affinity.reasons(guest.demand, node):
        return False
    return not (constraint.honor_taints and taint_toleration.reasons(guest.demand, node))


def counts(constraint: Constraint, guest: Guest, other: Guest) -> bool:
    """Is `other` one of the pods to spread? Those that are being deleted are not."""
    return (
        other.namespace == guest.namespace
        and not other.leaving
        and constraint.selector.matches(other.labels)
    )


def least_of(domains: int, least: int, constraint: Constraint) -> int:
    """The count of the emptiest domain; with fewer than minDomains there is an empty one."""
    return 0 if domains < constraint.min_domains else least


class State:
    """Pods per domain of each hard constraint; soft ones are counted when scores are asked for."""

    def __init__(self, guest: Guest, nodes: Nodes) -> None:
        self.guest = guest
        self.nodes = nodes
        hard = guest.relations.hard
        self.domains: list[dict[str, int]] = [{} for _ in hard]
        self.eligible: list[set[str]] = [set() for _ in hard]
        for node in nodes.by_name.values():
            if not has_keys(hard, node):
                continue
            for number, item in enumerate(hard):
                if included(item, guest, node):
                    self.eligible[number].add(node.name)
                    self.domains[number].setdefault(node.labels[item.topology_key], 0)
            for other in node.pods.values():
                self.count(other, node, 1)

    def count(self, other: Guest, node: NodeState, sign: int) -> None:
        for number, item in enumerate(self.guest.relations.hard):
            if node.name in self.eligible[number] and counts(item, self.guest, other):
                self.domains[number][node.labels[item.topology_key]] += sign


def has_keys(constraints: Sequence[Constraint], node: NodeState) -> bool:
    return all(item.topology_key in node.labels for item in constraints)


def prepare(guest: Guest, nodes: Nodes) -> State | None:
    return State(guest, nodes) if guest.relations.hard or guest.soft else None


def reasons(state: State, node: NodeState) -> tuple[str, bool]:
    """(why not, "" when it fits; whether evicting pods is of no help)."""
    for number, item in enumerate(state.guest.relations.hard):
        value = node.labels.get(item.topology_key)
        if value is None:
            return MISSING, True
        domains = state.domains[number]
        least = least_of(len(domains), min(domains.values(), default=0), item)
        itself = item.selector.matches(state.guest.labels)
        if domains.get(value, 0) + itself - least > item.max_skew:
            return SKEWED, False
    return "", False


def points(state: State, fitting: Sequence[NodeState]) -> list[int]:
    """0 to 100 for each fitting node: fewer matching pods in its domains is more."""
    guest, soft = state.guest, state.guest.soft
    if not soft:
        return [0] * len(fitting)
    every = bool(guest.relations.soft)
    scored = [node for node in fitting if not every or has_keys(soft, node)]
    if not scored:
        return [0] * len(fitting)
    sums = {node.name: 0.0 for node in scored}
    for item in soft:
        key = item.topology_key
        tally: dict[str, int] = {}
        values = {node.labels[key] for node in scored if key in node.labels}
        for node in state.nodes.by_name.values():
            value = node.labels.get(key)
            if value not in values or (every and not has_keys(soft, node)):
                continue
            if key == HOSTNAME or included(item, guest, node):
                tally[value] = tally.get(value, 0) + sum(
                    counts(item, guest, other) for other in node.pods.values()
                )
        weight = weight_of(len(scored) if key == HOSTNAME else len(values))
        for node in scored:
            if key in node.labels:
                found = tally.get(node.labels[key], 0)
                sums[node.name] += found * weight + (item.max_skew - 1)
    rounded = {name: math.floor(value + 0.5) for name, value in sums.items()}
    least, most = min(rounded.values()), max(rounded.values())
    return [
        0
        if node.name not in rounded
        else 100
        if most == 0
        else 100 * (most + least - rounded[node.name]) // most
        for node in fitting
    ]


def weight_of(domains: int) -> float:
    """More domains make each of them count more (upstream's topologyNormalizingWeight)."""
    return math.log(domains + 2)
