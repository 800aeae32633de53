"""The overlay's device where packets go as they are: VXLAN. All calls block.

sx-C   hardware address after the node's gateway address
for each other machine: its share by way of its gateway address, whose hardware address is a
fixed entry, and that is a fixed entry to the machine's own address; its share of IPv6 by way
of its gateway address of that family, with the same hardware address. Nothing is learnt, no
question goes over the wire.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from sampan.linux import rtnetlink
from sampan.linux.netlink import Netlink, NetlinkError, ignoring

from .plumbing import overlaid_mtu, uplink_mtu
from .ways import Own, Peer


class VxlanEnd:
    """This machine's end."""

    def __init__(self, own: Own, device: rtnetlink.Vxlan, record: Path) -> None:
        """`device` gets its MTU from the way out; `record` keeps how it was made."""
        self._own = own
        self._device = device
        self._record = record
        self._index = 0

    def open(self, route: Netlink) -> None:
        """Have the device. Raises OSError."""
        device = self._device
        made = f"{device.number} {device.local} {device.port} {device.mac.hex()}"
        known = self._record.read_text() if self._record.exists() else ""
        if known != made:
            with ignoring(errno.ENODEV):
                route.request(rtnetlink.delete_link(device.name))
        mtu = overlaid_mtu(uplink_mtu(route), device.local)
        with ignoring(errno.EEXIST):
            route.request(rtnetlink.new_vxlan(replace(device, mtu=mtu)))
        self._record.write_text(made)
        link = route.link(device.name)
        if link is None:
            raise NetlinkError(errno.ENODEV, f"{device.name}: gone as soon as made")
        self._index = link.index
        self._own.open(route, link.index)

    def apply(self, route: Netlink, before: Mapping[str, Peer], wanted: Mapping[str, Peer]) -> None:
        """Reach these nodes and no others."""
        index = self._index
        self._own.forget_routes(route, index, wanted.values())
        used = {(peer.mac, peer.underlay) for peer in wanted.values()}
        gateways = {way.gateway for way in self._own.ways(wanted.values())}
        for peer in before.values():
            if (peer.mac, peer.underlay) not in used:
                with ignoring(errno.ENOENT):
                    route.request(rtnetlink.delete_forwarding(index, peer.mac, peer.underlay))
        for way in self._own.ways(before.values()):
            if way.gateway not in gateways:
                with ignoring(errno.ENOENT):
                    route.request(rtnetlink.delete_neighbour(index, way.gateway))
        for name, peer in wanted.items():
            if before.get(name) != peer:
                self._reach(route, peer)

    def _reach(self, route: Netlink, peer: Peer) -> None:
        index = self._index
        messages = [rtnetlink.set_forwarding(index, peer.mac, peer.underlay)]
        for way in self._own.ways([peer]):
            own = self._own.gateways[way.share.version]
            messages += (
                rtnetlink.set_neighbour(index, way.gateway, peer.mac),
                rtnetlink.set_route(way.gateway, way.bits, index, source=own),
                rtnetlink.set_route(*way.network, index, way.gateway, source=own),
            )
        route.request(*messages)
