"""VolumeRestrictions: a claim of access mode ReadWriteOncePod is one pod's (KEP-2485)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from sampan.scheduler.guest import Guest
from sampan.scheduler.nodes import Nodes, NodeState

IN_USE = (
    "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already "
    "in-use by another pod"
)


class Users(Struct):
    """Who uses the pod's exclusive claims already."""

    namespace: str
    claims: frozenset[str]
    total: int = 0

    def count(self, other: Guest, node: NodeState, sign: int) -> None:
        """A pod comes (+1) or goes (-1); also in thought, for preemption."""
        if other.namespace == self.namespace and any(
            name in self.claims for name, _ in other.claims
        ):
            self.total += sign


def prepare(guest: Guest, nodes: Nodes) -> Users | None:
    """Looks at every pod, but only for pods with such claims."""
    if not guest.claims or nodes.volumes is None:
        return None
    claims = nodes.volumes.exclusive(guest)
    if not claims:
        return None
    users = Users(guest.namespace, claims)
    for node in nodes.by_name.values():
        for other in node.pods.values():
            if other.claims:
                users.count(other, node, 1)
    return users


def reasons(users: Users, node: NodeState) -> tuple[str, bool]:
    """(why, False): the pod that has it may be evicted."""
    return (IN_USE if users.total else ""), False


def points(users: Users, nodes: Sequence[NodeState]) -> list[int]:
    return [0] * len(nodes)
