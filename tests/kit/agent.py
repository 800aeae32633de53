"""A node agent's HTTPS side, as the API server sees it: scripted answers, everything recorded."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

Script = Callable[[str, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Gets the request's head; answers on the writer."""


@dataclass(slots=True)
class FakeAgent:
    port: int
    heads: list[str] = field(default_factory=list)
    """The head of every connection's first request."""
    clients: list[str] = field(default_factory=list)
    """Common names of the client certificates shown."""
    script: Script | None = None

    @property
    def targets(self) -> list[str]:
        """Method and path of every request."""
        return [head.split("\r\n", 1)[0].removesuffix(" HTTP/1.1") for head in self.heads]

    def answer(self, raw: bytes) -> None:
        """From now on every request gets these bytes, and the connection is closed."""

        async def script(
            head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(raw)

        self.script = script


@asynccontextmanager
async def fake_agent(files: Path) -> AsyncIterator[FakeAgent]:
    """An agent with the certificate of node "node", on a port of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / "node.crt", files / "node.key")
    context.load_verify_locations(files / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    agent = FakeAgent(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            agent.heads.append(head)
            peer = writer.get_extra_info("peercert")["subject"]
            agent.clients += [value for ((name, value),) in peer if name == "commonName"]
            assert agent.script is not None
            await agent.script(head, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    agent.port = server.sockets[0].getsockname()[1]
    try:
        yield agent
    finally:
        server.close()
