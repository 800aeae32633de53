"""Taking a connection out of aiohttp's hands, for a protocol it does not know (SPDY).

The answer 101 is written by hand; from then on the socket is ours alone, also its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

READ_BYTES = 64 << 10
SPDY = "SPDY/3.1"
PROTOCOL_HEADER = "X-Stream-Protocol-Version"


def wants_spdy(request: web.Request) -> bool:
    """Whether the client asks for SPDY rather than for a WebSocket."""
    asked = request.headers.get("Upgrade", "").lower()
    return asked == SPDY.lower() and "upgrade" in request.headers.get("Connection", "").lower()


def choose_protocol(request: web.Request, known: Sequence[str]) -> str | None:
    """The first of the client's protocols that is `known`; "" when it names none, None when it
    names only others."""
    lines = request.headers.getall(PROTOCOL_HEADER, [])
    asked = [item.strip() for line in lines for item in line.split(",") if item.strip()]
    if not asked:
        return ""
    return next((item for item in asked if item in known), None)


class Socket:
    """A connection as a `multiplex.Carrier`. Reading stops while nobody receives."""

    def __init__(self, request: web.Request, headers: Mapping[str, str]) -> None:
        """Answers 101 with `headers`."""
        self._old = request.protocol
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        loop = asyncio.get_running_loop()
        self._reader = asyncio.StreamReader(limit=READ_BYTES)
        protocol = asyncio.StreamReaderProtocol(self._reader)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        self._writer = asyncio.StreamWriter(transport, protocol, self._reader, loop)
        lines = ["HTTP/1.1 101 Switching Protocols", *(f"{k}: {v}" for k, v in headers.items())]
        self._writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))

    async def receive(self) -> bytes:
        return await self._reader.read(READ_BYTES)

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def close(self) -> None:
        """Send what is buffered, then close; aiohttp forgets the connection too."""
        self._writer.close()
        self._old.connection_lost(None)


def take_over(request: web.Request, protocol: str) -> Socket:
    """The connection as SPDY. Raises ConnectionError."""
    headers = {"Connection": "Upgrade", "Upgrade": SPDY}
    if protocol:
        headers[PROTOCOL_HEADER] = protocol
    return Socket(request, headers)
