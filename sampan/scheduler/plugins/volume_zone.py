"""VolumeZone: a volume labelled with a zone or region can be had from nodes of it alone. Volumes of
today say so by node affinity as well (VolumeBinding); these labels are what older ones have."""

from __future__ import annotations

from collections.abc import Sequence

from sampan.scheduler.guest import Guest
from sampan.scheduler.nodes import Nodes, NodeState

CONFLICT = "node(s) had no available volume zone"
KEYS = {
    "topology.kubernetes.io/zone": "failure-domain.beta.kubernetes.io/zone",
    "topology.kubernetes.io/region": "failure-domain.beta.kubernetes.io/region",
}
SEPARATOR = "__"
"""Between the zones of a volume that is in several."""


class State:
    """(key, its old name, the zones) of every label of the pod's volumes."""

    def __init__(self, asked: list[tuple[str, str, frozenset[str]]]) -> None:
        self.asked = asked

    def count(self, other: Guest, node: NodeState, sign: int) -> None:
        """A pod thought away or back: it changes nothing about volumes."""


def prepare(guest: Guest, nodes: Nodes) -> State | None:
    if not guest.claims or nodes.volumes is None:
        return None
    asked = []
    for volume in nodes.volumes.need(guest).bound:
        labels = ((volume or {}).get("metadata") or {}).get("labels") or {}
        for key, old in KEYS.items():
            value = labels.get(key) or labels.get(old)
            if value:
                asked.append((key, old, frozenset(value.split(SEPARATOR))))
    return State(asked) if asked else None


def reasons(state: State, node: NodeState) -> tuple[str, bool]:
    """(why, True): no pod that is evicted moves a volume."""
    if not any(key in node.labels or old in node.labels for key, old in KEYS.items()):
        # A cluster without zones.
        return "", True
    for key, old, zones in state.asked:
        if (node.labels.get(key) or node.labels.get(old)) not in zones:
            return CONFLICT, True
    return "", True


def points(state: State, nodes: Sequence[NodeState]) -> list[int]:
    return [0] * len(nodes)
