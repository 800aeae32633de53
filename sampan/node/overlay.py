"""Pod networks of other machines, by VXLAN: what is where is known from Node objects alone.

    sx-C   the overlay's device; hardware address after the node's gateway address
    for each other machine: its share by way of its gateway address, whose hardware address is a
    fixed entry, and that is a fixed entry to the machine's own address; its share of IPv6 by way
    of its gateway address of that family, with the same hardware address. Nothing is learnt, no
    question goes over the wire.

A node says with `UNDERLAY` which address of its machine others reach; one that shares a machine
with another says with `VIA` by whose (`uplink`). VXLAN encrypts nothing and proves no sender:
the network between the machines must be trusted.

Tasks: `run`, woken by the informer of nodes; kernel calls run on one worker thread, in order. No
queue: what has changed since is one step.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from sampan.api.errors import Object
from sampan.api.resources import api_resource
from sampan.client.informer import Informers
from sampan.linux import rtnetlink
from sampan.linux.netlink import Netlink, NetlinkError, ignoring

from .plumbing import HOST_END, OVERLAY_PREFIX, bridge_name, overlaid_mtu, pod_mac, uplink_mtu

UNDERLAY = "network.sampan.io/underlay"
VIA = "network.sampan.io/via"
PORT = 8472
"""Linux' own and flannel's; the number keeps clusters apart that share a machine."""

T = TypeVar("T")


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

    @property
    def mac(self) -> bytes:
        return pod_mac(self.ways[0].gateway)


def network_number(ca: bytes) -> int:
    """The same on every node of a cluster, and another for another cluster (24 bits, not 0)."""
    return int.from_bytes(hashlib.sha256(ca).digest()[:3], "big") or 1


def peers_of(nodes: Iterable[Object], own: str, local: str) -> dict[str, Peer]:
    """The other machines' nodes, by name, for one whose address is `local`; those that make no
    sense are left out, as are those whose address is of another family. Pure."""
    known = {node["metadata"]["name"]: node for node in nodes}
    found = {}
    for name, node in known.items():
        carrier = _annotation(node, VIA) or name
        if own in (name, carrier) or carrier not in known:
            continue
        # By family: a node may have a share that its machine's first has no address for.
        gateways = {share.version: str(share[1]) for share in _shares(known[carrier])}
        ways = [
            Way(share, gateways[share.version])
            for share in _shares(node)
            if share.version in gateways
        ]
        underlay = _annotation(known[carrier], UNDERLAY)
        if ways and ways[0].share.version == 4 and _is_like(underlay, local):
            found[name] = Peer(tuple(ways), underlay)
    return found


def _annotation(node: Object, key: str) -> str:
    return str((node["metadata"].get("annotations") or {}).get(key) or "")


def _shares(node: Object) -> list[IPv4Network | IPv6Network]:
    """At most one of each family, IPv4 first."""
    found = {}
    for text in node["spec"].get("podCIDRs") or [node["spec"].get("podCIDR")]:
        with suppress(ValueError):
            share = ip_network(text or "")
            found[share.version] = share
    return [found[version] for version in sorted(found)]


def _is_like(text: str, local: str) -> bool:
    """Whether this is an address of the same family."""
    try:
        return ip_address(text).version == ip_address(local).version
    except ValueError:
        return False


def device_name(cluster: str) -> str:
    return OVERLAY_PREFIX + bridge_name(cluster)[2:]


class Overlay:
    """One machine's. `run` until cancelled; what is in the kernel stays then."""

    def __init__(
        self,
        informers: Informers,
        node: str,
        gateways: tuple[str, str],
        device: rtnetlink.Vxlan,
        run: Path,
    ) -> None:
        """`gateways` are the node's own, of IPv4 and IPv6 ("" where it has none); `device` has the
        MTU of the way out; `run` remembers how it was made."""
        self._nodes = informers.informer(api_resource("nodes"))
        self._node = node
        self._own = {4: gateways[0], 6: gateways[1]}
        self._device = device
        self._record = run / "overlay"
        self._wake = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="overlay")
        self._netlink: Netlink | None = None
        self._peers: dict[str, Peer] = {}
        self._index = 0
        self.ready = asyncio.Event()

    async def run(self) -> None:
        unsubscribe = self._nodes.on_change(self._changed)
        try:
            await self._nodes.synced()
            await self._call(self._open)
            while True:
                wanted = peers_of(self._nodes.list(), self._node, self._device.local)
                if wanted != self._peers or not self.ready.is_set():
                    await self._call(partial(self._apply, self._peers, wanted))
                    self._peers = wanted
                self.ready.set()
                await self._wake.wait()
                self._wake.clear()
        finally:
            unsubscribe()
            self._peers = {}
            self.ready.clear()
            await self._call(self._close)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        """Heartbeats change nothing here."""
        if old is None or new is None or _said(old) != _said(new):
            self._wake.set()

    async def _call(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, call)

    # On the worker thread.

    def _open(self) -> None:
        route = self._netlink = Netlink()
        name = self._device.name
        device = self._device
        made = f"{device.number} {device.local} {device.port} {device.mac.hex()}"
        known = self._record.read_text() if self._record.exists() else ""
        if known != made:
            with ignoring(errno.ENODEV):
                route.request(rtnetlink.delete_link(name))
        mtu = overlaid_mtu(uplink_mtu(route), device.local)
        with ignoring(errno.EEXIST):
            route.request(rtnetlink.new_vxlan(_with_mtu(self._device, mtu)))
        self._record.write_text(made)
        link = route.link(name)
        if link is None:
            raise NetlinkError(errno.ENODEV, f"{name}: gone as soon as made")
        self._index = link.index
        with ignoring(errno.EAFNOSUPPORT):
            route.request(rtnetlink.quieten(link.index))
        route.request(
            rtnetlink.set_ipv4_options(link.index, HOST_END),
            # What is masqueraded on its way out gets this address, whose answers come back here.
            *(rtnetlink.set_address(link.index, ip) for ip in self._own.values() if ip),
            rtnetlink.set_up(link.index),
        )

    def _close(self) -> None:
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def _apply(self, before: Mapping[str, Peer], wanted: Mapping[str, Peer]) -> None:
        assert self._netlink is not None
        route, index = self._netlink, self._index
        self._forget_routes(route, wanted)
        used = {(peer.mac, peer.underlay) for peer in wanted.values()}
        gateways = {way.gateway for peer in wanted.values() for way in self._ways(peer)}
        for peer in before.values():
            if (peer.mac, peer.underlay) not in used:
                with ignoring(errno.ENOENT):
                    route.request(rtnetlink.delete_forwarding(index, peer.mac, peer.underlay))
            for way in self._ways(peer):
                if way.gateway not in gateways:
                    with ignoring(errno.ENOENT):
                        route.request(rtnetlink.delete_neighbour(index, way.gateway))
        for name, peer in wanted.items():
            if before.get(name) != peer:
                self._reach(route, peer)

    def _forget_routes(self, route: Netlink, wanted: Mapping[str, Peer]) -> None:
        """Those out of the device that nobody wants any more."""
        ways = [way for peer in wanted.values() for way in self._ways(peer)]
        kept = {way.network for way in ways} | {(way.gateway, way.bits) for way in ways}
        found = route.routes(self._index)
        if self._own[6]:
            found += route.routes(self._index, socket.AF_INET6)
        # The kernel's own route to the device's address stays with that.
        kept.add((self._own[6], 128))
        for network, bits in found:
            if (network, bits) not in kept:
                with ignoring(errno.ESRCH):
                    route.request(rtnetlink.delete_any_route(network, bits, self._index))

    def _ways(self, peer: Peer) -> Iterator[Way]:
        """Those of the families that this node has."""
        return (way for way in peer.ways if self._own[way.share.version])

    def _reach(self, route: Netlink, peer: Peer) -> None:
        index = self._index
        messages = [rtnetlink.set_forwarding(index, peer.mac, peer.underlay)]
        for way in self._ways(peer):
            own = self._own[way.share.version]
            messages += (
                rtnetlink.set_neighbour(index, way.gateway, peer.mac),
                rtnetlink.set_route(way.gateway, way.bits, index, source=own),
                rtnetlink.set_route(*way.network, index, way.gateway, source=own),
            )
        route.request(*messages)


def _said(node: Object) -> tuple[object, ...]:
    shares = node["spec"].get("podCIDRs") or node["spec"].get("podCIDR")
    return shares, _annotation(node, UNDERLAY), _annotation(node, VIA)


def _with_mtu(device: rtnetlink.Vxlan, mtu: int) -> rtnetlink.Vxlan:
    return rtnetlink.Vxlan(device.name, device.mac, device.number, device.local, device.port, mtu)


def remove(cluster: str) -> None:
    """Take the device away, with all that leads to it."""
    with Netlink() as route, ignoring(errno.ENODEV):
        route.request(rtnetlink.delete_link(device_name(cluster)))
