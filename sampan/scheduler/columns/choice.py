"""The best node for a pod that other pods matter to: all nodes at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sampan.scheduler.guest import Guest
from sampan.scheduler.nodes import NodeState
from sampan.scheduler.verdict import is_free

from . import affinity, spread
from .board import Board, Floats, Mask


class Column(NamedTuple):
    filter_nodes: Callable[[Board, Guest, Mask], None]
    points: Callable[[Board, Guest, Mask], Floats]


COLUMNS = {
    "PodTopologySpread": Column(spread.filter_nodes, spread.points),
    "InterPodAffinity": Column(affinity.filter_nodes, affinity.points),
}


def best(board: Board, guest: Guest) -> NodeState | None:
    """As `verdict.choose`."""
    board.refresh()
    if not board.names:
        return None
    # Pods with claims are not chosen for here (`shapes.py`).
    related = [item for item in guest.profile.relations if item.name in COLUMNS]
    single = board.single(guest)
    mask = single.fit.copy()
    for relation in related:
        if relation.filters:
            COLUMNS[relation.name].filter_nodes(board, guest, mask)
        if not mask.any():
            return None
    for name in board.nodes.nominated:
        slot = board.slots.get(name)
        if slot is not None and mask[slot]:
            mask[slot] = is_free(guest, board.state(slot), board.nodes)
    if not mask.any():
        return None
    totals = single.score.copy()
    for relation in related:
        totals += relation.weight * COLUMNS[relation.name].points(board, guest, mask)
    totals[~mask] = -np.inf
    # The first of equals, and nodes stand in the order of their names.
    return board.state(int(totals.argmax()))
