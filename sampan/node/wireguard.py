"""The overlay's device where packets are encrypted: WireGuard. All calls block.

    sx~C   for each other machine that has a key too: a peer at the machine's own address, from and
           to which the shares and gateway addresses of its nodes go, and nothing else

A peer keeps the address it was last heard from, which is that of a router where it is behind NAT.
Keys are in PKI/wireguard.key and .pub; the public one is in the Node (`overlay.WIREGUARD`), which
nobody but the node and the administrator may write.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct, json

from sampan.linux import rtnetlink, wireguard
from sampan.linux.netlink import Netlink, NetlinkError
from sampan.linux.wireguard import WireguardDevice, WireguardPeer

from .plumbing import overlaid_mtu, uplink_mtu
from .ways import Own, Peer


class Keys(Struct, frozen=True):
    """As `wg genkey` and `wg pubkey` write them."""

    private: str
    public: str


def port_of(number: int) -> int:
    """Of a cluster by its number: those that share machines should not meet at one."""
    return 51820 + number % 1000


class WireguardEnd:
    """This machine's end."""

    def __init__(
        self, own: Own, device: WireguardDevice, local: str, record: Path, *, port: int
    ) -> None:
        """`record` keeps the peers that the device was told of: it outlives an agent. `port` is the
        cluster's own."""
        self._port = port
        self._own = own
        self._device = device
        self._local = local
        self._record = record
        self._index = 0
        self._peers: list[WireguardPeer] = []

    def open(self, route: Netlink) -> bool:
        """Have the device; False where there is no WireGuard. Raises OSError."""
        name = self._device.name
        link = route.link(name)
        if link is None:
            if not wireguard.make(route, name):
                return False
            self._record.unlink(missing_ok=True)
            link = route.link(name)
        if link is None:
            raise NetlinkError(errno.ENODEV, f"{name}: gone as soon as made")
        self._index = link.index
        mtu = overlaid_mtu(uplink_mtu(route), self._local)
        route.request(rtnetlink.set_mtu(link.index, mtu))
        known = self._read()
        self._peers = known or []
        # Also its own key and port, and before it is up: nothing is sent from another.
        wireguard.configure(link.index, self._device, (), () if known is not None else None)
        self._own.open(route, link.index)
        return True

    def _read(self) -> list[WireguardPeer] | None:
        """What the device knows by now; None where nobody can say."""
        try:
            return json.decode(self._record.read_bytes(), type=list[WireguardPeer])
        except (FileNotFoundError, ValueError):
            return None

    def apply(self, route: Netlink, before: Mapping[str, Peer], wanted: Mapping[str, Peer]) -> None:
        """Reach these nodes and no others."""
        self._own.forget_routes(route, self._index, wanted.values())
        peers = machines(self._own, wanted.values(), self._port)
        if peers != self._peers:
            gone = {peer.key for peer in self._peers} - {peer.key for peer in peers}
            news = [peer for peer in peers if peer not in self._peers]
            # In between the record says nothing: whoever is killed there leaves no peers unseen.
            self._record.unlink(missing_ok=True)
            wireguard.configure(self._index, self._device, news, sorted(gone))
            draft = self._record.with_suffix(".new")
            draft.write_bytes(json.encode(peers))
            draft.rename(self._record)
            self._peers = peers
        for name, peer in wanted.items():
            if before.get(name) == peer:
                continue
            for way in self._own.ways([peer]):
                own = self._own.gateways[way.share.version]
                route.request(
                    rtnetlink.set_route(way.gateway, way.bits, self._index, source=own),
                    rtnetlink.set_route(*way.network, self._index, source=own),
                )


def machines(own: Own, nodes: Iterable[Peer], port: int) -> list[WireguardPeer]:
    """The machines of nodes, each with what its nodes have, in order; `port` is that of those that
    say none. Pure."""
    found: dict[tuple[str, tuple[str, int]], set[str]] = {}
    for node in nodes:
        networks = found.setdefault((node.key, (node.underlay, node.port or port)), set())
        for way in own.ways([node]):
            networks |= {str(way.share), f"{way.gateway}/{way.bits}"}
    return [
        WireguardPeer(key, endpoint, tuple(sorted(networks)))
        for (key, endpoint), networks in sorted(found.items())
    ]
