"""Finding the best node for pods of the same shape without looking at every node each time.

For each shape a heap holds the fitting nodes by score. Placing a pod changes one node, so only that
node's entry is redone: the cost per pod is the logarithm of the nodes, not their number. Entries
are replaced lazily: each node has a stamp per shape, and an entry with an old stamp is skipped.

At most `SHAPES` shapes are kept, the least recently used is dropped; a dropped one is rebuilt when
it comes again, at the price of one look at every node.

Pods that other pods matter to (affinity, anti-affinity, topology spread, and those whom others'
anti-affinity means) are chosen for in `columns/`; only they load NumPy.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import TYPE_CHECKING

from .guest import Guest
from .nodes import Nodes, NodeState
from .verdict import choose, is_free, judge, prepare

if TYPE_CHECKING:
    from .columns.board import Board

SHAPES = 64

Entry = tuple[float, str, int]
"""(-score, node name, stamp)"""


class Shape:
    """The fitting nodes of one shape, best first."""

    def __init__(self, guest: Guest, nodes: Nodes) -> None:
        self._profile, self._demand = guest.profile, guest.demand
        self._nodes = nodes
        self._heap: list[Entry] = []
        self._stamps: dict[str, int] = {}
        self._stamp = 0
        self._seen = -1
        self._images = 0

    def best(self, guest: Guest) -> NodeState | None:
        self._catch_up()
        heap, nodes = self._heap, self._nodes
        aside: list[Entry] = []
        found = None
        while heap:
            entry = heap[0]
            _, name, stamp = entry
            if self._stamps.get(name) == stamp:
                if not nodes.nominated or is_free(guest, nodes.by_name[name], nodes):
                    found = nodes.by_name[name]
                    break
                aside.append(entry)
            heapq.heappop(heap)
        for entry in aside:
            heapq.heappush(heap, entry)
        return found

    def _catch_up(self) -> None:
        nodes = self._nodes
        if self._seen < nodes.log_start or self._images != nodes.images_of(self._demand.images):
            self._images = nodes.images_of(self._demand.images)
            self._heap, self._stamps = [], {}
            for name in nodes.by_name:
                self._renew(name)
        else:
            for name in dict.fromkeys(nodes.log[self._seen - nodes.log_start :]):
                self._renew(name)
        self._seen = nodes.position
        if len(self._heap) > 4 * len(self._stamps) + 64:
            self._compact()

    def _renew(self, name: str) -> None:
        node = self._nodes.by_name.get(name)
        if node is None or not self._profile.fits(self._demand, node):
            self._stamps.pop(name, None)
            return
        # Stamps are never used twice, so an entry of a node that went and came is stale for good.
        self._stamp += 1
        self._stamps[name] = self._stamp
        heapq.heappush(self._heap, (-self._profile.score(self._demand, node), name, self._stamp))

    def _compact(self) -> None:
        self._heap = [item for item in self._heap if self._stamps.get(item[1]) == item[2]]
        heapq.heapify(self._heap)


class Shapes:
    """The shapes in use, by name."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._shapes: OrderedDict[tuple[str, bytes], Shape] = OrderedDict()
        self._board: Board | None = None

    def best(self, guest: Guest) -> NodeState | None:
        """As `verdict.choose`."""
        nodes = self._nodes
        if guest.is_alone:
            return choose(guest, nodes)
        own = nodes.by_name.get(guest.nominated)
        if own is not None and judge(guest, own, prepare(guest, nodes), nodes) is None:
            return own
        if self._is_related(guest):
            from .columns.board import Board
            from .columns.choice import best

            if self._board is None:
                self._board = Board(nodes)
            return best(self._board, guest)
        key = guest.profile.name, guest.demand.shape
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = Shape(guest, nodes)
            if len(self._shapes) > SHAPES:
                self._shapes.popitem(last=False)
        else:
            self._shapes.move_to_end(key)
        return shape.best(guest)

    def _is_related(self, guest: Guest) -> bool:
        relations, nodes = guest.relations, self._nodes
        if relations.hard or relations.affinity or relations.anti:
            return True
        if nodes.felt(guest):
            return True
        # Preferences choose between nodes; of one there is no choice.
        return bool(guest.soft or relations.preferred) and len(nodes.by_name) > 1

    def namespaces_changed(self) -> None:
        """Namespaces have other labels: selectors of namespaces select others."""
        if self._board is not None:
            self._board.forget()
