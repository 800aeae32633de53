"""DefaultPreemption: which less important pods must go so that one that fits nowhere fits. Pure.

On each node that could be helped all less important pods are thought away; if the pod then fits,
they are given back one by one, those that a disruption budget protects first and the most important
first, as long as it still fits. What cannot be given back is the node's price; the cheapest node is
taken. Terms and order are upstream's (KEP-564's successor, scheduling/preemption).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct, field

from sampan.api.errors import Object
from sampan.api.selectors import from_label_selector

from .guest import Guest
from .nodes import Nodes, NodeState, add_guest, remove_guest, without
from .verdict import NO_VICTIMS, NOT_HELPFUL, States, Verdict, judge


class Price(NamedTuple):
    """What a node costs; less is better, field by field."""

    violations: int
    highest_priority: int
    priorities: int
    victims: int
    newest: tuple[int, ...]
    """Of the most important victims the one that has run longest, later is better: its time's
    characters, negated, so that everything compares one way."""
    name: str


class Plan(Struct):
    """The node and who must leave it; or why no node can be made to fit."""

    node: str = ""
    victims: list[Guest] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    why: str = ""
    """Why nothing came of it, where that is no matter of nodes."""


class Surroundings(Struct, frozen=True):
    """What else matters: the budgets, and when pods started (their status.startTime)."""

    budgets: Sequence[Object] = ()
    started: Callable[[Guest], str] = lambda guest: ""


class Candidate(NamedTuple):
    """A node that the pod would fit once its victims are gone."""

    node: str
    victims: list[Guest]
    violations: int
    """Victims whose going is against a budget."""


def plan(
    guest: Guest,
    nodes: Nodes,
    verdicts: Mapping[str, Verdict],
    states: States,
    around: Surroundings,
) -> Plan:
    """`verdicts` and `states` are why the pod fits no node. `states` are left as they were."""
    result = Plan()
    found = candidates_of(guest, verdicts, Trial(nodes, states, around), result.reasons)
    chosen = cheapest(found, nodes, around)
    if chosen is not None:
        result.node, result.victims = chosen.node, chosen.victims
    return result


def candidates_of(
    guest: Guest, verdicts: Mapping[str, Verdict], trial: Trial, reasons: Counter[str]
) -> Iterator[Candidate]:
    """By the names of nodes. `reasons` are counted up: why others can not be made to fit."""
    by_name, started = trial.nodes.by_name, trial.around.started
    least, percentage = guest.profile.shortlist
    enough = max(least, len(by_name) * percentage // 100, 1)
    for name in sorted(verdicts):
        if verdicts[name].helpless:
            reasons[NOT_HELPFUL] += 1
            continue
        if not enough:
            break
        node = by_name[name]
        lesser = [other for other in node.pods.values() if other.priority < guest.priority]
        if not lesser:
            reasons[NO_VICTIMS] += 1
            continue
        lesser.sort(key=lambda other: (-other.priority, started(other) or "~", other.uid))
        found = _victims(guest, node, lesser, trial)
        if isinstance(found, Verdict):
            reasons.update(found.reasons)
            continue
        enough -= 1
        yield Candidate(name, *found)


def cheapest(
    candidates: Iterable[Candidate], nodes: Nodes, around: Surroundings
) -> Candidate | None:
    return min(
        candidates,
        key=lambda item: _price(nodes.by_name[item.node], item.victims, item.violations, around),
        default=None,
    )


class Trial(NamedTuple):
    nodes: Nodes
    states: States
    around: Surroundings


def _victims(
    guest: Guest, node: NodeState, lesser: list[Guest], trial: Trial
) -> tuple[list[Guest], int] | Verdict:
    """(who must go, how many of them against a budget), or what stands against it still."""
    nodes, states = trial.nodes, trial.states
    thought = without(node, {other.uid for other in lesser})
    gone = {other.uid: other for other in lesser}
    _count(states, lesser, node, -1)
    verdict = judge(guest, thought, states, nodes)
    victims: list[Guest] = []
    violations = 0
    if verdict is None:
        protected, free = split_by_budgets(lesser, trial.around.budgets)
        for group in (protected, free):
            for other in group:
                add_guest(thought, other)
                _count(states, [other], node, 1)
                if judge(guest, thought, states, nodes) is None:
                    del gone[other.uid]
                    continue
                remove_guest(thought, other)
                _count(states, [other], node, -1)
                victims.append(other)
                violations += group is protected
    _count(states, [*gone.values()], node, 1)
    if verdict is not None:
        return verdict
    victims.sort(key=lambda other: -other.priority)
    return victims, violations


def _count(states: States, guests: Sequence[Guest], node: NodeState, sign: int) -> None:
    for _, state in states:
        for other in guests:
            state.count(other, node, sign)


def split_by_budgets(
    guests: Sequence[Guest], budgets: Sequence[Object]
) -> tuple[list[Guest], list[Guest]]:
    """(those whose going would violate a budget, the others), in the order given. A budget's
    disruptionsAllowed is used up one by one; pods it knows to be going cost nothing."""
    allowed = [(item.get("status") or {}).get("disruptionsAllowed") or 0 for item in budgets]
    selectors = [from_label_selector(item["spec"].get("selector")) for item in budgets]
    protected: list[Guest] = []
    free: list[Guest] = []
    for guest in guests:
        violates = False
        for number, item in enumerate(budgets):
            if item["metadata"].get("namespace") != guest.namespace or not guest.labels:
                continue
            if selectors[number].everything or not selectors[number].matches(guest.labels):
                continue
            if guest.name in ((item.get("status") or {}).get("disruptedPods") or {}):
                continue
            allowed[number] -= 1
            violates = violates or allowed[number] < 0
        (protected if violates else free).append(guest)
    return protected, free


def _price(node: NodeState, victims: list[Guest], violations: int, around: Surroundings) -> Price:
    highest = max((other.priority for other in victims), default=-(1 << 31))
    earliest = min(
        (around.started(other) for other in victims if other.priority == highest), default=""
    )
    return Price(
        violations,
        highest,
        sum(other.priority + (1 << 31) for other in victims),
        len(victims),
        tuple(-ord(letter) for letter in earliest),
        node.name,
    )
