"""Does the node take a pod that was bound to it? Static pods and pods with a node name of their own
pass no scheduler, and the node may have changed since it decided. Pure but for the node's figures.

The order and the words are those of kubelet's admission handlers (pkg/kubelet/lifecycle, eviction,
sysctl). A pod that is refused has failed; its containers never start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from sampan.api.errors import Object
from sampan.api.kinds.core.podspec.resources import is_extended
from sampan.api.meta import CLASS_RESOURCE
from sampan.api.placement import selects, tolerates
from sampan.wire.quantity import milli, whole

from .allocation import demands
from .manifests import is_static
from .sysctls import FORBIDDEN, refusal

PREFIX = "Pod was rejected: "
"""What a pod's status says before the reason; its event goes without."""
APPARMOR = Path("/sys/module/apparmor/parameters/enabled")
Refusal = tuple[str, str]
"""(reason, message)"""


class Room(Struct, frozen=True):
    """What the node has, and what its other pods have taken of it."""

    node: Object
    """Its name, labels and taints."""
    allocatable: Mapping[str, str]
    others: Sequence[Object]
    """Pods that have not ended."""
    used: Callable[[str], int]
    """How much of a resource they have together."""
    unsafe_sysctls: tuple[str, ...] = ()


def refuse(pod: Object, room: Room, lacks: Sequence[Lack] = ()) -> Refusal | None:
    """None for a pod that is taken. `lacks` is what counts of what it lacks (`lacking`)."""
    spec = pod["spec"]
    unsafe = refusal(spec, room.unsafe_sysctls)
    if unsafe:
        return FORBIDDEN, unsafe
    system = (spec.get("os") or {}).get("name") or "linux"
    if system != "linux":
        return "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"
    if lacks:
        return lacks[0].refusal
    meta = room.node["metadata"]
    if not selects(spec, meta["name"], meta.get("labels") or {}):
        text = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
        return "NodeAffinity", text
    ports = _ports(spec)
    if ports and any(_collide(ports, _ports(other["spec"])) for other in room.others):
        text = "node(s) didn't have free ports for the requested pod ports"
        return "NodePorts", f"Predicate NodePorts failed: {text}"
    if not is_static(pod):
        for taint in (room.node.get("spec") or {}).get("taints") or ():
            tolerated = any(tolerates(item, taint) for item in spec.get("tolerations") or ())
            if taint.get("effect") == "NoExecute" and not tolerated:
                text = "node(s) had taints that the pod didn't tolerate"
                return "TaintToleration", f"Predicate TaintToleration failed: {text}"
    return _unconfinable(spec)


class Lack(Struct, frozen=True):
    """Too little of one resource."""

    name: str
    asked: int
    used: int
    capacity: int

    @property
    def missing(self) -> int:
        return self.asked - (self.capacity - self.used)

    @property
    def refusal(self) -> Refusal:
        return out_of(self.name, self.asked, self.used, self.capacity)


def lacking(pod: Object, room: Room) -> Iterator[Lack]:
    """All there is too little of; pods are counted first, as upstream does."""
    capacity = whole(room.allocatable.get("pods", "0"))
    if len(room.others) + 1 > capacity:
        yield Lack("pods", 1, len(room.others), capacity)
    asked = demands(pod["spec"])
    for name in sorted(asked, key=_upstreams_order):
        if not asked[name] or (_is_others(name) and name not in room.allocatable):
            continue
        measure = milli if name == "cpu" else whole
        capacity = measure(room.allocatable.get(name, "0"))
        used = room.used(name)
        if asked[name] > capacity - used:
            yield Lack(name, asked[name], used, capacity)


def _is_others(name: str) -> bool:
    """Devices stand behind it, or nobody on this node: the scheduler has seen to it."""
    return is_extended(name) or name.startswith(CLASS_RESOURCE)


def _upstreams_order(name: str) -> tuple[int, str]:
    first = ("cpu", "memory", "ephemeral-storage")
    return (first.index(name) if name in first else len(first), name)


def out_of(name: str, asked: int, used: int, capacity: int) -> Refusal:
    figures = f"requested: {asked}, used: {used}, capacity: {capacity}"
    return f"OutOf{name}", f"Node didn't have enough resource: {name}, {figures}"


def _ports(spec: Mapping[str, Any]) -> set[tuple[int, str, str]]:
    """Ports taken on the node's own addresses: number, protocol, address ("" for all)."""
    anywhere = ("0.0.0.0", "::")
    return {
        (
            int(port["hostPort"]),
            port.get("protocol", "TCP"),
            "" if port.get("hostIP") in anywhere else port.get("hostIP") or "",
        )
        for container in _lasting(spec)
        for port in container.get("ports") or ()
        if port.get("hostPort")
    }


def _collide(ports: set[tuple[int, str, str]], others: set[tuple[int, str, str]]) -> bool:
    return any(
        (number, protocol) == (other[0], other[1]) and (ip == other[2] or not (ip and other[2]))
        for number, protocol, ip in ports
        for other in others
    )


def _lasting(spec: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    yield from spec["containers"]
    for item in spec.get("initContainers") or ():
        if item.get("restartPolicy") == "Always":
            yield item


def _unconfinable(spec: Mapping[str, Any]) -> Refusal | None:
    """A pod that asks for AppArmor where there is none."""
    contexts = [spec.get("securityContext") or {}]
    for field in ("initContainers", "containers"):
        contexts += [item.get("securityContext") or {} for item in spec.get(field) or ()]
    asked = {(item.get("appArmorProfile") or {}).get("type") for item in contexts}
    if asked <= {None, "Unconfined"} or has_apparmor():
        return None
    return "AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"


def has_apparmor() -> bool:
    try:
        return APPARMOR.read_text().startswith("Y")
    except OSError:
        return False
