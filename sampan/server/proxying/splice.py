"""Two connections made one, after a backend has agreed to switch protocols.

Only when the backend answers 101 are the two joined, byte for byte, whatever the protocol. Any
other answer is passed on (or turned into an error) and both connections are closed: a failed
upgrade never leaves a connection to the backend in the client's hands (CVE-2018-1002105).

Bounds: what one side does not take stays in its transport's write buffer, and above that buffer's
high-water mark the other side is not read. A head is at most `HEAD_MAX` and must come within
`HEAD_S`; a refusal's body is passed on up to `REFUSAL_MAX`, for at most `REFUSAL_S`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import NamedTuple, cast

import orjson

from sampan.api.errors import InternalError, ServiceUnavailable, StatusError

from .backend import UNREACHABLE, dial
from .target import Target

HEAD_S = 30.0
HEAD_MAX = 64 << 10
REFUSAL_MAX = 1 << 20
REFUSAL_S = 10.0
"""As upstream, which then cuts the connection."""
KEEPALIVE_S, KEEPALIVE_COUNT = 30, 4
"""A peer that vanished without a word is given up after two and a half minutes."""
SIDE_MAX = 256 << 10
"""Of what arrives before the two sides are joined; a client that sends more is not read."""


class Side(asyncio.Protocol):
    """One side of a splice: what arrives goes to `other` once there is one."""

    def __init__(self) -> None:
        self.other: asyncio.Transport | None = None
        self.early = bytearray()
        """What arrived before there was another side."""
        self.arrived = asyncio.Event()
        self.lost = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.write(data)
            return
        self.early += data
        if len(self.early) > SIDE_MAX and self._transport is not None:
            self._transport.pause_reading()
        self.arrived.set()

    def pause_writing(self) -> None:
        if self.other is not None and not self.other.is_closing():
            self.other.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and not self.other.is_closing():
            self.other.resume_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        # Closing sends what is buffered first, so the other side gets the last bytes.
        if self.other is not None:
            self.other.close()
        self.arrived.set()
        self.lost.set()


class Head(NamedTuple):
    """Of a backend's answer, which stays in the side's `early`."""

    status: int
    end: int
    """Its length."""


Refuse = Callable[[Side, Head], Awaitable[bytes]]
"""What the client is told when the backend does not switch; may raise StatusError."""


async def splice(target: Target, head: bytes, client: asyncio.Transport, received: bytes) -> None:
    """Join the client's connection with a target's, as an `Upgrade` does."""

    async def connect() -> tuple[asyncio.Transport, Side]:
        try:
            transport, side = await dial(target, Side)
        except ServiceUnavailable as error:
            why = error.message.removeprefix(UNREACHABLE)
            raise failed(f"error dialing backend: {why}") from error
        return transport, cast(Side, side)

    await join(connect, head, (client, received), pass_on)


async def join(
    connect: Callable[[], Awaitable[tuple[asyncio.Transport, Side]]],
    head: bytes,
    client_side: tuple[asyncio.Transport, bytes],
    refuse: Refuse,
) -> None:
    """Ask the backend to switch; then join the two, or answer why not. Ends when both are closed.

    `client_side` is the client's transport and what it has sent behind its request.
    """
    client, received = client_side
    ours = Side()
    client.set_protocol(ours)
    backend: asyncio.Transport | None = None
    try:
        backend, theirs = await connect()
        backend.write(head)
        found = await read_head(theirs)
        if found.status != 101:
            client.write(await refuse(theirs, found))
            backend.abort()
            client.close()
            return
    except StatusError as error:
        if backend is not None:
            backend.abort()
        client.write(encode_error(error))
        client.close()
        return
    except BaseException:
        if backend is not None:
            backend.abort()
        client.abort()
        raise
    try:
        _join(ours, client, theirs, backend, received)
        await asyncio.gather(ours.lost.wait(), theirs.lost.wait())
    finally:
        backend.abort()
        client.abort()


def _join(
    ours: Side,
    client: asyncio.Transport,
    theirs: Side,
    backend: asyncio.Transport,
    received: bytes,
) -> None:
    for transport in (client, backend):
        # A peer that vanished without a word is noticed in the end.
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)
    ours.other, theirs.other = backend, client
    client.write(bytes(theirs.early))
    theirs.early.clear()
    if received or ours.early:
        backend.write(received + bytes(ours.early))
        ours.early.clear()
    # Whoever left before the two were joined closes the other now.
    if theirs.lost.is_set():
        client.close()
    if ours.lost.is_set():
        backend.close()
    for transport in (client, backend):
        if not transport.is_closing() and not transport.is_reading():
            transport.resume_reading()


def failed(why: str) -> InternalError:
    """There was nobody to switch protocols with."""
    return InternalError(f"Internal error occurred: {why}")


async def read_head(side: Side) -> Head:
    """Status and length of the head of an answer. Raises InternalError."""
    try:
        async with asyncio.timeout(HEAD_S):
            while True:
                end = side.early.find(b"\r\n\r\n")
                if end >= 0:
                    break
                if side.lost.is_set():
                    raise failed("EOF")
                if len(side.early) > HEAD_MAX:
                    raise failed("response header too large")
                side.arrived.clear()
                await side.arrived.wait()
    except TimeoutError:
        raise failed("timeout awaiting response headers") from None
    parts = bytes(side.early[:end]).split(b"\r\n", 1)[0].split(b" ", 2)
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit():
        raise failed("malformed HTTP response")
    return Head(int(parts[1]), end + 4)


async def pass_on(side: Side, head: Head) -> bytes:
    """The backend's own answer, as far as it comes soon; the connection is closed behind it."""
    body = await refusal_body(side, head, REFUSAL_MAX)
    lines = bytes(side.early[: head.end]).split(b"\r\n")
    kept = [
        line
        for line in lines[1:-2]
        if line.partition(b":")[0].strip().lower()
        not in (b"connection", b"upgrade", b"keep-alive", b"content-length", b"transfer-encoding")
    ]
    size = b"Content-Length: %d" % len(body)
    return b"\r\n".join([lines[0], *kept, size, b"Connection: close", b"", body])


async def refusal_body(side: Side, head: Head, limit: int) -> bytes:
    """The body behind a refusal: as long as it says, or until the connection ends."""
    fields = dict(_fields(bytes(side.early[: head.end])))
    text = fields.get(b"content-length", b"")
    wanted = min(int(text), limit) if text.isdigit() else limit
    chunked = fields.get(b"transfer-encoding", b"").lower() == b"chunked"
    try:
        async with asyncio.timeout(REFUSAL_S):
            while not side.lost.is_set() and len(side.early) - head.end < wanted:
                if chunked and side.early.endswith(b"0\r\n\r\n"):
                    break
                side.arrived.clear()
                await side.arrived.wait()
    except TimeoutError:
        pass
    body = bytes(side.early[head.end : head.end + wanted])
    return _dechunked(body) if chunked else body


def _fields(head: bytes) -> list[tuple[bytes, bytes]]:
    pairs = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return [(name.strip().lower(), value.strip()) for name, _, value in pairs]


def _dechunked(body: bytes) -> bytes:
    out = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        try:
            length = int(size.partition(b";")[0], 16)
        except ValueError:
            break
        out += body[:length]
        body = body[length + 2 :]
    return out


def encode_error(error: StatusError) -> bytes:
    """A Status as the last answer of a connection."""
    body = orjson.dumps(error.status_object())
    head = (
        f"HTTP/1.1 {error.code} {error.reason}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("latin-1") + body
