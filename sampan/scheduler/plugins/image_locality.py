"""ImageLocality: nodes that have the pod's images, the more the larger these are. An image counts
by the share of nodes that have it, so that one node with it does not draw every pod."""

from __future__ import annotations

from sampan.scheduler.demand import Demand
from sampan.scheduler.nodes import NodeState

MEBIBYTE = 1024 * 1024
LEAST_BYTES = 23 * MEBIBYTE
MOST_BYTES = 1000 * MEBIBYTE
"""Upstream's bounds: below the first nothing is won, the second per container wins all."""


def points(demand: Demand, node: NodeState) -> float:
    if not node.images:
        return 0.0
    total = 0
    for image in demand.images:
        found = node.images.get(image)
        if found is not None:
            total += found.size * found.holders // found.nodes
    most = MOST_BYTES * len(demand.images)
    total = max(LEAST_BYTES, min(total, most))
    return 100.0 * (total - LEAST_BYTES) / (most - LEAST_BYTES)
