"""The nodes as the scheduler counts them: what each can give, and what is already promised.

Kept incrementally from informer events and from the scheduler's own decisions ("assumed" pods:
bound by us, not yet confirmed by the API). `log` lists the nodes that changed, oldest first, so
that who caches something per node redoes just those; it is cut when it is longer than `LOG_LENGTH`,
and who was behind starts over.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from sampan.api.errors import Object

from .demand import Port, amount_of
from .guest import Guest
from .relations import Held, Labels

if TYPE_CHECKING:
    from .devices import Devices
    from .volumes import Volumes

LOG_LENGTH = 100_000
IMAGES = 10_000
"""Images of which it is remembered when their holders changed."""
FELT = 4096
"""Sets of labels for which it is remembered whose terms select them."""


class Image(Struct, eq=False):
    """A container image some nodes have; one object for all of them."""

    size: int
    nodes: int = 1
    """Of the cluster, when the holders last changed."""
    holders: int = 0
    """Of those, how many have it."""


class NodeState(Struct):
    """One node. Changed in place by `Nodes` only."""

    name: str
    node: Object
    allocatable: Mapping[str, int]
    labels: Mapping[str, str]
    taints: tuple[Object, ...]
    unschedulable: bool
    images: Mapping[str, Image] = field(default_factory=dict)
    """By name."""
    used: dict[str, int] = field(default_factory=dict)
    scored_cpu: int = 0
    scored_memory: int = 0
    pods: dict[str, Guest] = field(default_factory=dict)
    """By pod uid."""
    ports: dict[Port, int] = field(default_factory=dict)


class Nodes:
    """All nodes by name, and what else of the cluster filters look at."""

    def __init__(self) -> None:
        self.by_name: dict[str, NodeState] = {}
        self.namespaces: dict[str, Labels] = {}
        """The labels of every namespace."""
        self.held: dict[Held, int] = {}
        """Terms that placed pods hold against or for others, and how many pods hold each."""
        self._felt: dict[Hashable, list[Held]] = {}
        self._images: dict[str, Image] = {}
        self._images_moved: dict[str, int] = {}
        """When the holders of an image last changed, as a count of such changes."""
        self._images_count = 0
        self.volumes: Volumes | None = None
        """What pods' claims ask of nodes; None where nobody knows."""
        self.devices: Devices | None = None
        """What pods' device claims ask of nodes; None where nobody knows."""
        self.layout = 0
        """Moves when a node comes, goes, or changes its labels, taints or cordon."""
        self.nominated: dict[str, dict[str, Guest]] = {}
        """By node, then uid."""
        self.nominations = 0
        """Moves when a nomination comes or goes."""
        self.watch: Callable[[Guest, str, int], None] | None = None
        """Told of every pod (and its node) that comes, +1, or goes, -1."""
        self.log: list[str] = []
        self.log_start = 0
        """Position of `log[0]` in the whole history of changes."""
        self._where: dict[str, str] = {}
        # Pods whose node is not known (yet): counted when it appears.
        self._homeless: dict[str, tuple[str, Guest]] = {}

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
        old = self.by_name.get(node["metadata"]["name"])
        if old is not None and _looks_same(old.node, node):
            old.node = node
            return False
        state = read_node(node)
        if old is None:
            self.by_name[state.name] = state
            self.layout += 1
            self._set_images(state, node)
            for uid, (home, guest) in list(self._homeless.items()):
                if home == state.name:
                    del self._homeless[uid]
                    self._count(state, guest)
        else:
            noted = _annotations(old.node) != _annotations(node)
            old.node = node
            imaged = self._set_images(old, node)
            moved = (old.labels, old.taints, old.unschedulable) != (
                state.labels,
                state.taints,
                state.unschedulable,
            )
            if not (moved or imaged or noted) and old.allocatable == state.allocatable:
                return False
            self.layout += moved
            old.allocatable, old.labels, old.taints = state.allocatable, state.labels, state.taints
            old.unschedulable = state.unschedulable
        self._changed(state.name)
        return True

    def remove_node(self, name: str) -> None:
        state = self.by_name.pop(name, None)
        if state is not None:
            self._set_images(state, {})
            for uid, guest in state.pods.items():
                self._homeless[uid] = (name, guest)
                self._hold(guest, -1)
            self.layout += 1
            self._changed(name)

    def place(self, guest: Guest, node_name: str) -> None:
        """Count a pod on a node (assumed or confirmed); moving it is fine, and so is a change of
        its labels, or its deletion's beginning."""
        uid = guest.uid
        if self._where.get(uid) == node_name:
            state = self.by_name.get(node_name)
            known = state.pods.get(uid) if state is not None else None
            if known is None or known == guest:
                return
        self.displace(uid)
        self._where[uid] = node_name
        state = self.by_name.get(node_name)
        if state is None:
            self._homeless[uid] = (node_name, guest)
            return
        self._count(state, guest)
        self._changed(node_name)

    def displace(self, uid: str) -> str | None:
        """Give back what a pod was promised; the node it was on, None if it was on none."""
        name = self._where.pop(uid, None)
        if name is None:
            return None
        self._homeless.pop(uid, None)
        state = self.by_name.get(name)
        if state is not None and uid in state.pods:
            guest = state.pods[uid]
            remove_guest(state, guest)
            self._hold(guest, -1)
            if self.watch is not None:
                self.watch(guest, name, -1)
            self._changed(name)
        return name

    def home(self, uid: str) -> str | None:
        """The node a pod is placed on."""
        return self._where.get(uid)

    def _count(self, state: NodeState, guest: Guest) -> None:
        add_guest(state, guest)
        self._hold(guest, 1)
        if self.watch is not None:
            self.watch(guest, state.name, 1)

    def _hold(self, guest: Guest, sign: int) -> None:
        for item in guest.relations.held:
            count = self.held.get(item, 0) + sign
            if count == 0 or count == sign == 1:
                self._felt.clear()
            if count:
                self.held[item] = count
            else:
                del self.held[item]

    def set_namespace(self, name: str, labels: Labels | None) -> None:
        """The labels of a namespace; None when it is gone."""
        self._felt.clear()
        if labels is None:
            self.namespaces.pop(name, None)
        else:
            self.namespaces[name] = labels

    def felt(self, guest: Guest) -> list[Held]:
        """The terms of placed pods that select this one; remembered by namespace and labels."""
        if not self.held:
            return []
        key = guest.namespace, tuple(guest.labels.items())
        found = self._felt.get(key)
        if found is None:
            if len(self._felt) >= FELT:
                self._felt.clear()
            found = self._felt[key] = [
                item
                for item in self.held
                if item.term.selects(guest.namespace, guest.labels, self.namespaces)
            ]
        return found

    def _set_images(self, state: NodeState, node: Object) -> bool:
        """Take in status.images. False if they are the same as before."""
        listed = (node.get("status") or {}).get("images") or ()
        sizes = {
            name: item.get("sizeBytes") or 0 for item in listed for name in item.get("names") or ()
        }
        count = len(self.by_name)
        if sizes.keys() == state.images.keys():
            return False
        self._images_count += 1
        if len(self._images_moved) > IMAGES:
            self._images_moved.clear()
        for name in sizes.keys() ^ state.images.keys():
            image = self._images.setdefault(name, Image(sizes.get(name, 0)))
            image.holders += 1 if name in sizes else -1
            image.nodes = max(1, count)
            self._images_moved[name] = self._images_count
            if not image.holders:
                del self._images[name]
        state.images = {name: self._images[name] for name in sizes}
        return True

    def images_of(self, names: Sequence[str]) -> int:
        """A number that moves when nodes get or lose one of these images."""
        if not self._images_moved:
            return 0
        return sum(self._images_moved.get(name, 0) for name in names)

    # Nominations: pods that others were sent away for, and that are not placed yet.

    def nominate(self, guest: Guest, name: str) -> None:
        """Keep a place for the pod on this node; "" gives it up."""
        waiting = self.nominated.get(guest.nominated)
        if waiting and waiting.pop(guest.uid, None) is not None:
            if not waiting:
                del self.nominated[guest.nominated]
            self.nominations += 1
        guest.nominated = name
        if name:
            self.nominated.setdefault(name, {})[guest.uid] = guest
            self.nominations += 1

    def ahead(self, guest: Guest, name: str) -> list[Guest]:
        """Those a place is kept for on this node, and that this pod must not push aside."""
        waiting = self.nominated.get(name)
        if not waiting:
            return []
        return [
            other
            for other in waiting.values()
            if other.priority >= guest.priority and other.uid != guest.uid
        ]


def add_guest(state: NodeState, guest: Guest) -> None:
    state.pods[guest.uid] = guest
    tally(state, guest, 1)


def remove_guest(state: NodeState, guest: Guest) -> None:
    del state.pods[guest.uid]
    tally(state, guest, -1)


def tally(state: NodeState, guest: Guest, sign: int) -> None:
    demand = guest.demand
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


def _looks_same(old: Object, new: Object) -> bool:
    """Nothing but heartbeats: most changes of most nodes."""
    before, after = old.get("status") or {}, new.get("status") or {}
    labels = old["metadata"].get("labels") == new["metadata"].get("labels")
    return (
        labels
        and _annotations(old) == _annotations(new)
        and old.get("spec") == new.get("spec")
        and all(before.get(key) == after.get(key) for key in ("allocatable", "capacity", "images"))
    )


def _annotations(node: Object) -> Object:
    return node["metadata"].get("annotations") or {}


def read_node(node: Object) -> NodeState:
    spec, status = node.get("spec") or {}, node.get("status") or {}
    allocatable = {
        key: amount_of(key, value)
        for key, value in (status.get("allocatable") or status.get("capacity") or {}).items()
    }
    return NodeState(
        node["metadata"]["name"],
        node,
        allocatable,
        node["metadata"].get("labels") or {},
        tuple(spec.get("taints") or ()),
        bool(spec.get("unschedulable")),
    )


def without(state: NodeState, uids: set[str]) -> NodeState:
    """A copy of a node as it would be without these pods; for thought experiments."""
    copy = replace(
        state,
        used={},
        ports={},
        scored_cpu=0,
        scored_memory=0,
        pods={uid: guest for uid, guest in state.pods.items() if uid not in uids},
    )
    for guest in copy.pods.values():
        tally(copy, guest, 1)
    return copy
