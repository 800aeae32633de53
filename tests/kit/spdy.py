"""A SPDY client over a socket, as kubectl up to 1.30 is one."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

from sampan.wire.spdyconnection import Connection, Dropped, Ended, Received


class SpdyClient:
    """One upgraded connection; `head` is the answer to the upgrade."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = ""
        self.reader, self.writer = reader, writer
        self.connection = Connection(client=True)
        self.got: dict[int, bytearray] = {}
        """What arrived, by stream."""
        self.ended: set[int] = set()
        self.over = False

    def open(self, **headers: str) -> int:
        stream = self.connection.open(tuple(headers.items()))
        self.got[stream] = bytearray()
        return stream

    async def flush(self) -> None:
        self.writer.write(self.connection.take())
        await self.writer.drain()

    async def send(self, stream: int, data: bytes, *, fin: bool = False) -> None:
        self.connection.send(stream, data)
        if fin:
            self.connection.finish(stream)
        await self.flush()

    async def until(self, *streams: int) -> None:
        """Receive until these streams have ended, or the connection has."""
        while not self.over and not self.ended.issuperset(streams):
            await self.receive()

    async def until_got(self, stream: int, size: int) -> bytes:
        while not self.over and len(self.got[stream]) < size:
            await self.receive()
        return bytes(self.got[stream])

    async def receive(self) -> None:
        async with asyncio.timeout(5):
            data = await self.reader.read(65536)
        self.over = not data
        for event in self.connection.receive(data):
            if isinstance(event, Received):
                self.got[event.stream] += event.data
                self.connection.consumed(event.stream, len(event.data))
            elif isinstance(event, Ended | Dropped):
                self.ended.add(event.stream)
        await self.flush()


@asynccontextmanager
async def spdy_client(
    port: int,
    target: str,
    context: ssl.SSLContext,
    *,
    protocols: str = "v4.channel.k8s.io",
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[SpdyClient]:
    """POST `target` with an upgrade to SPDY/3.1."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    client = SpdyClient(reader, writer)
    lines = [f"POST {target} HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: SPDY/3.1"]
    lines += [f"X-Stream-Protocol-Version: {item}" for item in protocols.split(",") if item]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    writer.write("\r\n".join([*lines, "Content-Length: 0", "", ""]).encode())
    try:
        client.head = (await reader.readuntil(b"\r\n\r\n")).decode()
        yield client
    finally:
        writer.close()
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()
