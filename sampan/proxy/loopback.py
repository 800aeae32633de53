"""Node ports at 127.0.0.1 and ::1: listeners of our own that carry what they get to the services.

The kernel's rules leave loopback addresses alone, as its routes do: a packet for one never leaves
the machine. So each node port that leads somewhere has a listener on loopback. It dials the same
port at the node's gateway address, where the rules choose an endpoint as for anybody else: policy,
affinity and readiness are said once. A port without endpoints has no listener: refused at once.

Queue: the doors that changed since the last `settle`. What is carried, and its bounds: `carriage`.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple

from .carriage import Caller, Carried, Datagrams
from .flows import leads
from .rules import Rules

log = logging.getLogger("sampan.proxy")

BACKLOG = 128
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_KIND = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}

Key = tuple[str, str]


class Door(NamedTuple):
    """A node port at the loopback address of a family."""

    version: int
    protocol: str
    port: int

    @property
    def address(self) -> str:
        return LOOPBACK[self.version]


def doors_of(rules: Rules, version: int) -> frozenset[Door]:
    """The node ports of a service that lead to endpoints. SCTP's are the kernel's rules' alone."""
    found = []
    for key, verdict in rules.nodeports.items():
        protocol, port = key.split(" . ")
        if leads(verdict) and protocol in _KIND:
            found.append(Door(version, protocol, int(port)))
    return frozenset(found)


class Doors:
    """The listeners of one node. `settle` opens and closes what has changed."""

    def __init__(
        self, gateways: Mapping[int, str], refused: Callable[[Key, Door, OSError], None]
    ) -> None:
        """`gateways`: version of IP -> the node's own address that is dialled. `refused` hears of a
        port of a service that is somebody else's, once until it could be opened."""
        self._gateways = gateways
        self._refused = refused
        self._wanted: dict[tuple[Key, int], frozenset[Door]] = {}
        self._owners: dict[Door, Key] = {}
        self._changed: set[Door] = set()
        self._failed: set[Door] = set()
        self._listeners: dict[Door, asyncio.Server | asyncio.DatagramTransport] = {}
        self._carried = Carried()

    def want(self, key: Key, version: int, rules: Rules) -> None:
        """The rules of a service in a family, from now on; `settle` opens what they lead to."""
        doors = doors_of(rules, version)
        old = self._wanted.get((key, version), frozenset())
        for door in old - doors:
            if self._owners.get(door) == key:
                del self._owners[door]
        for door in doors - old:
            self._owners[door] = key
        self._changed |= old ^ doors
        if doors:
            self._wanted[key, version] = doors
        else:
            self._wanted.pop((key, version), None)

    async def settle(self) -> None:
        """Ports that were somebody else's are tried again, too: nobody says when they are free."""
        if not self._changed:
            return
        changed, self._changed = self._changed | self._failed, set()
        for door in changed:
            key = self._owners.get(door)
            if key is None:
                self._failed.discard(door)
                self._close(door)
            elif door not in self._listeners:
                await self._open(key, door)

    async def _open(self, key: Key, door: Door) -> None:
        try:
            self._listeners[door] = await self._listen(door)
            self._failed.discard(door)
        except OSError as error:
            # A machine may have no ::1.
            if door not in self._failed and error.errno != errno.EADDRNOTAVAIL:
                log.warning("no listener at %s port %d for %s/%s: %s",
                            door.address, door.port, *key, error)  # fmt: skip
                self._refused(key, door, error)
            self._failed.add(door)

    def close(self) -> None:
        """The listeners and all that they carry."""
        for door in [*self._listeners]:
            self._close(door)
        self._wanted.clear()
        self._owners.clear()
        self._changed.clear()
        self._failed.clear()
        self._carried.abort()

    def _close(self, door: Door) -> None:
        listener = self._listeners.pop(door, None)
        if listener is not None:
            listener.close()

    async def _listen(self, door: Door) -> asyncio.Server | asyncio.DatagramTransport:
        """Raises OSError when the port is taken, or the address not there."""
        loop = asyncio.get_running_loop()
        sock = _bound(door)
        target = self._gateways[door.version], door.port
        if door.protocol == "tcp":
            return await loop.create_server(
                lambda: Caller(target, self._carried), sock=sock, backlog=BACKLOG
            )
        transport, _ = await loop.create_datagram_endpoint(
            lambda: Datagrams(target, self._carried), sock=sock
        )
        return transport


def _bound(door: Door) -> socket.socket:
    kind = _KIND[door.protocol]
    sock = socket.socket(_FAMILY[door.version], kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if kind == socket.SOCK_STREAM:
            # An agent that comes back finds connections of its predecessor in TIME_WAIT.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((door.address, door.port))
    except OSError:
        sock.close()
        raise
    return sock
