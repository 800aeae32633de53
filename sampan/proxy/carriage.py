"""What a listener of `loopback` has taken, on its way to a node port: connections and datagrams.

Tasks: one per connection until it is dialled; all else are protocols of the event loop. Bounds:
`CONNECTIONS_MAX` and `FLOWS_MAX` over all ports (one more is reset, or takes the place of the flow
that was silent longest); what one side does not take stays in its transport's buffer, above whose
high-water mark the other side is not read. A connection lives until both sides have ended it, a
flow of datagrams until it was silent for `FLOW_S`; connections outlive their listener, as those
that the kernel carries outlive their rules.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from typing import Any, cast

log = logging.getLogger("sampan.proxy")

# Each costs two descriptors and at most two buffers of 64 KiB: what a person's tools or a local
# balancer need, and far below the usual limit of descriptors.
CONNECTIONS_MAX = 400
FLOWS_MAX = 200
# As the kernel's own time-out of UDP flows that were answered (nf_conntrack_udp_timeout_stream).
FLOW_S = 120.0
# What is dialled is this node's own address; an endpoint that is silent for longer is away.
DIAL_S = 10.0
KEEPALIVE_S, KEEPALIVE_COUNT = 30, 4


class Carried:
    """All connections and flows on their way, oldest word first."""

    def __init__(self) -> None:
        self.callers: set[Caller] = set()
        self.flows: dict[Flow, None] = {}

    def abort(self) -> None:
        for caller in [*self.callers]:
            caller.abort()
        for flow in [*self.flows]:
            flow.close()


class Side(asyncio.Protocol):
    """One end of a carried connection: what arrives goes to `other`'s transport."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Side | None = None
        self.has_ended = False
        self.early = b""
        """What arrived before the other end was dialled, at most one read."""

    @property
    def onward(self) -> asyncio.Transport | None:
        """Where to send what arrives; None while there is nothing to send it to."""
        return self.other.transport if self.other is not None else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.onward is not None:
            self.onward.write(data)
            return
        # uvloop begins to read after `connection_made`, whatever that asked for.
        self.early += data
        if self.transport is not None:
            self.transport.pause_reading()

    def pause_writing(self) -> None:
        if self.onward is not None and not self.onward.is_closing():
            self.onward.pause_reading()

    def resume_writing(self) -> None:
        if self.onward is not None and not self.onward.is_closing():
            self.onward.resume_reading()

    def eof_received(self) -> bool:
        """One direction has ended: the other one goes on until it has, too."""
        self.has_ended = True
        other = self.other
        if self.onward is None or other is None:
            return True
        if self.onward.is_closing():
            return False
        if other.has_ended:
            self.onward.close()
            return False
        self.onward.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self.onward is None:
            return
        if exc is not None:
            reset(self.onward)
        else:
            # Closing sends what is buffered first, so the other side gets the last bytes.
            self.onward.close()


class Caller(Side):
    """A client's end; dials, and is not read before somebody has answered."""

    def __init__(self, target: tuple[str, int], carried: Carried) -> None:
        super().__init__()
        self._target = target
        self._carried = carried
        self._dialling: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if len(self._carried.callers) >= CONNECTIONS_MAX:
            reset(cast(asyncio.Transport, transport))
            return
        self._carried.callers.add(self)
        cast(asyncio.Transport, transport).pause_reading()
        self._dialling = asyncio.create_task(self._dial(), name="dial a node port")

    async def _dial(self) -> None:
        assert self.transport is not None
        side = self.other = Side()
        side.other = self
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(DIAL_S):
                await loop.create_connection(lambda: side, *self._target)
        except OSError:
            reset(self.transport)
            return
        dialled = cast(asyncio.Transport, side.transport)
        # Either may have ended meanwhile: who is dialled may hang up at once.
        if self.transport.is_closing() or dialled.is_closing():
            dialled.close()
            self.transport.close()
            return
        keep_alive(dialled)
        if self.early:
            dialled.write(self.early)
            self.early = b""
        if self.has_ended:
            dialled.write_eof()
        else:
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._carried.callers.discard(self)
        super().connection_lost(exc)

    def abort(self) -> None:
        if self._dialling is not None:
            self._dialling.cancel()
        if self.transport is not None:
            self.transport.abort()


class Datagrams(asyncio.DatagramProtocol):
    """A UDP port: each sender has a flow, whose answers it gets from here."""

    def __init__(self, target: tuple[str, int], carried: Carried) -> None:
        self._target = target
        self._carried = carried
        self._flows: dict[Any, Flow] = {}
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, sender: Any) -> None:
        flow = self._flows.get(sender)
        if flow is None:
            try:
                flow = self._flows[sender] = Flow(self, sender, self._target, self._carried)
            except OSError as error:
                log.debug("a datagram for port %d is lost: %s", self._target[1], error)
                return
        flow.send(data)

    def forget(self, sender: Any) -> None:
        self._flows.pop(sender, None)

    def connection_lost(self, exc: Exception | None) -> None:
        for flow in [*self._flows.values()]:
            flow.close()


class Flow:
    """One sender's datagrams, by a socket of their own."""

    def __init__(
        self, port: Datagrams, sender: Any, target: tuple[str, int], carried: Carried
    ) -> None:
        """Raises OSError."""
        if len(carried.flows) >= FLOWS_MAX:
            next(iter(carried.flows)).close()
        self._port, self._sender, self._carried = port, sender, carried
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        flags = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._sock = socket.socket(family, flags)
        self._loop = asyncio.get_running_loop()
        try:
            self._sock.connect(target)
        except OSError:
            self._sock.close()
            raise
        self._loop.add_reader(self._sock.fileno(), self._receive)
        self._spoken = self._loop.time()
        self._timer = self._loop.call_later(FLOW_S, self._look)
        carried.flows[self] = None

    def send(self, data: bytes) -> None:
        self._note()
        try:
            self._sock.send(data)
        except OSError as error:
            # Full, or nobody is there: datagrams may be lost.
            log.debug("a datagram is lost: %s", error)

    def close(self) -> None:
        if self._sock.fileno() < 0:
            return
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        self._timer.cancel()
        self._carried.flows.pop(self, None)
        self._port.forget(self._sender)

    def _receive(self) -> None:
        try:
            data = self._sock.recv(65536)
        except OSError:
            return
        self._note()
        transport = self._port.transport
        if transport is not None and not transport.is_closing():
            transport.sendto(data, self._sender)

    def _note(self) -> None:
        self._spoken = self._loop.time()
        self._carried.flows.pop(self, None)
        self._carried.flows[self] = None

    def _look(self) -> None:
        """One timer for each flow, set again by what it finds: a datagram costs none."""
        left = self._spoken + FLOW_S - self._loop.time()
        if left <= 0:
            self.close()
        else:
            self._timer = self._loop.call_later(left, self._look)


def keep_alive(transport: asyncio.Transport) -> None:
    """A pod that went without a word is noticed, and its connections do not stay for ever."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)


def reset(transport: asyncio.Transport) -> None:
    """End a connection as a refusal does: the peer gets an error, not an orderly end."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
