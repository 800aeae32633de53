"""WireGuard devices: made and told their peers, by the kernel's own or a program in its stead.

The kernel's is configured by generic netlink (linux/wireguard.h), in messages that each fit into an
attribute's 64 KiB. Only what changes is told: a peer that is told of anew loses neither its keys
nor the address it was last heard from, unless it gets another. `wireguard-go` makes a TUN
device, lives until that is deleted, and listens at a socket for the same in text (the
cross-platform interface, https://www.wireguard.com/xplatform/).
"""

from __future__ import annotations

import base64
import errno
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path

from msgspec import Struct

from .netlink import NESTED, Message, Netlink, NetlinkError, attribute, attributes
from .rtnetlink import new_wireguard

PROGRAM = "wireguard-go"
SOCKETS = Path("/var/run/wireguard")
START_S = 10.0
ANSWER_MAX = 4096
KEEPALIVE_S = 25
"""A machine behind NAT is reached where it was last heard from, which routers forget after thirty
seconds (https://www.wireguard.com/quickstart/)."""
PEERS_A_MESSAGE = 100
"""Some 150 bytes each with a few networks; a node may carry 64 others, with two networks each."""
# linux/netlink.h, linux/genetlink.h
_GENERIC = 16
_CONTROL, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 0x10, 3, 1, 2
# linux/wireguard.h
_SET_DEVICE, _VERSION = 1, 1
_DEVICE_INDEX, _DEVICE_KEY, _DEVICE_FLAGS, _DEVICE_PORT, _DEVICE_PEERS = 1, 3, 5, 6, 8
_REPLACE_PEERS = 1
_PEER_KEY, _PEER_FLAGS, _PEER_ENDPOINT, _PEER_KEEPALIVE, _PEER_NETWORKS = 1, 3, 4, 5, 9
_REMOVE, _REPLACE_NETWORKS = 1, 2
_NETWORK_FAMILY, _NETWORK_ADDRESS, _NETWORK_BITS = 1, 2, 3

_GENERIC_HEAD = struct.Struct("=BBH")


class WireguardPeer(Struct, frozen=True):
    """One other machine."""

    key: str
    """Its public key, as `wg` writes it (base64)."""
    endpoint: tuple[str, int]
    networks: tuple[str, ...]
    """What comes from there, and goes there."""


class WireguardDevice(Struct, frozen=True):
    name: str
    private_key: str
    """As `wg` writes it."""
    port: int


def make(route: Netlink, name: str) -> bool:
    """Make the device; False where neither the kernel has WireGuard nor a program is there.
    Raises OSError."""
    try:
        route.request(new_wireguard(name))
    except NetlinkError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENODEV, errno.EAFNOSUPPORT):
            raise
    else:
        return True
    program = shutil.which(PROGRAM)
    if program is None:
        return False
    environment = {**os.environ, "LOG_LEVEL": "error"}
    done = subprocess.run(
        [program, name],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=START_S,
        check=False,
    )
    return done.returncode == 0


def configure(
    index: int,
    device: WireguardDevice,
    peers: Sequence[WireguardPeer],
    gone: Sequence[str] | None = (),
) -> None:
    """Give the device its key, its port, these peers and no more those with the keys `gone`; with
    None no others at all. Raises OSError."""
    path = SOCKETS / f"{device.name}.sock"
    if path.exists():
        # One that nobody listens at was left by a program that was killed: its device went too.
        with suppress(ConnectionRefusedError):
            _tell(path, text(device, peers, gone))
            return
    with Netlink(_GENERIC) as generic:
        family = _family(generic)
        # One after the other: together they may be more than the socket takes at once.
        for message in messages((family, index), device, peers, gone):
            generic.request(message)


def messages(
    where: tuple[int, int],
    device: WireguardDevice,
    peers: Sequence[WireguardPeer],
    gone: Sequence[str] | None = (),
) -> Iterator[Message]:
    """What the kernel is told, in order; `where` are the family's number and the device's. Pure."""
    family, index = where
    head = _GENERIC_HEAD.pack(_SET_DEVICE, _VERSION, 0) + _number(_DEVICE_INDEX, index)
    own = attribute(_DEVICE_KEY, base64.b64decode(device.private_key)) + attribute(
        _DEVICE_PORT, struct.pack("=H", device.port)
    )
    if gone is None:
        own += _number(_DEVICE_FLAGS, _REPLACE_PEERS)
    all_of_them = [*(_nest(0, *_gone(key)) for key in gone or ())]
    all_of_them += [_nest(0, *_peer(peer)) for peer in peers]
    for first in range(0, max(1, len(all_of_them)), PEERS_A_MESSAGE):
        told = _nest(_DEVICE_PEERS, *all_of_them[first : first + PEERS_A_MESSAGE])
        yield Message(family, 0, head + (b"" if first else own) + told)


def text(
    device: WireguardDevice, peers: Sequence[WireguardPeer], gone: Sequence[str] | None = ()
) -> str:
    """The same for a program's socket. Pure."""
    key = _hex(device.private_key)
    lines = ["set=1", f"private_key={key}", f"listen_port={device.port}"]
    if gone is None:
        lines.append("replace_peers=true")
    for old in gone or ():
        lines += [f"public_key={_hex(old)}", "remove=true"]
    for peer in peers:
        host, port = peer.endpoint
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines += [f"public_key={_hex(peer.key)}", f"endpoint={shown}"]
        lines += [f"persistent_keepalive_interval={KEEPALIVE_S}", "replace_allowed_ips=true"]
        lines += [f"allowed_ip={network}" for network in peer.networks]
    return "\n".join(lines) + "\n\n"


def _gone(key: str) -> Iterator[bytes]:
    yield attribute(_PEER_KEY, base64.b64decode(key))
    yield _number(_PEER_FLAGS, _REMOVE)


def _peer(peer: WireguardPeer) -> Iterator[bytes]:
    host, port = peer.endpoint
    yield attribute(_PEER_KEY, base64.b64decode(peer.key))
    yield _number(_PEER_FLAGS, _REPLACE_NETWORKS)
    if ":" in host:
        address = struct.pack("=HH", socket.AF_INET6, socket.htons(port)) + bytes(4)
        address += socket.inet_pton(socket.AF_INET6, host) + bytes(4)
    else:
        address = struct.pack("=HH", socket.AF_INET, socket.htons(port))
        address += socket.inet_aton(host) + bytes(8)
    yield attribute(_PEER_ENDPOINT, address)
    yield attribute(_PEER_KEEPALIVE, struct.pack("=H", KEEPALIVE_S))
    yield _nest(_PEER_NETWORKS, *(_nest(0, *_network(item)) for item in peer.networks))


def _network(item: str) -> Iterator[bytes]:
    network = ip_network(item)
    family = socket.AF_INET6 if network.version == 6 else socket.AF_INET
    yield attribute(_NETWORK_FAMILY, struct.pack("=H", family))
    yield attribute(_NETWORK_ADDRESS, network.network_address.packed)
    yield attribute(_NETWORK_BITS, bytes([network.prefixlen]))


def _family(generic: Netlink) -> int:
    head = _GENERIC_HEAD.pack(_GET_FAMILY, 1, 0)
    body = generic.ask(Message(_CONTROL, 0, head + attribute(_FAMILY_NAME, b"wireguard\0")))
    found: int = struct.unpack("=H", attributes(body[_GENERIC_HEAD.size :])[_FAMILY_ID])[0]
    return found


def _tell(path: Path, words: str) -> None:
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(START_S)
        link.connect(str(path))
        link.sendall(words.encode())
        answer = link.recv(ANSWER_MAX).decode()
    number = int(answer.partition("errno=")[2].split("\n", 1)[0] or 5)
    if number:
        raise OSError(abs(number), f"{path}: {os.strerror(abs(number))}")


def _nest(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | NESTED, b"".join(parts))


def _number(kind: int, number: int) -> bytes:
    return attribute(kind, struct.pack("=I", number))


def _hex(key: str) -> str:
    return base64.b64decode(key).hex()
