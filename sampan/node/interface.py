"""Seams inside the node agent: what a pod worker needs of the network."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

from msgspec import Struct


class PodAddress(Struct, frozen=True):
    namespace_path: Path
    """The pod's network namespace, for `ContainerSpec.network_namespace`."""
    ip: str
    other_ip: str = ""
    """Of the other family, where pods have both."""


# Addresses are unique on a machine (clusters have networks of their own), so these names are too,
# and a name says whose it is.
PREFIX = "sv"


def interface_name(ip: str) -> str:
    """Of the node's end of a pod's link: the address in hex; "" for one that is not IPv4."""
    try:
        return f"{PREFIX}{int(IPv4Address(ip)):08x}"
    except ValueError:
        return ""


class PodNetwork(Protocol):
    """Addresses and network namespaces of pods on this node."""

    async def open(self) -> None:
        """Make the bridge and its rules (idempotent) and read back the addresses given out."""
        ...

    async def attach(self, pod_uid: str) -> PodAddress:
        """A namespace with lo and eth0, an address of the node's pod CIDR, a default route.
        Idempotent: a pod that has one keeps it, also after a restart of the agent."""
        ...

    async def detach(self, pod_uid: str) -> None:
        """Give the address back and remove the namespace; unknown pods are fine."""
        ...

    async def retain(self, pod_uids: set[str]) -> None:
        """Detach every pod that is not in the set (after a restart)."""
        ...

    async def close(self) -> None:
        """Stop; what pods use stays."""
        ...

    async def purge(self) -> None:
        """Remove the bridge, every namespace and every rule of this cluster."""
        ...
