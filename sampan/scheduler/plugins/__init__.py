"""Filters and scores, one file each; these tables fix their order and weight.

A filter is a pure function of demand and node: no reasons when the node fits, else upstream's. A
score is a number from 0 to 100. Order of filters is upstream's default: the first that fails gives
the node's verdict. `helpless` says that evicting pods could never make the node fit. What depends
on other nodes (`RELATIONS`) is prepared once per pod, and only for pods it concerns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sampan.scheduler.demand import Demand
from sampan.scheduler.guest import Guest
from sampan.scheduler.nodes import Nodes, NodeState

from . import (
    dynamic_resources,
    image_locality,
    inter_pod_affinity,
    node_affinity,
    node_ports,
    node_resources,
    node_resources_balanced,
    node_unschedulable,
    node_volume_limits,
    pod_topology_spread,
    taint_toleration,
    volume_binding,
    volume_restrictions,
    volume_zone,
)


class Filter(NamedTuple):
    name: str
    reasons: Callable[[Demand, NodeState], list[str]]
    """Why the node does not fit; [] when it does."""
    helpless: bool
    concerns: Callable[[Demand], object] = lambda demand: True
    """Can it fail for such a pod at all?"""


class Score(NamedTuple):
    name: str
    points: Callable[[Demand, NodeState], float]
    weight: int
    concerns: Callable[[Demand], object] = lambda demand: True
    """Can nodes differ by it for such a pod?"""


class Relation(NamedTuple):
    """Filter and score at once, of a state that is prepared from all nodes."""

    name: str
    prepare: Callable[[Guest, Nodes], Any]
    """The state; None when the plugin does not concern this pod."""
    reasons: Callable[[Any, NodeState], tuple[str, bool]]
    """(why the node does not fit or "", whether evicting pods is of no help)."""
    points: Callable[[Any, Sequence[NodeState]], list[int]]
    """Of the fitting nodes, in their order."""
    weight: int
    stops: Callable[[Any], str] = lambda state: ""
    """Why no node will do, whatever it is like (PreFilter); "" to look at them."""
    filters: bool = True
    """False where a profile has it score alone."""


FILTERS: tuple[Filter, ...] = (
    Filter("NodeUnschedulable", node_unschedulable.reasons, helpless=True),
    Filter("TaintToleration", taint_toleration.reasons, helpless=True),
    Filter("NodeAffinity", node_affinity.reasons, True, node_affinity.restricts),
    Filter("NodePorts", node_ports.reasons, False, lambda demand: demand.ports),
    Filter("NodeResourcesFit", node_resources.reasons, helpless=False),
)

SCORES: tuple[Score, ...] = (
    Score("TaintToleration", taint_toleration.points, 3),
    Score("NodeAffinity", node_affinity.points, 2, node_affinity.prefers),
    Score("NodeResourcesFit", node_resources.points, 1),
    Score(
        "NodeResourcesBalancedAllocation",
        node_resources_balanced.points,
        1,
        lambda demand: "cpu" in demand.requests or "memory" in demand.requests,
    ),
    Score("ImageLocality", image_locality.points, 1, lambda demand: demand.images),
)

RELATIONS: tuple[Relation, ...] = (
    Relation(
        "VolumeRestrictions",
        volume_restrictions.prepare,
        volume_restrictions.reasons,
        volume_restrictions.points,
        1,
    ),
    Relation(
        "NodeVolumeLimits",
        node_volume_limits.prepare,
        node_volume_limits.reasons,
        node_volume_limits.points,
        1,
    ),
    Relation(
        "VolumeBinding",
        volume_binding.prepare,
        volume_binding.reasons,
        volume_binding.points,
        1,
        volume_binding.stops,
    ),
    Relation("VolumeZone", volume_zone.prepare, volume_zone.reasons, volume_zone.points, 1),
    Relation(
        "PodTopologySpread",
        pod_topology_spread.prepare,
        pod_topology_spread.reasons,
        pod_topology_spread.points,
        2,
    ),
    Relation(
        "InterPodAffinity",
        inter_pod_affinity.prepare,
        inter_pod_affinity.reasons,
        inter_pod_affinity.points,
        2,
    ),
    Relation(
        "DynamicResources",
        dynamic_resources.prepare,
        dynamic_resources.reasons,
        dynamic_resources.points,
        2,
        dynamic_resources.stops,
    ),
)
