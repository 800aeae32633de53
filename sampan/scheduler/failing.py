"""What becomes of a pod that fits nowhere: why, who could leave for it, and what would help it.

Pods of one kind fail for the same reasons, so as long as nothing has changed the answer for the
first is the answer for all (`_known`, emptied with every change: it never holds more than the kinds
that were tried since).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from msgspec import Struct

from .demand import Demand
from .extended import is_extended
from .guest import Guest
from .nodes import Nodes, NodeState
from .plugins import RELATIONS
from .preemption import Plan, Surroundings, plan
from .profile import Profile
from .verdict import States, Verdict, explain, histogram, prepare, stop_of, verdicts_of

NEVER = "not eligible due to preemptionPolicy=Never."
LEAVING = "not eligible due to a terminating pod on the nominated node."
UNDER_WAY = "waiting for the preemption for this pod to be finished"
VOLUMES = frozenset({"VolumeBinding", "VolumeZone", "VolumeRestrictions", "NodeVolumeLimits"})
DEVICES = frozenset({"DynamicResources"})
EXTENDER = "Extender"
"""Stands for whom we ask over HTTP: nobody knows what would change its mind."""
RELATED = frozenset(item.name for item in RELATIONS) - {"VolumeBinding", "VolumeZone"} - DEVICES


@dataclasses.dataclass(frozen=True, slots=True)
class Stuck:
    """Pods that wait for the same: what `queue.Queue.wake` asks about."""

    shape: bytes
    plugins: frozenset[str]
    """Whose filters failed, on any node."""
    priority: int
    profile: Profile
    demand: Demand = dataclasses.field(compare=False)


class Failure(Struct, frozen=True):
    text: str
    stuck: Stuck
    plan: Plan
    waits: bool = False
    """Others are leaving for this pod already: its nomination stays."""


class Situation(NamedTuple):
    """Where a pod stands that fits nowhere."""

    states: States
    verdicts: dict[str, Verdict]
    why: str
    """Why it may send nobody away now."""
    may_preempt: bool


class Failing:
    def __init__(self, nodes: Nodes, around: Callable[[], Surroundings]) -> None:
        self._nodes = nodes
        self.around = around
        self._known: dict[Hashable, Failure] = {}
        self._stamp: Hashable = None
        self.preempting: set[str] = set()
        """Uids of pods for which others are being sent away."""

    def forget(self) -> None:
        """Budgets have changed."""
        self._known.clear()

    def look(self, guest: Guest) -> Failure:
        nodes = self._nodes
        stamp = nodes.position, nodes.layout, nodes.nominations
        if stamp != self._stamp:
            self._stamp = stamp
            self._known.clear()
        if guest.is_alone:
            # What its claims lack changes without a node that does.
            return self._look(guest)
        alone = guest.nominated or guest.uid in self.preempting
        key = (
            guest.uid if alone else "",
            guest.demand.shape,
            guest.profile,
            guest.priority,
            guest.preempts,
            guest.relations,
            (guest.namespace, *guest.labels.items())
            if nodes.held or guest.relations.held or guest.relations.hard
            else (),
        )
        found = self._known.get(key)
        if found is None:
            found = self._look(guest)
            if not found.plan.node:
                self._known[key] = found
        return found

    def _look(self, guest: Guest) -> Failure:
        found = self.situation(guest)
        result = Plan()
        if found.may_preempt:
            result = plan(guest, self._nodes, found.verdicts, found.states, self.around())
        return self.conclude(guest, found, result)

    def situation(
        self, guest: Guest, told: Mapping[str, Verdict] = MappingProxyType({})
    ) -> Situation:
        """Why no node fits; `told` is what others say of nodes that fit by our own filters."""
        nodes = self._nodes
        states = prepare(guest, nodes)
        verdicts = verdicts_of(guest, nodes, states)
        for name, verdict in told.items():
            if name in nodes.by_name:
                verdicts.setdefault(name, verdict)
        why = self._ineligible(guest)
        return Situation(states, verdicts, why, not why and guest.profile.preempts)

    def conclude(self, guest: Guest, found: Situation, result: Plan) -> Failure:
        """`result` is whom it may send away."""
        count, why = len(self._nodes.by_name), found.why
        if found.may_preempt and not result.node:
            why = result.why or f"0/{count} nodes are available: {histogram(result.reasons)}."
        stuck = Stuck(
            guest.demand.shape,
            frozenset(item.plugin for item in found.verdicts.values()),
            guest.priority,
            guest.profile,
            guest.demand,
        )
        return Failure(
            explain(found.verdicts, count, stop_of(found.states), why),
            stuck,
            result,
            why in (LEAVING, UNDER_WAY),
        )

    def _ineligible(self, guest: Guest) -> str:
        """Why this pod may send nobody away now."""
        if not guest.preempts:
            return NEVER
        if guest.uid in self.preempting:
            return UNDER_WAY
        home = self._nodes.by_name.get(guest.nominated)
        if home is not None and any(
            other.leaving and other.priority < guest.priority for other in home.pods.values()
        ):
            return LEAVING
        return ""


# What helps: upstream's queueing hints.


def node_helps(stuck: Stuck, node: NodeState, moved: bool) -> bool:
    """A node came or changed; `moved` when its labels or taints did, which counts for others."""
    if moved and stuck.plugins & RELATED:
        return True
    return stuck.profile.fits(stuck.demand, node)


def leaving_helps(stuck: Stuck, node: NodeState | None) -> bool:
    """A pod left this node, or the place kept for one is free."""
    if stuck.plugins & RELATED:
        return True
    return node is not None and (
        stuck.profile.fits(stuck.demand, node)
        or any(other.priority < stuck.priority for other in node.pods.values())
    )


def claims_help(stuck: Stuck) -> bool:
    """A claim, a volume or a class came or changed."""
    return bool(VOLUMES & stuck.plugins)


def devices_help(stuck: Stuck) -> bool:
    """A device claim, a slice or a class came, changed or went."""
    return bool(DEVICES & stuck.plugins) or any(map(is_extended, stuck.demand.requests))


def coming_helps(stuck: Stuck) -> bool:
    """A pod was placed, or its labels changed, or those of a namespace."""
    return bool(stuck.plugins & RELATED)


def any_for_extenders(helps: Callable[[Stuck], bool]) -> Callable[[Stuck], bool]:
    """`helps`, and whatever happens for those whom an extender refused."""
    return lambda stuck: EXTENDER in stuck.plugins or helps(stuck)
