"""Pod networks of other machines, by VXLAN: what is where is known from Node objects alone.

    sx-C   the overlay's device; hardware address after the node's gateway address
    for each other machine: its share by way of its gateway address, whose hardware address is a
    fixed entry, and that is a fixed entry to the machine's own address. Nothing is learnt, no
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
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from sampan.api.errors import Object
from sampan.api.resources import api_resource
from sampan.client.informer import Informers
from sampan.linux import rtnetlink
from sampan.linux.netlink import Netlink, NetlinkError, ignoring

from .plumbing import HOST_END, OVERLAY_PREFIX, bridge_name, pod_mac, uplink_mtu

UNDERLAY = "network.sampan.io/underlay"
VIA = "network.sampan.io/via"
PORT = 8472
"""Linux' own and flannel's; the number keeps clusters apart that share a machine."""
OVERHEAD_BYTES = 50
"""Of VXLAN over IPv4 per packet."""

T = TypeVar("T")


class Peer(Struct, frozen=True):
    """How the pods of one other node are reached."""

    share: IPv4Network
    gateway: str
    """Of the machine's first node, who passes it on."""
    underlay: str

    @property
    def mac(self) -> bytes:
        return pod_mac(self.gateway)


def network_number(ca: bytes) -> int:
    """The same on every node of a cluster, and another for another cluster (24 bits, not 0)."""
    return int.from_bytes(hashlib.sha256(ca).digest()[:3], "big") or 1


def peers_of(nodes: Iterable[Object], own: str) -> dict[str, Peer]:
    """The other machines' nodes, by name; those that make no sense are left out. Pure."""
    known = {node["metadata"]["name"]: node for node in nodes}
    found = {}
    for name, node in known.items():
        carrier = _annotation(node, VIA) or name
        if own in (name, carrier) or carrier not in known:
            continue
        share, gateway = _share(node), _share(known[carrier])
        underlay = _address(_annotation(known[carrier], UNDERLAY))
        if share is not None and gateway is not None and underlay:
            found[name] = Peer(share, str(gateway[1]), underlay)
    return found


def _annotation(node: Object, key: str) -> str:
    return str((node["metadata"].get("annotations") or {}).get(key) or "")


def _share(node: Object) -> IPv4Network | None:
    try:
        return IPv4Network(node["spec"].get("podCIDR") or "")
    except ValueError:
        return None


def _address(text: str) -> str:
    try:
        return str(IPv4Address(text))
    except AddressValueError:
        return ""


def device_name(cluster: str) -> str:
    return OVERLAY_PREFIX + bridge_name(cluster)[2:]


class Overlay:
    """One machine's. `run` until cancelled; what is in the kernel stays then."""

    def __init__(
        self, informers: Informers, node: str, gateway: str, device: rtnetlink.Vxlan, run: Path
    ) -> None:
        """`device` has the MTU of the way out; `run` remembers how it was made."""
        self._nodes = informers.informer(api_resource("nodes"))
        self._node = node
        self._gateway = gateway
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
                wanted = peers_of(self._nodes.list(), self._node)
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
        mtu = uplink_mtu(route) - OVERHEAD_BYTES
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
            rtnetlink.set_address(link.index, self._gateway),
            rtnetlink.set_up(link.index),
        )

    def _close(self) -> None:
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def _apply(self, before: Mapping[str, Peer], wanted: Mapping[str, Peer]) -> None:
        assert self._netlink is not None
        route, index = self._netlink, self._index
        kept = {_network(peer.share) for peer in wanted.values()}
        kept |= {(peer.gateway, 32) for peer in wanted.values()}
        for network, bits in route.routes(index):
            if (network, bits) not in kept:
                with ignoring(errno.ESRCH):
                    route.request(rtnetlink.delete_any_route(network, bits, index))
        used = {(peer.gateway, peer.underlay) for peer in wanted.values()}
        for peer in before.values():
            if (peer.gateway, peer.underlay) not in used:
                with ignoring(errno.ENOENT):
                    route.request(rtnetlink.delete_forwarding(index, peer.mac, peer.underlay))
                if not any(peer.gateway == gateway for gateway, _ in used):
                    with ignoring(errno.ENOENT):
                        route.request(rtnetlink.delete_neighbour(index, peer.gateway))
        for name, peer in wanted.items():
            if before.get(name) != peer:
                self._reach(route, peer)

    def _reach(self, route: Netlink, peer: Peer) -> None:
        index = self._index
        route.request(
            rtnetlink.set_forwarding(index, peer.mac, peer.underlay),
            rtnetlink.set_neighbour(index, peer.gateway, peer.mac),
            rtnetlink.set_route(peer.gateway, 32, index, source=self._gateway),
            rtnetlink.set_route(*_network(peer.share), index, peer.gateway, source=self._gateway),
        )


def _said(node: Object) -> tuple[str, str, str]:
    share = node["spec"].get("podCIDR") or ""
    return share, _annotation(node, UNDERLAY), _annotation(node, VIA)


def _network(share: IPv4Network) -> tuple[str, int]:
    return str(share.network_address), share.prefixlen


def _with_mtu(device: rtnetlink.Vxlan, mtu: int) -> rtnetlink.Vxlan:
    return rtnetlink.Vxlan(device.name, device.mac, device.number, device.local, device.port, mtu)


def remove(cluster: str) -> None:
    """Take the device away, with all that leads to it."""
    with Netlink() as route, ignoring(errno.ENODEV):
        route.request(rtnetlink.delete_link(device_name(cluster)))
