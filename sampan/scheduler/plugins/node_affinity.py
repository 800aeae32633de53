"""NodeAffinity: spec.nodeSelector, and what node affinity requires and prefers."""

from __future__ import annotations

from collections.abc import Mapping

from sampan.api.errors import Object
from sampan.scheduler.demand import Demand
from sampan.scheduler.nodes import NodeState

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
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
    required = affinity.get(REQUIRED)
    if not required:
        return True
    terms = required.get("nodeSelectorTerms") or ()
    return any(term_matches(term, name, labels) for term in terms)


def term_matches(term: Object, name: str, labels: Mapping[str, str]) -> bool:
    """All expressions and fields of a term; an empty term matches nothing."""
    expressions = term.get("matchExpressions") or ()
    fields = term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(matches(item, labels) for item in expressions) and all(
        item.get("key") == "metadata.name" and matches(item, {"metadata.name": name})
        for item in fields
    )


def matches(expression: Object, labels: Mapping[str, str]) -> bool:
    key, operator = expression["key"], expression["operator"]
    values: list[str] = expression.get("values") or []
    found = labels.get(key)
    if operator == "In":
        return found is not None and found in values
    if operator == "NotIn":
        return found is None or found not in values
    if operator == "Exists":
        return found is not None
    if operator == "DoesNotExist":
        return found is None
    try:
        number, bound = int(found or ""), int(values[0])
    except (ValueError, IndexError):
        return False
    return number > bound if operator == "Gt" else number < bound


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
