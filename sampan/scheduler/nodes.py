"""The nodes as the scheduler counts them: what each can give, and what is already promised.

Kept incrementally from informer events and from the scheduler's own decisions ("assumed" pods:
bound by us, not yet confirmed by the API). `log` lists the nodes that changed, oldest first, so
that who caches something per node redoes just those; it is cut when it is longer than `LOG_LENGTH`,
and who was behind starts over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sampan.api.errors import Object

from .demand import Demand, Port, amount_of

LOG_LENGTH = 100_000


@dataclass(slots=True)
class NodeState:
    """One node. Changed in place by `Nodes` only."""

    name: str
    node: Object
    allocatable: Mapping[str, int]
    labels: Mapping[str, str]
    taints: tuple[Object, ...]
    unschedulable: bool
    used: dict[str, int] = field(default_factory=dict)
    scored_cpu: int = 0
    scored_memory: int = 0
    pods: dict[str, Demand] = field(default_factory=dict)
    """By pod uid."""
    ports: dict[Port, int] = field(default_factory=dict)


class Nodes:
    """All nodes by name."""

    def __init__(self) -> None:
        self.by_name: dict[str, NodeState] = {}
        self.log: list[str] = []
        self.log_start = 0
        """Position of `log[0]` in the whole history of changes."""
        self._where: dict[str, str] = {}
        # Pods whose node is not known (yet): counted when it appears.
        self._homeless: dict[str, tuple[str, Demand]] = {}

    @property
    def position(self) -> int:
        return self.log_start + len(self.log)

    def _changed(self, name: str) -> None:
        self.log.append(name)
        if len(self.log) > LOG_LENGTH:
            self.log_start += len(self.log)
            self.log.clear()

    def set_node(self, node: Object) -> bool:
        """Take in a new or changed node. False if nothing that scheduling looks at changed."""
        name = node["metadata"]["name"]
        spec, status = node.get("spec") or {}, node.get("status") or {}
        allocatable = {
            key: amount_of(key, value)
            for key, value in (status.get("allocatable") or status.get("capacity") or {}).items()
        }
        labels = node["metadata"].get("labels") or {}
        taints = tuple(spec.get("taints") or ())
        unschedulable = bool(spec.get("unschedulable"))
        old = self.by_name.get(name)
        if old is None:
            state = NodeState(name, node, allocatable, labels, taints, unschedulable)
            self.by_name[name] = state
            for uid, (home, demand) in list(self._homeless.items()):
                if home == name:
                    del self._homeless[uid]
                    self._count(state, uid, demand)
        else:
            old.node = node
            same = (old.allocatable, old.labels, old.taints, old.unschedulable) == (
                allocatable,
                labels,
                taints,
                unschedulable,
            )
            if same:
                return False
            old.allocatable, old.labels, old.taints = allocatable, labels, taints
            old.unschedulable = unschedulable
        self._changed(name)
        return True

    def remove_node(self, name: str) -> None:
        state = self.by_name.pop(name, None)
        if state is not None:
            for uid, demand in state.pods.items():
                self._homeless[uid] = (name, demand)
            self._changed(name)

    def place(self, uid: str, node_name: str, demand: Demand) -> None:
        """Count a pod on a node (assumed or confirmed); moving it is fine."""
        if self._where.get(uid) == node_name:
            return
        self.displace(uid)
        self._where[uid] = node_name
        state = self.by_name.get(node_name)
        if state is None:
            self._homeless[uid] = (node_name, demand)
            return
        self._count(state, uid, demand)
        self._changed(node_name)

    def displace(self, uid: str) -> bool:
        """Give back what a pod was promised. False if it was on no node."""
        name = self._where.pop(uid, None)
        if name is None:
            return False
        self._homeless.pop(uid, None)
        state = self.by_name.get(name)
        if state is not None and uid in state.pods:
            demand = state.pods.pop(uid)
            self._tally(state, demand, -1)
            self._changed(name)
        return True

    def _count(self, state: NodeState, uid: str, demand: Demand) -> None:
        state.pods[uid] = demand
        self._tally(state, demand, 1)

    @staticmethod
    def _tally(state: NodeState, demand: Demand, sign: int) -> None:
        for key, amount in demand.requests.items():
            state.used[key] = state.used.get(key, 0) + sign * amount
        state.scored_cpu += sign * demand.scored_cpu
        state.scored_memory += sign * demand.scored_memory
        for port in demand.ports:
            count = state.ports.get(port, 0) + sign
            if count:
                state.ports[port] = count
            else:
                state.ports.pop(port, None)
