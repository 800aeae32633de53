"""Connection tracking: its limits, flows to forget whose destination was rewritten and is gone, and
marks on flows.

UDP has no end of connection. As long as a client keeps sending, its flow keeps the endpoint that
was chosen first, even when that is no more; so the flow has to be forgotten. Calls block for
as long as the kernel takes to walk its table: use a worker thread.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
import sys
from collections.abc import Container, Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from .netlink import (
    ACK,
    DONE,
    DUMP,
    ERROR,
    HEADER,
    NESTED,
    REQUEST,
    attribute,
    attributes,
    messages_of,
    netfilter_socket,
    refusal_of,
)

log = logging.getLogger("sampan.network")

LIMITS = Path("/proc/sys/net/netfilter")
# As kube-proxy has them (--conntrack-tcp-timeout-close-wait, --conntrack-min,
# --conntrack-max-per-core). By the kernel's own minute half-closed connections through a service
# are cut while a backend is thinking.
CLOSE_WAIT_S = 3600
ENTRIES, ENTRIES_PER_PROCESSOR = 131_072, 32_768
_CHANGE, _GET, _DELETE = 1 << 8, 1 << 8 | 1, 1 << 8 | 2
_TUPLE_ORIG, _TUPLE_REPLY, _MARK, _MARK_MASK, _FILTER = 1, 2, 8, 21, 25
_TUPLE_IP, _TUPLE_PROTO = 1, 2
# By version of the address.
_IP_SRC, _IP_DST = {4: 1, 6: 3}, {4: 2, 6: 4}
_PROTO_NUM, _PORT_SRC, _PORT_DST = 1, 2, 3
# Which parts of a tuple the kernel is to compare (nf_conntrack_netlink.c).
_BY_SRC, _BY_DST, _BY_NUM, _BY_PORT_SRC, _BY_PORT_DST = 1 << 0, 1 << 1, 1 << 3, 1 << 4, 1 << 5
_GENERIC = {
    version: struct.pack("=BBH", family, 0, 0)
    for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6))
}

UDP = 17


def raise_limits(folder: Path = LIMITS, processors: int | None = None) -> None:
    """Those of a machine that are higher stay; so does what may not be written (the number of
    entries is the machine's, not a network namespace's)."""
    count = processors or os.cpu_count() or 1
    for name, least in (
        ("nf_conntrack_tcp_timeout_close_wait", CLOSE_WAIT_S),
        ("nf_conntrack_max", max(ENTRIES, ENTRIES_PER_PROCESSOR * count)),
    ):
        path = folder / name
        try:
            if int(path.read_text()) < least:
                path.write_text(str(least))
        except (OSError, ValueError) as error:
            log.debug("%s stays as it is: %s", name, error)


class Flow(NamedTuple):
    """Flows of a protocol that were sent to `ip` (any, if "") and `port`; with `answered`, those
    that are answered from there, whatever address they were sent to."""

    ip: str
    port: int
    answered: bool
    protocol: int = UDP
    version: int = 4
    """Of the address."""


def forget(flows: Iterable[Flow]) -> int:
    """Delete what the kernel remembers of these; how many there were. Raises OSError."""
    count = 0
    with netfilter_socket() as ask, netfilter_socket() as delete:
        for flow in flows:
            for original in [*_find(ask, flow)]:
                count += _delete(delete, original, flow.version)
    return count


class Tracked(NamedTuple):
    """A connection as it was begun, but at the address and port that it was led to."""

    source: bytes
    target: bytes
    """Packed addresses."""
    protocol: int
    port: int
    """At the target; 0 where the protocol has none."""
    mark: int
    original: bytes
    """As the kernel names it."""


def tracked(version: int, about: Container[bytes] | None = None) -> Iterator[Tracked]:
    """All connections of a family; with `about` those from or to any of these packed addresses.
    Raises OSError."""
    with netfilter_socket() as sock:
        for body in _dump(sock, _GENERIC[version]):
            if about is None or any(item in about for item in _sources(body, version)):
                found = attributes(body[4:])
                original = found.get(_TUPLE_ORIG, b"")
                source, *_ = _ends(original, version)
                target, protocol, port = _ends(found.get(_TUPLE_REPLY, b""), version)
                mark = int.from_bytes(found.get(_MARK, b""), "big")
                yield Tracked(source, target, protocol, port, mark, original)


def _sources(body: bytes, version: int) -> Iterator[bytes]:
    """Whence the packets of either direction come, without reading all: both tuples stand first,
    and their addresses first in them (ctnetlink_fill_info)."""
    size, start = (4 if version == 4 else 16), 4
    for _ in range(2):
        yield body[start + 12 : start + 12 + size]
        start += (int.from_bytes(body[start : start + 2], sys.byteorder) + 3) & ~3


def _ends(tuple_: bytes, version: int) -> tuple[bytes, int, int]:
    """Source, protocol and source port."""
    parts = attributes(tuple_)
    source = attributes(parts.get(_TUPLE_IP, b"")).get(_IP_SRC[version], b"")
    ports = attributes(parts.get(_TUPLE_PROTO, b""))
    port = int.from_bytes(ports.get(_PORT_SRC, b""), "big")
    return source, int.from_bytes(ports.get(_PROTO_NUM, b""), "big"), port


def set_marks(wanted: Iterable[tuple[bytes, int]], mask: int, version: int) -> int:
    """Give connections (by their `original`) the bits of `mask` that are in their number; how many
    were still there. Raises OSError."""
    count = 0
    with netfilter_socket() as sock:
        for original, bits in wanted:
            body = _GENERIC[version] + _nest(_TUPLE_ORIG, original)
            body += attribute(_MARK, bits.to_bytes(4, "big"))
            body += attribute(_MARK_MASK, mask.to_bytes(4, "big"))
            count += _ask(sock, _CHANGE, body)
    return count


def _find(sock: socket.socket, flow: Flow) -> Iterator[bytes]:
    """The original tuple of each flow, as the kernel writes it."""
    for body in _dump(sock, _GENERIC[flow.version] + _wanted(flow)):
        # Kernels before 5.8 do not filter, so look again.
        found = attributes(body[4:])
        original = found.get(_TUPLE_ORIG, b"")
        tuple_ = found.get(_TUPLE_REPLY, b"") if flow.answered else original
        if _matches(tuple_, flow):
            yield original


def _dump(sock: socket.socket, asked: bytes) -> Iterator[bytes]:
    _send(sock, _GET, REQUEST | DUMP, asked)
    while True:
        for kind, _, _, body in messages_of(sock.recv(65536)):
            if kind == DONE:
                return
            if kind == ERROR:
                _raise(body)
            yield body


def _wanted(flow: Flow) -> bytes:
    """The filter: a tuple, and which of its parts count."""
    ip_kind, port_kind = _kinds(flow)
    flags = _BY_NUM | (_BY_PORT_SRC if flow.answered else _BY_PORT_DST)
    address = b""
    if flow.ip:
        flags |= _BY_SRC if flow.answered else _BY_DST
        address = attribute(ip_kind, ip_address(flow.ip).packed)
    ports = attribute(_PROTO_NUM, bytes([flow.protocol])) + attribute(
        port_kind, flow.port.to_bytes(2, "big")
    )
    parts = _nest(_TUPLE_IP, address) + _nest(_TUPLE_PROTO, ports)
    both = (0, flags) if flow.answered else (flags, 0)
    compare = b"".join(
        attribute(kind, struct.pack("=I", value)) for kind, value in enumerate(both, 1)
    )
    tuple_kind = _TUPLE_REPLY if flow.answered else _TUPLE_ORIG
    return _nest(tuple_kind, parts) + _nest(_FILTER, compare)


def _kinds(flow: Flow) -> tuple[int, int]:
    """Which attributes of a tuple count: its address and its port."""
    if flow.answered:
        return _IP_SRC[flow.version], _PORT_SRC
    return _IP_DST[flow.version], _PORT_DST


def _matches(tuple_: bytes, flow: Flow) -> bool:
    parts = attributes(tuple_)
    addresses = attributes(parts.get(_TUPLE_IP, b""))
    ports = attributes(parts.get(_TUPLE_PROTO, b""))
    ip_kind, port_kind = _kinds(flow)
    return (
        ports.get(_PROTO_NUM) == bytes([flow.protocol])
        and ports.get(port_kind) == flow.port.to_bytes(2, "big")
        and (not flow.ip or addresses.get(ip_kind) == ip_address(flow.ip).packed)
    )


def _delete(sock: socket.socket, original: bytes, version: int) -> int:
    return _ask(sock, _DELETE, _GENERIC[version] + _nest(_TUPLE_ORIG, original))


def _ask(sock: socket.socket, kind: int, asked: bytes) -> int:
    """0 for what is not there any more."""
    _send(sock, kind, REQUEST | ACK, asked)
    for *_, body in messages_of(sock.recv(65536)):
        if refusal_of(body) == errno.ENOENT:
            return 0
        _raise(body)
    return 1


def _send(sock: socket.socket, kind: int, flags: int, body: bytes) -> None:
    sock.send(HEADER.pack(HEADER.size + len(body), kind, flags, 1, 0) + body)


def _raise(body: bytes) -> None:
    number = refusal_of(body)
    if number:
        raise OSError(number, os.strerror(number), "conntrack")


def _nest(kind: int, data: bytes) -> bytes:
    return attribute(kind | NESTED, data)
