"""The tunnel between an API server and an agent it cannot call: what both ends need.

The agent calls the server and asks it to switch protocols; from then on the server opens streams on
that connection (SPDY frames, `multiplex`), and each is a connection to the agent's own server, byte
for byte, with the TLS that any such connection has.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from .multiplex import Stream

TUNNEL = "/sampan/tunnel"
PROTOCOL = "sampan-tunnel.v1"
SEEN = b"X-Sampan-Seen"
"""In the answer: from where the server hears the agent, which a router may have changed."""
READ_BYTES = 64 << 10
KEEPALIVE_S, KEEPALIVE_COUNT = 10, 3
"""A machine that vanished without a word is given up after forty seconds, as its Lease."""


class Carrier:
    """A `multiplex.Carrier` of a connection's reader and writer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def receive(self) -> bytes:
        return await self._reader.read(READ_BYTES)

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()


def switch(seen: str) -> bytes:
    """The server's answer to an agent that calls from `seen`."""
    head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "
    # A socket of both families shows IPv4 within IPv6.
    address = seen.removeprefix("::ffff:").encode()
    return head + PROTOCOL.encode() + b"\r\n" + SEEN + b": " + address + b"\r\n\r\n"


def read_seen(head: bytes) -> str:
    """From where the server hears us; "" when it does not say."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == SEEN.lower():
            return value.strip().decode("ascii", "replace")
    return ""


async def pump(stream: Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Join a stream and a connection until either has ended; both are closed then."""

    async def out() -> None:
        while data := await stream.read():
            writer.write(data)
            await writer.drain()

    async def back() -> None:
        while data := await reader.read(READ_BYTES):
            await stream.write(data)

    ways = (asyncio.create_task(out()), asyncio.create_task(back()))
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        # What was written before is sent first, either way.
        stream.finish()
        stream.discard()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def keep_alive(sock: socket.socket | None) -> None:
    """Notice a peer that is gone, also when nothing is said."""
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)
