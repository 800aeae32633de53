"""DynamicResources: a node that can use the devices its claims have, or has devices for them.
Filter and Reserve; what is decided is written by `devices.Devices.bind`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct, field

from sampan.api.errors import Object
from sampan.api.placement import any_term_matches
from sampan.scheduler.allocation import Chosen, Claim, Id, Pools, Search
from sampan.scheduler.guest import Guest
from sampan.scheduler.nodes import Nodes, NodeState

ELSEWHERE = "resourceclaim not available on the node"
NONE_FREE = "cannot allocate all claims"


class Need(Struct):
    """What a pod's device claims ask of its node."""

    problem: str = ""
    """Why no node will do, as long as it is so."""
    allocated: list[Object] = field(default_factory=list)
    """Allocations of claims that have their devices."""
    failed: bool = False
    """Devices of one will not be ready (KEP-5007): others are to be tried."""
    waiting: list[Claim] = field(default_factory=list)
    pools: Pools | None = None
    taken: frozenset[Id] = frozenset()
    shares: dict[Id, Counter[str]] = field(default_factory=dict)
    """What is taken of devices that are shared."""
    shunned: frozenset[str] = frozenset()
    """Resources that a node with some of its own gives out by itself."""

    def count(self, other: Guest, node: NodeState, sign: int) -> None:
        """A pod thought away or back: its claims keep their devices until they are released."""


def prepare(guest: Guest, nodes: Nodes) -> Need | None:
    if not (guest.devices or guest.extended) or nodes.devices is None:
        return None
    return nodes.devices.need(guest)


def stops(need: Need) -> str:
    return need.problem


def reasons(need: Need, node: NodeState) -> tuple[str, bool]:
    """(why, True): who leaves does not give back a claim's devices at once."""
    if need.problem:
        return need.problem, True
    for name in sorted(need.shunned):
        if node.allocatable.get(name):
            return f"Insufficient {name}", False
    if need.failed or not all(is_usable(allocation, node) for allocation in need.allocated):
        return ELSEWHERE, True
    return ("", True) if plan(need, node) is not None else (NONE_FREE, True)


def is_usable(allocation: Object, node: NodeState) -> bool:
    return any_term_matches(allocation.get("nodeSelector"), node.name, node.labels)


def plan(need: Need, node: NodeState) -> list[list[Chosen]] | None:
    """The devices of each waiting claim; None for no way."""
    if not need.waiting or need.pools is None:
        return []
    return Search(node, need.pools, need.taken, need.shares).allocate(need.waiting)


def points(need: Need, nodes: Sequence[NodeState]) -> list[int]:
    return [0] * len(nodes)
