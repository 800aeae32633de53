"""NodeAffinity: spec.nodeSelector, and what node affinity requires and prefers."""

from __future__ import annotations

from collections.abc import Mapping

from sampan.api.errors import Object
from sampan.api.placement import REQUIRED, any_term_matches, term_matches
from sampan.scheduler.demand import Demand
from sampan.scheduler.nodes import NodeState

PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def reasons(demand: Demand, node: NodeState) -> list[str]:
    if selects(demand.node_selector, demand.affinity, node.name, node.labels):
        return []
    return ["node(s) didn't match Pod's node affinity/selector"]


def restricts(demand: Demand) -> bool:
    return bool(demand.node_selector or demand.affinity.get(REQUIRED))


def prefers(demand: Demand) -> bool:
    return bool(demand.affinity.get(PREFERRED))


def selects(
    selector: Mapping[str, str], affinity: Object, name: str, labels: Mapping[str, str]
) -> bool:
    """Does a node match both the selector and the required terms (any of them)?"""
    for key, value in selector.items():
        if labels.get(key) != value:
            return False
    return any_term_matches(affinity.get(REQUIRED), name, labels)


def points(demand: Demand, node: NodeState) -> float:
    """The share of the preferred weight that the node matches."""
    preferred = demand.affinity.get(PREFERRED)
    if not preferred:
        return 0.0
    total = sum(item["weight"] for item in preferred)
    won = sum(
        item["weight"]
        for item in preferred
        if term_matches(item.get("preference") or {}, node.name, node.labels)
    )
    return 100.0 * won / total if total else 0.0
