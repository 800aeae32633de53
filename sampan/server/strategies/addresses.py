"""Cluster addresses of services: what is free in the ranges that ServiceCIDRs name (KEP-1880).

The cluster's own ranges are there from the start; others come and go with their objects. Which
addresses are taken is read from the services themselves, and from IPAddress objects of others than
services (somebody keeps an address for himself). Ranges may overlap: an address is taken in all.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network

from sampan.api.errors import Object

from .pool import Pool, static_band

# The most addresses of an IPv6 range that are given out, as upstream's largest /64 by far: it is
# the number of bits that random numbers are drawn from.
_LARGEST_BITS = 64
OWN = ""
"""The owner of the cluster's own ranges, which no object's deletion takes away."""


def family_of(text: str) -> str:
    """IPv4 or IPv6, of an address or range."""
    return "IPv6" if ":" in text else "IPv4"


class ServiceAddresses:
    """`ranges` are the cluster's own, at most one of a family; the first is the default's."""

    def __init__(self, ranges: Sequence[str]) -> None:
        self.families = [family_of(text) for text in ranges]
        self._taken: dict[str, set[int]] = {family: set() for family in self.families}
        self._pools: dict[str, dict[tuple[str, str], Pool]] = {
            family: {} for family in self.families
        }
        self.put_ranges(OWN, ranges)

    def put_ranges(self, owner: str, ranges: Sequence[str]) -> None:
        """The ranges that a ServiceCIDR gives from now on; () when it gives none any more."""
        for pools in self._pools.values():
            for key in [key for key in pools if key[0] == owner and key[1] not in ranges]:
                del pools[key]
        for text in ranges:
            pools = self._pools.get(family_of(text), {})
            # A cluster has the families it began with.
            if family_of(text) in self._pools and (owner, text) not in pools:
                pools[owner, text] = _pool(text, self._taken[family_of(text)])

    def take(self, text: str) -> None:
        family = family_of(text)
        if family in self._taken:
            self._taken[family].add(int(ipaddress.ip_address(text)))

    def release(self, text: str) -> None:
        family = family_of(text)
        if family in self._taken:
            self._taken[family].discard(int(ipaddress.ip_address(text)))

    def take_any(self, family: str) -> str | None:
        """An address that was free; None when there is none."""
        for pool in self._pools[family].values():
            number = pool.take_any()
            if number is not None:
                kind = ipaddress.IPv6Address if family == "IPv6" else ipaddress.IPv4Address
                return str(kind(number))
        return None

    def claim(self, text: str) -> str:
        """Take this address; why that cannot be, "" if it was done."""
        number, family = int(ipaddress.ip_address(text)), family_of(text)
        pools = self._pools.get(family, {})
        if not any(number in pool for pool in pools.values()):
            return "the provided network does not match the current range"
        if number in self._taken[family]:
            return "provided IP is already allocated"
        self._taken[family].add(number)
        return ""


def _pool(text: str, taken: set[int]) -> Pool:
    network: IPv4Network | IPv6Network = ipaddress.ip_network(text)
    # Neither the network's own address nor, as upstream, the last one is given out.
    size = min(network.num_addresses, 1 << _LARGEST_BITS) - 2
    first = int(network.network_address) + 1
    return Pool(first, size, static_band(size, 16, 16, 256), taken)


def ready_ranges(obj: Object) -> Sequence[str]:
    """Those of a ServiceCIDR from which addresses are given: not while it goes. One that nobody
    has looked at yet counts, as upstream has it."""
    if obj["metadata"].get("deletionTimestamp"):
        return ()
    for condition in (obj.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Ready" and condition.get("status") != "True":
            return ()
    return (obj.get("spec") or {}).get("cidrs") or ()


def used_addresses(service: Object) -> Iterator[str]:
    """The cluster addresses of a service, and the load balancer's, in canonical form."""
    spec = service.get("spec") or {}
    entries = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    for text in (
        *(spec.get("clusterIPs") or (spec.get("clusterIP"),)),
        *(item.get("ip") for item in entries),
    ):
        try:
            yield str(ipaddress.ip_address(text or ""))
        except ValueError:
            continue


def kept_address(obj: Object) -> str:
    """The address that an IPAddress keeps for something else than a service, "" for none: a
    service's own are known from it."""
    parent = (obj.get("spec") or {}).get("parentRef") or {}
    if parent.get("resource") == "services" and not parent.get("group"):
        return ""
    return str(obj["metadata"]["name"])
