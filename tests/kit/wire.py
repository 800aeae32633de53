"""A server on a real socket, and clients that write bytes: for tests of the wire itself.

async with listening() as (cluster, listener), connected(listener) as wire:
    status, body = await wire.get("/healthz")
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from socket import create_server

from sampan.server.exchange import User
from sampan.server.http import Listener, serve

from .cluster import Cluster, api_cluster, server_files

TOKEN = "t0ken"
AUTH = f"Host: x\r\nAuthorization: Bearer {TOKEN}\r\n"
"""What every request must say."""
ADMIN = User("admin", ("system:masters",))


@dataclass(slots=True)
class Wire:
    """A client that writes bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, method: str, path: str, body: bytes = b"", headers: str = "") -> bytes:
        """Send a request; the head of its answer."""
        head = f"{method} {path} HTTP/1.1\r\n{AUTH}{headers}"
        if body or method in ("POST", "PUT", "PATCH"):
            head += f"Content-Length: {len(body)}\r\n"
        self.writer.write(head.encode() + b"\r\n" + body)
        return await self.head()

    async def head(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 5)

    async def body(self, head: bytes) -> bytes:
        return await self.reader.readexactly(length(head))

    async def get(self, path: str, headers: str = "") -> tuple[int, bytes]:
        head = await self.ask("GET", path, headers=headers)
        return status(head), await self.body(head)

    async def ended(self) -> bool:
        """Has the server closed the connection?"""
        return await asyncio.wait_for(self.reader.read(), 5) == b""


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what sockets bring about; there is no event to wait for on the other side."""
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def status(head: bytes) -> int:
    return int(head[9:12])


def length(head: bytes) -> int:
    line = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    return int(line.split(b":")[1])


@asynccontextmanager
async def listening(*, tls: bool = False) -> AsyncIterator[tuple[Cluster, Listener]]:
    """A server that knows ADMIN by TOKEN, on a free port."""
    async with api_cluster(tokens={TOKEN: ADMIN}) as cluster:
        files = server_files()
        cert = (files / "server.crt", files / "server.key") if tls else ()
        listener = await serve(cluster.server, [create_server(("127.0.0.1", 0))], *cert)
        try:
            yield cluster, listener
        finally:
            await listener.close()


@asynccontextmanager
async def connected(listener: Listener, tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.ports[0], ssl=tls)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


BLOCK = 65536


async def echo_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, total: int) -> None:
    """A backend's answer: the request's body, in chunks, while it still comes."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    left = total
    while left and (block := await reader.read(min(left, BLOCK))):
        left -= len(block)
        writer.write(b"%x\r\n%b\r\n" % (len(block), block))
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def check_echo(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, total: int
) -> None:
    """Send a body of `total` bytes, whose head was sent, and see that it comes back as it goes."""
    first = b"first"
    writer.write(first)
    async with asyncio.timeout(10):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        # The answer has begun before the body is complete.
        assert await reader.readuntil(first) == b"5\r\nfirst"

        async def send() -> None:
            for _ in range(total // BLOCK - 1):
                writer.write(b"x" * BLOCK)
                await writer.drain()
            writer.write(b"x" * (BLOCK - len(first)))

        sending = asyncio.create_task(send())
        await reader.readline()
        got = len(first)
        while size := int(await reader.readline(), 16):
            got += len(await reader.readexactly(size))
            await reader.readline()
        await sending
    assert got == total
