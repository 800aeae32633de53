"""Pod networks of other machines: what is where is known from Node objects alone.

A node says with `UNDERLAY` which address of its machine others reach; one that shares a machine
with another says with `VIA` by whose (`uplink`). Machines that both have a key of WireGuard
(`WIREGUARD`) talk by that (`wireguard`), others by VXLAN (`vxlan`), which encrypts nothing and
proves no sender: the network between these must be trusted. Two machines behind NAT, each at its
own place (`SEEN`), talk by WireGuard with a third, which passes on what each has for the other.

Tasks: `run`, woken by the informer of nodes; kernel calls run on one worker thread, in order. No
queue: what has changed since is one step.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
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
from sampan.linux.netlink import Netlink, ignoring
from sampan.linux.wireguard import WireguardDevice

from .plumbing import OVERLAY_PREFIX, bridge_name
from .vxlan import VxlanEnd
from .ways import Own, Peer, Way
from .wireguard import Keys, WireguardEnd, port_of

UNDERLAY = "network.sampan.io/underlay"
VIA = "network.sampan.io/via"
WIREGUARD = "network.sampan.io/wireguard"
WIREGUARD_PORT = "network.sampan.io/wireguard-port"
SEEN = "network.sampan.io/seen"
"""From where the server hears a machine that is behind NAT; others have none."""
_ANNOTATIONS = (UNDERLAY, VIA, WIREGUARD, WIREGUARD_PORT, SEEN)
_SERVER = "node-role.kubernetes.io/control-plane"
PORT = 8472
"""VXLAN's: Linux' own and flannel's; the number keeps clusters apart that share a machine."""

T = TypeVar("T")


class Place(Struct, frozen=True):
    """Of this node: its name, its gateway addresses of IPv4 and IPv6 ("" for none), where what was
    made is remembered, and its keys where it may use them."""

    node: str
    gateways: tuple[str, str]
    run: Path
    keys: Keys | None = None
    port: int = 0
    """Where it is heard by WireGuard; 0 for the cluster's own."""


def network_number(ca: bytes) -> int:
    """The same on every node of a cluster, and another for another cluster (24 bits, not 0)."""
    return int.from_bytes(hashlib.sha256(ca).digest()[:3], "big") or 1


def peers_of(nodes: Iterable[Object], own: str, local: str) -> dict[str, Peer]:
    """The other machines' nodes, by name, for one whose address is `local`; those that make no
    sense are left out, as are those whose address is of another family. Pure."""
    known = {node["metadata"]["name"]: node for node in nodes}
    relay = _relay(known.values(), local)
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
        reached = known[carrier]
        if relay is not None and own in known and _are_apart(known[own], reached):
            reached = relay
        underlay = _annotation(reached, UNDERLAY)
        if ways and ways[0].share.version == 4 and _is_like(underlay, local):
            key = _annotation(reached, WIREGUARD)
            port = port_in(_annotation(reached, WIREGUARD_PORT))
            found[name] = Peer(tuple(ways), underlay, key if is_key(key) else "", port)
    return found


def _are_apart(one: Object, other: Object) -> bool:
    """Are both behind NAT, at places of their own? Neither can call the other then."""
    places = _annotation(one, SEEN), _annotation(other, SEEN)
    keys = _annotation(one, WIREGUARD), _annotation(other, WIREGUARD)
    return all(places) and all(keys) and places[0] != places[1]


def _relay(nodes: Iterable[Object], local: str) -> Object | None:
    """The machine that passes packets on between those: one that all can call, the server's before
    others; both ends choose alike, by what all nodes know."""
    found = [
        node
        for node in nodes
        if is_key(_annotation(node, WIREGUARD))
        and not _annotation(node, SEEN)
        and _is_like(_annotation(node, UNDERLAY), local)
    ]

    def rank(node: Object) -> tuple[bool, str]:
        meta = node["metadata"]
        return _SERVER not in (meta.get("labels") or {}), meta["name"]

    return min(found, key=rank, default=None)


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


def is_key(text: str) -> bool:
    """Is this a key as `wg` writes it?"""
    try:
        return len(base64.b64decode(text, validate=True)) == 32
    except ValueError:
        return False


def port_in(text: str) -> int:
    """A UDP port, or 0 for what is none."""
    return int(text) if text.isascii() and text.isdigit() and int(text) < 65536 else 0


def device_name(cluster: str) -> str:
    return OVERLAY_PREFIX + bridge_name(cluster)[2:]


class Overlay:
    """One machine's. `run` until cancelled; what is in the kernel stays then."""

    def __init__(
        self,
        informers: Informers,
        place: Place,
        device: rtnetlink.Vxlan,
        announce: Callable[[Mapping[str, str | None]], Awaitable[object]],
    ) -> None:
        """`announce` writes annotations into the Node, or takes them out of it."""
        self._nodes = informers.informer(api_resource("nodes"))
        self._node = place.node
        self._local = device.local
        own = Own(dict(zip((4, 6), place.gateways, strict=True)))
        self._plain = VxlanEnd(own, device, place.run / "overlay")
        self._said: dict[str, str | None] = {WIREGUARD: None, WIREGUARD_PORT: None, SEEN: None}
        self._secure: WireguardEnd | None = None
        self._secure_name = secure_name(device.name)
        if place.keys is not None:
            port = port_of(device.number)
            self._said[WIREGUARD] = place.keys.public
            self._said[WIREGUARD_PORT] = str(place.port) if place.port else None
            inner = WireguardDevice(self._secure_name, place.keys.private, place.port or port)
            record = place.run / "wireguard"
            self._secure = WireguardEnd(own, inner, device.local, record, port=port)
        self._announce = announce
        self._wake = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="overlay")
        self._netlink: Netlink | None = None
        self._peers: dict[str, Peer] = {}
        self.ready = asyncio.Event()

    async def run(self) -> None:
        unsubscribe = self._nodes.on_change(self._changed)
        try:
            await self._nodes.synced()
            await self._call(self._open)
            while True:
                wanted = peers_of(self._nodes.list(), self._node, self._local)
                if wanted != self._peers or not self.ready.is_set():
                    await self._call(partial(self._apply, self._peers, wanted))
                    self._peers = wanted
                self.ready.set()
                # After the device listens: others send there as soon as they hear of it.
                node = self._nodes.get("", self._node)
                if node is not None and any(
                    (_annotation(node, key) or None) != value for key, value in self._said.items()
                ):
                    await self._announce(self._said)
                await self._wake.wait()
                self._wake.clear()
        finally:
            unsubscribe()
            self._peers = {}
            self.ready.clear()
            await self._call(self._close)

    def seen(self, ip: str) -> None:
        """From where the server hears this machine."""
        self._said[SEEN] = ip if ip and ip != self._local else None
        self._wake.set()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        """Heartbeats change nothing here."""
        if old is None or new is None or _said(old) != _said(new):
            self._wake.set()

    async def _call(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, call)

    # On the worker thread.

    def _open(self) -> None:
        route = self._netlink = Netlink()
        self._plain.open(route)
        if self._secure is None:
            # Switched off since it was made.
            with ignoring(errno.ENODEV):
                route.request(rtnetlink.delete_link(self._secure_name))
        elif not self._secure.open(route):
            self._secure = None
            self._said |= {WIREGUARD: None, WIREGUARD_PORT: None}

    def _close(self) -> None:
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def _apply(self, before: Mapping[str, Peer], wanted: Mapping[str, Peer]) -> None:
        assert self._netlink is not None
        secure = self._secure
        # What moves from one to the other is added there before it is taken from here.
        ends = ((secure, True), (self._plain, False)) if secure else ((self._plain, False),)
        for end, keyed in ends:
            assert end is not None
            had, has = (
                {
                    name: peer
                    for name, peer in peers.items()
                    if (secure is not None and bool(peer.key)) is keyed
                }
                for peers in (before, wanted)
            )
            end.apply(self._netlink, had, has)


def _said(node: Object) -> tuple[object, ...]:
    shares = node["spec"].get("podCIDRs") or node["spec"].get("podCIDR")
    return shares, *(_annotation(node, key) for key in _ANNOTATIONS)


def secure_name(plain: str) -> str:
    """The device of WireGuard beside that of VXLAN."""
    return f"{OVERLAY_PREFIX}~{plain[len(OVERLAY_PREFIX) + 1 :]}"


def remove(cluster: str) -> None:
    """Take the devices away, with all that leads to them."""
    name = device_name(cluster)
    for device in (name, secure_name(name)):
        with Netlink() as route, ignoring(errno.ENODEV):
            route.request(rtnetlink.delete_link(device))
