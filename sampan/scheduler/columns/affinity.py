"""InterPodAffinity over all nodes: as `plugins/inter_pod_affinity.py`, which says why."""

from __future__ import annotations

import numpy as np

from sampan.scheduler.guest import Guest
from sampan.scheduler.plugins.inter_pod_affinity import matches_all, passes_over
from sampan.scheduler.relations import Held, Term

from .board import Board, Floats, Ints, Mask, spread_out


def filter_nodes(board: Board, guest: Guest, mask: Mask) -> None:
    """Clear the nodes that do not fit, in place."""
    relations = guest.relations
    if relations.affinity:
        _keep_near(board, guest, mask)
    for term in relations.anti:
        mask &= _near(board, term, _selected(board, term)) <= 0
    for item in board.nodes.felt(guest):
        if item.weight is None:
            mask &= _near(board, item.term, _holders(board, item)) <= 0


def _keep_near(board: Board, guest: Guest, mask: Mask) -> None:
    terms = guest.relations.affinity
    namespaces = board.nodes.namespaces
    tally = board.tally(("all", terms), lambda other: int(matches_all(terms, other, namespaces)))
    met: Mask = np.ones(len(board.names), bool)
    anywhere = False
    for term in terms:
        numbers, _ = board.domains(term.topology_key)
        mask &= numbers > 0
        met &= _near(board, term, tally) > 0
        anywhere = anywhere or bool(tally[numbers > 0].any())
    if anywhere or not matches_all(terms, guest, namespaces):
        mask &= met


def points(board: Board, guest: Guest, mask: Mask) -> Floats:
    """0 to 100 for the nodes of the mask, of which there is one at least."""
    if passes_over(guest):
        return np.zeros(len(board.names), np.float64)
    sums: Ints = np.zeros(len(board.names), np.int64)
    for weight, term in guest.relations.preferred:
        sums += weight * _near(board, term, _selected(board, term))
    for item in board.nodes.felt(guest):
        if item.weight is not None:
            sums += (item.weight or guest.profile.required_weight) * _near(
                board, item.term, _holders(board, item)
            )
    fitting = sums[mask]
    least, most = int(fitting.min()), int(fitting.max())
    if least == most:
        return np.zeros(len(sums), np.float64)
    stretched: Floats = np.floor(100.0 * ((sums - least) / (most - least)))
    return stretched


def _near(board: Board, term: Term, tally: Ints) -> Ints:
    """Per node, what is counted in its domain; 0 for nodes without the label."""
    numbers, count = board.domains(term.topology_key)
    return np.where(numbers > 0, spread_out(tally, numbers, count), 0)


def _selected(board: Board, term: Term) -> Ints:
    key = (term.namespaces, term.namespace_selector, term.selector)
    namespaces = board.nodes.namespaces
    return board.tally(
        key, lambda other: int(term.selects(other.namespace, other.labels, namespaces))
    )


def _holders(board: Board, item: Held) -> Ints:
    return board.tally(item, lambda other: other.relations.held.count(item))
