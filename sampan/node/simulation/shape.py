"""How simulated nodes present themselves: names, addresses, capacity, and the Node object. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, ip_address, ip_network
from typing import Any

from msgspec import Struct, field

from sampan.api.errors import Object
from sampan.api.times import format_time
from sampan.version import GIT_VERSION

from ..registration import READY

CAPACITY: Mapping[str, str] = {
    "cpu": "8",
    "memory": "32Gi",
    "ephemeral-storage": "100Gi",
    "pods": "110",
}
SHARE_PREFIX = 24
"""Of the pod network that one node has: 253 pods."""
LARGE_CIDR = "100.64.0.0/10"
"""Shares of nodes that are more than their cluster's own pod network has room for: what RFC 6598
keeps for carriers. Nothing is ever sent to such an address, so nothing needs to route it."""
RUNTIME_VERSION = "simulated://1"
# (type, status, reason, message), in kubelet's words.
FINE = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory",
     "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", *READY),
)  # fmt: skip


class Shape(Struct, frozen=True):
    """How simulated nodes present themselves."""

    names: Sequence[str] = ("node-0",)
    pod_cidr: str = "10.244.0.0/16"
    capacity: Mapping[str, str] = field(default_factory=lambda: CAPACITY)
    labels: Mapping[str, str] = field(default_factory=dict)
    zones: int = 0
    """In how many zones the nodes stand, in turn; 0: in none."""
    address: str = "127.0.0.1"
    port: int = 0
    """Where the API server reaches the nodes' own server (logs); 0: there is none."""

    def labels_of(self, number: int) -> dict[str, str]:
        """Of the node with this number."""
        labels = {
            "kubernetes.io/arch": "amd64",
            "kubernetes.io/hostname": self.names[number],
            "kubernetes.io/os": "linux",
            **self.labels,
        }
        if self.zones:
            labels["topology.kubernetes.io/zone"] = f"zone-{number % self.zones}"
        return labels


def shares_of(shape: Shape) -> dict[str, str]:
    """The share of the pod network of each node. ValueError when there are more nodes than any
    network here has shares."""
    network = _network(shape)
    size = 1 << (32 - SHARE_PREFIX)
    first = int(network.network_address)
    return {
        name: f"{ip_address(first + number * size)}/{SHARE_PREFIX}"
        for number, name in enumerate(shape.names)
    }


def _network(shape: Shape) -> IPv4Network:
    count = len(shape.names)
    for text in (shape.pod_cidr, LARGE_CIDR):
        network = ip_network(text)
        if isinstance(network, IPv4Network) and count <= 1 << (SHARE_PREFIX - network.prefixlen):
            return network
    raise ValueError(f"{count} simulated nodes: {LARGE_CIDR} has room for 16384")


class Addresses:
    """The pod addresses of one node's share: new ones first, then the longest free."""

    __slots__ = ("_end", "_free", "_next")

    def __init__(self, share: str) -> None:
        network = ip_network(share)
        first = int(network.network_address)
        self._next, self._end = first + 2, first + network.num_addresses - 1
        self._free: deque[str] | None = None

    def take(self) -> str:
        if self._next < self._end:
            self._next += 1
            return str(ip_address(self._next - 1))
        return self._free.popleft() if self._free else ""

    def give_back(self, address: str) -> None:
        if address:
            if self._free is None:
                self._free = deque()
            self._free.append(address)


def is_simulated(node: Object) -> bool:
    info = (node.get("status") or {}).get("nodeInfo") or {}
    return info.get("containerRuntimeVersion") == RUNTIME_VERSION


def node_object(number: int, share: str, shape: Shape, now: float) -> Object:
    """A Node as kubelet registers it."""
    name = shape.names[number]
    machine = name.encode().hex()
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": shape.labels_of(number)},
        "spec": {"podCIDR": share, "podCIDRs": [share]},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": shape.address},
                {"type": "Hostname", "address": name},
            ],
            "capacity": dict(shape.capacity),
            "allocatable": dict(shape.capacity),
            "conditions": conditions(now),
            "daemonEndpoints": {"kubeletEndpoint": {"Port": shape.port}},
            "nodeInfo": {
                "architecture": "amd64",
                "bootID": machine,
                "containerRuntimeVersion": RUNTIME_VERSION,
                "kernelVersion": "simulated",
                "kubeProxyVersion": "",
                "kubeletVersion": GIT_VERSION,
                "machineID": machine,
                "operatingSystem": "linux",
                "osImage": "simulated",
                "systemUUID": machine,
            },
        },
    }


def conditions(now: float) -> list[Any]:
    """Those of a node that is fine and has just begun to be."""
    stamp = format_time(now)
    return [
        {
            "type": kind,
            "status": status,
            "lastHeartbeatTime": stamp,
            "lastTransitionTime": stamp,
            "reason": reason,
            "message": message,
        }
        for kind, status, reason, message in FINE
    ]


def heartbeat(now: float) -> Object:
    """What a node that has nothing new says of itself now and then (a strategic merge patch)."""
    stamp = format_time(now)
    said = [{"type": kind, "lastHeartbeatTime": stamp} for kind, *_ in FINE]
    return {"status": {"conditions": said}}
