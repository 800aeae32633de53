"""VolumeBinding: a node from which every volume of the pod can be had. Filter and Reserve; the
writes are `volumes.Volumes.bind`. A claim that waits for its first consumer may take any volume
that is free for the node, or be provisioned there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from sampan.api.errors import Object
from sampan.api.placement import any_term_matches
from sampan.api.volumes import (
    NO_PROVISIONER,
    SELECTED_NODE,
    annotation,
    best_match,
    class_of,
    is_allowed,
    size_of,
)
from sampan.scheduler.guest import Guest
from sampan.scheduler.nodes import Nodes, NodeState

UNBOUND_IMMEDIATE = "pod has unbound immediate PersistentVolumeClaims"
CONFLICT = "node(s) had volume node affinity conflict"
NONE_FREE = "node(s) didn't find available persistent volumes to bind"
GONE = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"


class Need(Struct):
    """What a pod's claims ask of its node."""

    problem: str = ""
    """Why no node will do, as long as it is so."""
    bound: list[Object | None] = field(default_factory=list)
    """The volumes of bound claims; None for one that is gone."""
    waiting: list[Object] = field(default_factory=list)
    """Claims to be bound for the node, the smallest first."""
    classes: Mapping[str, Object] = field(default_factory=dict)
    free: Sequence[Object] = ()
    """Volumes the waiting claims may take."""

    def count(self, other: Guest, node: NodeState, sign: int) -> None:
        """A pod thought away or back: it changes nothing about volumes."""


def prepare(guest: Guest, nodes: Nodes) -> Need | None:
    if not guest.claims or nodes.volumes is None:
        return None
    return nodes.volumes.need(guest)


def stops(need: Need) -> str:
    return need.problem


def reasons(need: Need, node: NodeState) -> tuple[str, bool]:
    """(why, True): no pod that is evicted makes a volume."""
    if need.problem:
        return need.problem, True
    for volume in need.bound:
        if volume is None:
            return GONE, True
        if not reaches(volume, node):
            return CONFLICT, True
    return ("", True) if plan(need, node) is not None else (NONE_FREE, True)


def points(need: Need, nodes: Sequence[NodeState]) -> list[int]:
    return [0] * len(nodes)


def plan(need: Need, node: NodeState) -> list[tuple[Object, Object | None]] | None:
    """For each waiting claim the volume it takes, or None to be provisioned; None for no way."""
    out: list[tuple[Object, Object | None]] = []
    taken: set[str] = set()
    for claim in sorted(need.waiting, key=lambda item: size_of(item["spec"])):
        chosen = annotation(claim, SELECTED_NODE)
        if chosen and chosen != node.name:
            # It is being made on another node.
            return None
        found = best_match(
            claim,
            (item for item in need.free if item["metadata"]["name"] not in taken),
            fits=lambda volume: reaches(volume, node),
        )
        if found is not None:
            taken.add(found["metadata"]["name"])
        elif not _can_make(need.classes.get(class_of(claim) or ""), node):
            return None
        out.append((claim, found))
    return out


def reaches(volume: Object, node: NodeState) -> bool:
    """Can the volume be had on the node (CheckNodeAffinity)?"""
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    return any_term_matches(required, node.name, node.labels)


def _can_make(kind: Object | None, node: NodeState) -> bool:
    if kind is None or kind.get("provisioner", "") in ("", NO_PROVISIONER):
        return False
    return is_allowed(kind, node.labels)
