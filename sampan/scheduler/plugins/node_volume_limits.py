"""NodeVolumeLimits: a CSI driver attaches no more volumes to a node than its CSINode says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from sampan.scheduler.guest import Guest
from sampan.scheduler.nodes import Nodes, NodeState

if TYPE_CHECKING:
    from sampan.scheduler.volumes import Volumes

EXCEEDED = "node(s) exceed max volume count"


class State(Struct):
    """What the pod would have attached: (driver, volume)."""

    volumes: Volumes
    wanted: frozenset[tuple[str, str]]

    def count(self, other: Guest, node: NodeState, sign: int) -> None:
        """A pod thought away or back: `reasons` looks at the pods of the node it is given."""


def prepare(guest: Guest, nodes: Nodes) -> State | None:
    if not guest.claims or nodes.volumes is None or not nodes.volumes.has_limits:
        return None
    wanted = frozenset(nodes.volumes.attached(guest))
    return State(nodes.volumes, wanted) if wanted else None


def reasons(state: State, node: NodeState) -> tuple[str, bool]:
    """(why, False): pods that leave take their volumes with them."""
    limits = state.volumes.limits(node.name)
    if not any(driver in limits for driver, _ in state.wanted):
        return "", False
    there = {
        item
        for other in node.pods.values()
        if other.claims
        for item in state.volumes.attached(other)
    }
    more = state.wanted - there
    for driver in {driver for driver, _ in more}:
        count = sum(name == driver for name, _ in there | more)
        if driver in limits and count > limits[driver]:
            return EXCEEDED, False
    return "", False


def points(state: State, nodes: Sequence[NodeState]) -> list[int]:
    return [0] * len(nodes)
