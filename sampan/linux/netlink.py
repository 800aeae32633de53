"""rtnetlink(7): a socket that carries requests to one network namespace.

A `Netlink` talks to the namespace of the thread that made it, whichever thread uses it later.
Calls block, for microseconds up to the few milliseconds in which the kernel holds its own lock:
keep them off the event loop. Messages are values, made by the functions of `rtnetlink`; several
sent in one `request` cost one system call. pyroute2 says the same in more words, but takes 0.5 s
and 28 MB to import, which is half of what a whole cluster may take to boot.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from types import TracebackType

from msgspec import Struct

# linux/netlink.h
NETFILTER = 12
ERROR, DONE = 2, 3
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
NESTED = 0x8000
HEADER = struct.Struct("=IHHII")
# Nothing in the kernel takes this long; a silent socket is a bug, and must not hang the agent.
TIMEOUT_S = 10
_DUMP_INTERRUPTED = 0x10
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_ACK_TLVS = 0x200
# linux/rtnetlink.h and linux/if_link.h
_GETLINK, _GETROUTE = 18, 26
_TABLE_MAIN, _UNICAST = 254, 1
_IFLA_IFNAME, _IFLA_MTU = 3, 4
_RTA_DESTINATION, _RTA_DEVICE = 1, 4
_IFF_UP = 0x1

_LINK = struct.Struct("=BxHiII")
_ROUTE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_INT = struct.Struct("=i")

# A dump comes in datagrams of at most 32 KiB (netlink_dump in the kernel).
_DATAGRAM_BYTES = 65536


class NetlinkError(OSError):
    """The kernel refused a message; the text is its own where it gives one."""


class ignoring:  # noqa: N801 - reads as the statement it is
    """Swallow a NetlinkError with one errno."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        return isinstance(error, NetlinkError) and error.errno == self._number


class Message(Struct, frozen=True):
    """One request: its type, flags beyond REQUEST and ACK, and its payload."""

    kind: int
    flags: int
    payload: bytes


class Link(Struct, frozen=True):
    """A network device as the kernel lists it."""

    index: int
    name: str
    mtu: int
    up: bool


class Netlink:
    """A socket to the namespace of the calling thread. One thread uses it at a time."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
        )
        self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        self._socket.settimeout(TIMEOUT_S)
        self._sequence = 0
        self._outbox: list[bytes] = []

    def __enter__(self) -> Netlink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def request(self, *messages: Message) -> None:
        """Carry out messages in order. All are tried; the first failure is raised."""
        first = self._sequence + 1
        for message in messages:
            self._send_later(message, REQUEST | ACK)
        self._flush()
        waiting = set(range(first, self._sequence + 1))
        failure: NetlinkError | None = None
        while waiting:
            for kind, flags, sequence, body in self._receive():
                if sequence not in waiting or kind != ERROR:
                    continue
                waiting.discard(sequence)
                failure = failure or _failure(flags, body)
        if failure is not None:
            raise failure

    def link(self, name: str) -> Link | None:
        """The device of that name."""
        payload = _LINK.pack(0, 0, 0, 0, 0) + attribute(_IFLA_IFNAME, name.encode() + b"\0")
        try:
            body = self.ask(Message(_GETLINK, 0, payload))
        except NetlinkError as error:
            if error.errno in (errno.ENODEV, errno.ENOENT):
                return None
            raise
        return _parse_link(body)

    def ask(self, message: Message) -> bytes:
        """The one message that answers. Raises NetlinkError when it is refused, or there is
        none."""
        self._send_later(message, REQUEST)
        self._flush()
        while True:
            for kind, flags, sequence, body in self._receive():
                if sequence == self._sequence:
                    if kind == ERROR:
                        raise _failure(flags, body) or NetlinkError(errno.ENOENT, "no answer")
                    return body

    def links(self) -> Sequence[Link]:
        """Every device of the namespace."""
        dump = Message(_GETLINK, 0, _LINK.pack(0, 0, 0, 0, 0))
        return [_parse_link(body) for body in self._dump(dump)]

    def default_route_device(self) -> int:
        """Index of the device of the first IPv4 default route of the main table; 0: none."""
        query = _ROUTE.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
        for body in self._dump(Message(_GETROUTE, 0, query)):
            route = _ROUTE.unpack_from(body)
            if route[1] == 0 and route[4] == _TABLE_MAIN and route[7] == _UNICAST:
                found = attributes(body[_ROUTE.size :]).get(_RTA_DEVICE)
                if found is not None:
                    return int(_INT.unpack(found)[0])
        return 0

    def routes(self, device: int, family: int = socket.AF_INET) -> list[tuple[str, int]]:
        """(network, bits) of a family's routes of the main table that leave by a device."""
        found = []
        query = _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        nowhere = bytes(16 if family == socket.AF_INET6 else 4)
        for body in self._dump(Message(_GETROUTE, 0, query)):
            route = _ROUTE.unpack_from(body)
            said = attributes(body[_ROUTE.size :])
            out = said.get(_RTA_DEVICE)
            if route[4] == _TABLE_MAIN and out is not None and _INT.unpack(out)[0] == device:
                network = said.get(_RTA_DESTINATION, nowhere)
                found.append((socket.inet_ntop(family, network), route[1]))
        return found

    def _send_later(self, message: Message, flags: int) -> None:
        self._sequence += 1
        size = HEADER.size + len(message.payload)
        head = HEADER.pack(size, message.kind, message.flags | flags, self._sequence, 0)
        self._outbox += (head, message.payload)

    def _flush(self) -> None:
        data = b"".join(self._outbox)
        self._outbox.clear()
        self._socket.send(data)

    def _dump(self, message: Message) -> list[bytes]:
        """Everything the kernel lists, read to its end: a dump left unread would make the next
        one fail (EBUSY). One that a change ran into may be inconsistent and is asked for again."""
        while True:
            bodies, interrupted = self._dump_once(message)
            if not interrupted:
                return bodies

    def _dump_once(self, message: Message) -> tuple[list[bytes], bool]:
        self._send_later(message, REQUEST | DUMP)
        self._flush()
        bodies: list[bytes] = []
        interrupted = False
        while True:
            for kind, flags, sequence, body in self._receive():
                if sequence != self._sequence:
                    continue
                interrupted = interrupted or bool(flags & _DUMP_INTERRUPTED)
                if kind == DONE:
                    return bodies, interrupted
                if kind == ERROR:
                    raise _failure(flags, body) or NetlinkError(5, "a dump ended early")
                bodies.append(body)

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        """(type, flags, sequence, body) of each message of one datagram."""
        yield from messages_of(self._socket.recv(_DATAGRAM_BYTES))


def _failure(flags: int, body: bytes) -> NetlinkError | None:
    number = -_INT.unpack_from(body)[0]
    if number == 0:
        return None
    text = os.strerror(number)
    if flags & _ACK_TLVS:
        # With CAP_ACK only the header of the refused message comes back, then the attributes.
        said = attributes(body[_INT.size + HEADER.size :]).get(1)
        if said:
            text = f"{text}: {said.rstrip(bytes(1)).decode(errors='replace')}"
    return NetlinkError(number, text)


def _parse_link(body: bytes) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    found = attributes(body[_LINK.size :])
    name = found[_IFLA_IFNAME].rstrip(b"\0").decode()
    mtu = _INT.unpack(found[_IFLA_MTU])[0] if _IFLA_MTU in found else 0
    return Link(index, name, mtu, bool(flags & _IFF_UP))


def netfilter_socket() -> socket.socket:
    """A socket to nftables and connection tracking, of the calling thread's namespace."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETFILTER)
    sock.settimeout(TIMEOUT_S)
    return sock


def messages_of(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, sequence, body) of each message of a datagram."""
    offset = 0
    while offset + HEADER.size <= len(data):
        size, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        if size < HEADER.size:
            return
        yield kind, flags, sequence, data[offset + HEADER.size : offset + size]
        offset += (size + 3) & ~3


def refusal_of(body: bytes) -> int:
    """The errno of a message of type ERROR; 0 when it acknowledges."""
    return -int(_INT.unpack_from(body)[0])


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes of a message by type, without the nesting and byte-order flags."""
    out: dict[int, bytes] = {}
    offset = 0
    while offset + 4 <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < 4:
            break
        out[kind & 0x3FFF] = data[offset + 4 : offset + size]
        offset += (size + 3) & ~3
    return out


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute of a message, padded as the kernel wants it."""
    size = 4 + len(data)
    return _ATTRIBUTE.pack(size, kind) + data + bytes(-size % 4)
