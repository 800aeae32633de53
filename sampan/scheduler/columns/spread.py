"""PodTopologySpread over all nodes: as `plugins/pod_topology_spread.py`, which says why."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sampan.scheduler.guest import Guest
from sampan.scheduler.plugins.pod_topology_spread import (
    HOSTNAME,
    counts,
    included,
    least_of,
    weight_of,
)
from sampan.scheduler.relations import Constraint

from .board import Board, Floats, Ints, Mask, spread_out


def filter_nodes(board: Board, guest: Guest, mask: Mask) -> None:
    """Clear the nodes that do not fit, in place."""
    hard = guest.relations.hard
    if not hard:
        return
    keys = _have_keys(board, hard)
    mask &= keys
    for item in hard:
        numbers, count = board.domains(item.topology_key)
        eligible = keys & _included(board, guest, item)
        sums = np.bincount(numbers, weights=_matching(board, guest, item) * eligible,
                           minlength=count).astype(np.int64)  # fmt: skip
        present = np.bincount(numbers[eligible], minlength=count) > 0
        domains = int(present.sum())
        least = least_of(domains, int(sums[present].min()) if domains else 0, item)
        itself = item.selector.matches(guest.labels)
        mask &= sums[numbers] + itself - least <= item.max_skew


def points(board: Board, guest: Guest, mask: Mask) -> Floats:
    """0 to 100 for the nodes of the mask, of which there is one at least."""
    soft, every = guest.soft, bool(guest.relations.soft)
    nothing: Floats = np.zeros(len(board.names), np.float64)
    if not soft:
        return nothing
    keys = _have_keys(board, soft)
    scored = mask & keys if every else mask
    number = int(scored.sum())
    if not number:
        return nothing
    sums = nothing.copy()
    for item in soft:
        numbers, count = board.domains(item.topology_key)
        matching = _matching(board, guest, item)
        if every:
            matching = matching * keys
        if item.topology_key == HOSTNAME:
            weight = weight_of(number)
        else:
            matching = matching * _included(board, guest, item)
            seen = np.bincount(numbers[scored], minlength=count)[1:]
            weight = weight_of(int((seen > 0).sum()))
        found = spread_out(matching, numbers, count)
        sums += np.where(numbers > 0, found * weight + (item.max_skew - 1), 0.0)
    rounded: Ints = np.floor(sums + 0.5).astype(np.int64)
    fitting = rounded[scored]
    least, most = int(fitting.min()), int(fitting.max())
    if most == 0:
        return np.where(scored, 100.0, 0.0)
    return np.where(scored, 100 * (most + least - rounded) // most, 0).astype(np.float64)


def _have_keys(board: Board, constraints: Sequence[Constraint]) -> Mask:
    mask: Mask = np.ones(len(board.names), bool)
    for item in constraints:
        mask &= board.domains(item.topology_key)[0] > 0
    return mask


def _included(board: Board, guest: Guest, item: Constraint) -> Mask:
    """The nodes the constraint's policies count: the same for all pods of the shape."""
    scopes = board.single(guest).scopes
    key = (item.honor_affinity, item.honor_taints)
    found = scopes.get(key)
    if found is None:
        found = scopes[key] = board.mask(lambda node: included(item, guest, node))
    return found


def _matching(board: Board, guest: Guest, item: Constraint) -> Ints:
    return board.tally(
        ("spread", guest.namespace, item.selector), lambda other: int(counts(item, guest, other))
    )
