"""Filters and scores, one file each; these tables fix their order and weight.

A filter is a pure function of demand and node: no reasons when the node fits, else upstream's. A
score is a number from 0 to 100. Order of filters is upstream's default: the first that fails gives
the node's verdict. `helpless` says that evicting pods could never make the node fit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sampan.scheduler.demand import Demand
from sampan.scheduler.nodes import NodeState

from . import (
    node_affinity,
    node_ports,
    node_resources,
    node_unschedulable,
    taint_toleration,
)


class Filter(NamedTuple):
    name: str
    reasons: Callable[[Demand, NodeState], list[str]]
    """Why the node does not fit; [] when it does."""
    helpless: bool


class Score(NamedTuple):
    name: str
    points: Callable[[Demand, NodeState], float]
    weight: int


FILTERS: tuple[Filter, ...] = (
    Filter("NodeUnschedulable", node_unschedulable.reasons, helpless=True),
    Filter("TaintToleration", taint_toleration.reasons, helpless=True),
    Filter("NodeAffinity", node_affinity.reasons, helpless=True),
    Filter("NodePorts", node_ports.reasons, helpless=False),
    Filter("NodeResourcesFit", node_resources.reasons, helpless=False),
)

SCORES: tuple[Score, ...] = (
    Score("TaintToleration", taint_toleration.points, 3),
    Score("NodeAffinity", node_affinity.points, 2),
    Score("NodeResourcesFit", node_resources.points, 1),
)
