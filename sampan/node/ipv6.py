"""The IPv6 half of a node's pod network: a pod's second address, beside its IPv4 one.

It follows from the first one (the same place in the node's other share), so that nothing of it is
kept on disk, and neighbours are permanent entries here too: no neighbour discovery, no duplicate
address detection, no link-local addresses.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from msgspec import Struct

from sampan.linux import nft, rtnetlink
from sampan.linux.netlink import Message, Netlink, ignoring

from .config import twin

CONF = Path("/proc/sys/net/ipv6/conf")


class Ipv6(Struct, frozen=True):
    """The node's share, the cluster's pod network, the services' network, and the IPv4 share that
    addresses are counted by."""

    share: IPv6Network
    cluster: IPv6Network
    services: IPv6Network | None
    counted: IPv4Network

    @property
    def gateway(self) -> str:
        return str(self.share[1])

    def of(self, ip: str) -> str:
        """The second address of the pod with this first one."""
        return twin(ip, self.counted, self.share)

    def open(self, route: Netlink, bridge: int) -> None:
        """Routes and addresses of the node."""
        let_through(CONF)
        route.request(rtnetlink.set_address(bridge, self.gateway))
        if self.services is not None:
            first, bits = str(self.services.network_address), self.services.prefixlen
            with ignoring(errno.EEXIST):
                route.request(rtnetlink.new_route(first, bits, bridge, self.gateway))
        with ignoring(errno.EEXIST):
            first = str(self.share.network_address)
            route.request(rtnetlink.new_unreachable(first, self.share.prefixlen))

    def inside(self, index: int, ip: str, mac: bytes) -> Iterator[Message]:
        """What a pod's own device gets. `mac` is the other end's."""
        yield rtnetlink.set_address(index, self.of(ip))
        yield rtnetlink.set_neighbour(index, self.gateway, mac)
        yield rtnetlink.set_route(self.gateway, 128, index)
        yield rtnetlink.set_route("::", 0, index, self.gateway)

    def outside(self, index: int, ip: str, mac: bytes) -> Iterator[Message]:
        """What the device's end on the node gets. `mac` is the pod's."""
        yield rtnetlink.set_neighbour(index, self.of(ip), mac)
        yield rtnetlink.set_route(self.of(ip), 128, index, source=self.gateway)

    def close(self, route: Netlink) -> None:
        with ignoring(errno.ESRCH):
            first = str(self.share.network_address)
            route.request(rtnetlink.delete_unreachable(first, self.share.prefixlen))

    def rules(self, name: str, devices: Sequence[str]) -> str:
        """The node's own table: no pod lies about its address (IPv6 has no reverse path filter),
        and what leaves the cluster does so with the node's address."""
        table = f"ip6 {name}"
        return nft.remove_table("ip6", name) + (
            f"add table {table}\n"
            f"add chain {table} guard {{ type filter hook prerouting priority -300; }}\n"
            + "".join(
                f'add rule {table} guard iifname "{prefix}*" fib saddr . iif oif missing drop\n'
                for prefix in devices
            )
            + f"add chain {table} leave {{ type nat hook postrouting priority 100; }}\n"
            f"add rule {table} leave ip6 saddr {self.cluster}"
            f" ip6 daddr != {self.cluster} masquerade\n"
        )


def let_through(conf: Path) -> None:
    """Turn forwarding on. The kernel takes no more router advertisements then, by which a machine
    may have its own address and way out: devices that took them go on doing so. Raises OSError."""
    everywhere = conf / "all" / "forwarding"
    if everywhere.read_text().strip() == "1":
        return
    for path in conf.glob("*/accept_ra"):
        if path.read_text().strip() == "1":
            path.write_text("2")
    everywhere.write_text("1")
