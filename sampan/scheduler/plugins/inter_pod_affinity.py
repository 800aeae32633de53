"""InterPodAffinity: near pods that are asked for, away from others, and from those who keep others
away (symmetry). The definition; `columns/affinity.py` computes the same over all nodes at once.

Counted are, for each topology key and value, the pods a term selects there: per own required term
those that match all of them, per own anti-affinity term those it selects, and the holders of terms
that keep this pod away. As upstream, a pod that matches its own required terms may be the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from sampan.scheduler.guest import Guest
from sampan.scheduler.nodes import Nodes, NodeState
from sampan.scheduler.relations import Held, Term

AFFINITY = "node(s) didn't match pod affinity rules"
ANTI = "node(s) didn't match pod anti-affinity rules"
EXISTING = "node(s) didn't satisfy existing pods anti-affinity rules"

Place = tuple[str, str]
"""(topology key, its value)."""


def concerns(guest: Guest, nodes: Nodes) -> bool:
    """Has the pod, or any placed pod, such a term?"""
    relations = guest.relations
    return bool(nodes.held or relations.affinity or relations.anti or relations.preferred)


def felt(guest: Guest, nodes: Nodes) -> list[Held]:
    """The terms of placed pods that select this one."""
    return [
        item
        for item in nodes.held
        if item.term.selects(guest.namespace, guest.labels, nodes.namespaces)
    ]


class State:
    """What was counted for one pod; `count` takes a pod out again, or another in."""

    def __init__(self, guest: Guest, nodes: Nodes) -> None:
        self.guest = guest
        self.namespaces = nodes.namespaces
        self.affinity: Counter[Place] = Counter()
        self.anti: Counter[Place] = Counter()
        self.existing: Counter[Place] = Counter()
        self.weights: Counter[Place] = Counter()
        self._felt = {*felt(guest, nodes)}
        for node in nodes.by_name.values():
            for other in node.pods.values():
                self.count(other, node, 1)

    def count(self, other: Guest, node: NodeState, sign: int) -> None:
        relations = self.guest.relations
        if relations.affinity and matches_all(relations.affinity, other, self.namespaces):
            for term in relations.affinity:
                self._add(self.affinity, term, node, sign)
        for term in relations.anti:
            if self._selects(term, other):
                self._add(self.anti, term, node, sign)
        for weight, term in relations.preferred:
            if self._selects(term, other):
                self._add(self.weights, term, node, sign * weight)
        for item in other.relations.held if self._felt else ():
            if item in self._felt:
                if item.weight is None:
                    self._add(self.existing, item.term, node, sign)
                else:
                    weight = item.weight or self.guest.profile.required_weight
                    self._add(self.weights, item.term, node, sign * weight)

    def _selects(self, term: Term, other: Guest) -> bool:
        return term.selects(other.namespace, other.labels, self.namespaces)

    @staticmethod
    def _add(counts: Counter[Place], term: Term, node: NodeState, amount: int) -> None:
        value = node.labels.get(term.topology_key)
        if value is not None:
            counts[term.topology_key, value] += amount


def matches_all(terms: Iterable[Term], other: Guest, namespaces: object) -> bool:
    return all(
        term.selects(other.namespace, other.labels, namespaces)  # type: ignore[arg-type]
        for term in terms
    )


def prepare(guest: Guest, nodes: Nodes) -> State | None:
    return State(guest, nodes) if concerns(guest, nodes) else None


def passes_over(guest: Guest) -> bool:
    """ignorePreferredTermsOfExistingPods: a pod without preferences is not told of others'."""
    return guest.profile.ignores_preferences and not guest.relations.preferred


def reasons(state: State, node: NodeState) -> tuple[str, bool]:
    """(why not, "" when it fits; whether evicting pods is of no help)."""
    relations, labels = state.guest.relations, node.labels
    if relations.affinity:
        met = True
        for term in relations.affinity:
            value = labels.get(term.topology_key)
            if value is None:
                return AFFINITY, True
            met = met and state.affinity[term.topology_key, value] > 0
        if not met and not (
            not any(state.affinity.values())
            and matches_all(relations.affinity, state.guest, state.namespaces)
        ):
            return AFFINITY, True
    if any(state.anti[place] > 0 for place in _places(relations.anti, node)):
        return ANTI, False
    if state.existing and any(state.existing[item] > 0 for item in labels.items()):
        return EXISTING, False
    return "", False


def _places(terms: Iterable[Term], node: NodeState) -> list[Place]:
    return [
        (term.topology_key, node.labels[term.topology_key])
        for term in terms
        if term.topology_key in node.labels
    ]


def points(state: State, fitting: Sequence[NodeState]) -> list[int]:
    """0 to 100 for each fitting node: the sum of weights in its places, stretched."""
    if passes_over(state.guest):
        return [0] * len(fitting)
    sums = [
        sum(state.weights[item] for item in node.labels.items()) if state.weights else 0
        for node in fitting
    ]
    least, most = min(sums), max(sums)
    if least == most:
        return [0] * len(sums)
    return [int(100.0 * ((value - least) / (most - least))) for value in sums]
