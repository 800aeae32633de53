"""Arrays over nodes: pods per node that match something, domains, and what single nodes say.

Everything is redone when the nodes themselves change (`Nodes.layout`); a pod that comes or goes
changes one element of the tallies that count it. Bounds: `TALLIES` tallies and `SHAPES` shapes, the
least recently used go first, and are counted afresh when they are asked for again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sampan.scheduler.guest import Guest
from sampan.scheduler.nodes import Nodes, NodeState
from sampan.scheduler.relations import Relations

TALLIES = 256
SHAPES = 64
REMEMBERED = 4096
"""Sets of labels whose tallies are remembered."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Amount = Callable[[Guest], int]


class Single:
    """What each node says by itself of one shape: does it fit, and how well."""

    def __init__(self, board: Board, guest: Guest) -> None:
        self._board = board
        self._profile, self._demand = guest.profile, guest.demand
        count = len(board.names)
        self.fit: Mask = np.zeros(count, bool)
        self.score: Floats = np.zeros(count, np.float64)
        self._seen = -1
        self._images = 0
        self.scopes: dict[Hashable, Mask] = {}
        """Masks of nodes that depend on nothing but the shape, for whoever needs them."""

    def catch_up(self) -> None:
        nodes = self._board.nodes
        images = nodes.images_of(self._demand.images)
        if self._seen < nodes.log_start or self._images != images:
            self._images = images
            changed = self._board.names
        else:
            changed = [*dict.fromkeys(nodes.log[self._seen - nodes.log_start :])]
        self._seen = nodes.position
        for name in changed:
            node = nodes.by_name.get(name)
            if node is None:
                continue
            slot = self._board.slots[name]
            self.fit[slot] = fitting = self._profile.fits(self._demand, node)
            self.score[slot] = self._profile.score(self._demand, node) if fitting else 0.0


class Tally:
    """For each node, the sum of `amount` over its pods."""

    def __init__(self, amount: Amount, count: int) -> None:
        self.amount = amount
        self.counts: Ints = np.zeros(count, np.int64)


class Board:
    """All arrays. `refresh` before each use."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self.names: list[str] = []
        self.slots: dict[str, int] = {}
        self.layout = -1
        self._states: list[NodeState] = []
        self._tallies: OrderedDict[Hashable, Tally] = OrderedDict()
        self._singles: OrderedDict[tuple[str, bytes], Single] = OrderedDict()
        self._domains: dict[str, tuple[Ints, int]] = {}
        # Which tallies count pods of these labels: most pods are copies of few templates.
        # The relations are kept so that no other object takes the identity the key names.
        self._counted: dict[Hashable, tuple[Relations, list[tuple[Tally, int]]]] = {}
        nodes.watch = self._on_pod

    def refresh(self) -> None:
        """Start over if nodes have come, gone or been labelled since."""
        if self.layout == self.nodes.layout:
            return
        self.layout = self.nodes.layout
        self.names = sorted(self.nodes.by_name)
        self.slots = {name: slot for slot, name in enumerate(self.names)}
        self._states = [self.nodes.by_name[name] for name in self.names]
        self.forget()
        self._singles.clear()
        self._domains.clear()

    def forget(self) -> None:
        """Count everything afresh: what selectors select has changed (labels of namespaces)."""
        self._tallies.clear()
        self._counted.clear()

    def state(self, slot: int) -> NodeState:
        return self._states[slot]

    def single(self, guest: Guest) -> Single:
        key = guest.profile.name, guest.demand.shape
        found = self._singles.get(key)
        if found is None:
            found = self._singles[key] = Single(self, guest)
            if len(self._singles) > SHAPES:
                self._singles.popitem(last=False)
        else:
            self._singles.move_to_end(key)
        found.catch_up()
        return found

    def domains(self, key: str) -> tuple[Ints, int]:
        """(the number of each node's domain by this label, 0 without it; how many numbers)."""
        found = self._domains.get(key)
        if found is None:
            numbers: dict[str, int] = {}
            values = (node.labels.get(key) for node in self._states)
            column = np.array(
                [0 if v is None else numbers.setdefault(v, len(numbers) + 1) for v in values],
                np.int64,
            )
            found = self._domains[key] = column, len(numbers) + 1
        return found

    def mask(self, test: Callable[[NodeState], bool]) -> Mask:
        return np.array([test(node) for node in self._states], bool)

    def tally(self, key: Hashable, amount: Amount) -> Ints:
        """The sums of `amount` per node; `key` names the amount. It must depend on nothing but a
        pod's namespace, labels, relations and whether it is leaving."""
        found = self._tallies.get(key)
        if found is None:
            found = self._tallies[key] = Tally(amount, len(self.names))
            known: dict[Hashable, int] = {}
            for slot, node in enumerate(self._states):
                for guest in node.pods.values():
                    kind = _kind(guest)
                    value = known.get(kind)
                    if value is None:
                        value = known[kind] = amount(guest)
                    found.counts[slot] += value
            self._counted.clear()
            if len(self._tallies) > TALLIES:
                self._tallies.popitem(last=False)
        else:
            self._tallies.move_to_end(key)
        return found.counts

    def _on_pod(self, guest: Guest, name: str, sign: int) -> None:
        if self.layout != self.nodes.layout or not self._tallies:
            return
        kind = _kind(guest)
        counted = self._counted.get(kind)
        if counted is None:
            if len(self._counted) >= REMEMBERED:
                self._counted.clear()
            amounts = ((tally, tally.amount(guest)) for tally in self._tallies.values())
            counted = guest.relations, [(tally, value) for tally, value in amounts if value]
            self._counted[kind] = counted
        slot = self.slots[name]
        for tally, value in counted[1]:
            tally.counts[slot] += sign * value


def _kind(guest: Guest) -> Hashable:
    """All that amounts depend on."""
    return (
        guest.namespace,
        tuple(guest.labels.items()),
        guest.leaving,
        id(guest.relations) if guest.relations.held else 0,
    )


def spread_out(values: Any, numbers: Ints, count: int) -> Ints:
    """Per node, the sum of `values` over its domain; meaningless where the number is 0."""
    sums = np.bincount(numbers, weights=values, minlength=count)
    return sums.astype(np.int64)[numbers]
