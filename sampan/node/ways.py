"""Ways to other machines' nodes, and their routes by a device: what both kinds of device share.

Calls of `Own` block; all else is pure.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network

from msgspec import Struct

from sampan.linux import rtnetlink
from sampan.linux.netlink import Netlink, ignoring

from .plumbing import HOST_END, pod_mac


class Way(Struct, frozen=True):
    """To a share of one family."""

    share: IPv4Network | IPv6Network
    gateway: str
    """Of the machine's first node, who passes it on."""

    @property
    def bits(self) -> int:
        """Of an address."""
        return self.share.max_prefixlen

    @property
    def network(self) -> tuple[str, int]:
        return str(self.share.network_address), self.share.prefixlen


class Peer(Struct, frozen=True):
    """How the pods of one other node are reached."""

    ways: tuple[Way, ...]
    """The first is IPv4's."""
    underlay: str
    key: str = ""
    """Its machine's public key of WireGuard, if it has one."""
    port: int = 0
    """Where it is heard by that; 0 for the cluster's own."""

    @property
    def mac(self) -> bytes:
        return pod_mac(self.ways[0].gateway)


class Own(Struct, frozen=True):
    """This node's gateway addresses of IPv4 and IPv6, "" where it has none."""

    gateways: Mapping[int, str]

    def ways(self, peers: Iterable[Peer]) -> Iterator[Way]:
        """Those of the families that this node has."""
        return (way for peer in peers for way in peer.ways if self.gateways[way.share.version])

    def open(self, route: Netlink, index: int) -> None:
        """What is masqueraded on its way out gets the device's address, whose answers come back
        by it."""
        with ignoring(errno.EAFNOSUPPORT):
            route.request(rtnetlink.quieten(index))
        route.request(
            rtnetlink.set_ipv4_options(index, HOST_END),
            *(rtnetlink.set_address(index, ip) for ip in self.gateways.values() if ip),
            rtnetlink.set_up(index),
        )

    def forget_routes(self, route: Netlink, index: int, wanted: Iterable[Peer]) -> None:
        """Those out of the device that nobody wants any more."""
        ways = list(self.ways(wanted))
        kept = {way.network for way in ways} | {(way.gateway, way.bits) for way in ways}
        found = route.routes(index)
        if self.gateways[6]:
            found += route.routes(index, socket.AF_INET6)
        # The kernel's own route to the device's address stays with that.
        kept.add((self.gateways[6], 128))
        for network, bits in found:
            if (network, bits) not in kept:
                with ignoring(errno.ESRCH):
                    route.request(rtnetlink.delete_any_route(network, bits, index))
