"""The agent's call to an API server that may not be able to call it: logs, exec and metrics come
back on this one connection (`client.tunnelling`).

Task: `run`, for ever; a connection that ends is made again, soon the first time, then with growing
pauses. Queue: none; each stream the server opens becomes a connection to the agent's own port,
which has its own bounds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from urllib.parse import urlsplit

from sampan.aio.backoff import Backoff
from sampan.aio.clock import Clock
from sampan.client.http import HttpTransport
from sampan.client.multiplex import Multiplex, Stream
from sampan.client.tunnelling import PROTOCOL, TUNNEL, Carrier, keep_alive, pump, read_seen
from sampan.wire.spdyconnection import balanced

log = logging.getLogger("sampan.node.tunnel")

HEAD_MAX = 16 << 10
DIAL_S = 10.0


class Tunnel:
    """To the server of `transport`, with its certificate."""

    def __init__(
        self,
        transport: HttpTransport,
        own: Callable[[], tuple[str, int]],
        clock: Clock,
        seen: Callable[[str], None],
    ) -> None:
        """`own` is where the agent's server listens; `seen` is told from where the server hears
        the agent."""
        parts = urlsplit(transport.url)
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._transport = transport
        self._own = own
        self._seen = seen
        self._clock = clock
        self._pumps: set[asyncio.Task[None]] = set()
        self.open = asyncio.Event()
        """Set while there is a tunnel."""

    async def run(self) -> None:
        """Until cancelled."""
        backoff = Backoff(initial_s=0.1, cap_s=10.0)
        while True:
            try:
                await self._serve(backoff)
                log.info("the tunnel to %s ended; making another", self._host)
            except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
                log.info("no tunnel to %s: %s", self._host, error or "timed out")
            await self._clock.sleep(backoff.next_s())

    async def _serve(self, backoff: Backoff) -> None:
        async with asyncio.timeout(DIAL_S):
            reader, writer = await self._call()
        multiplex = Multiplex(Carrier(reader, writer), self._accept, balanced(client=False))
        self.open.set()
        backoff.reset()
        try:
            await multiplex.run()
        finally:
            self.open.clear()
            for task in self._pumps:
                task.cancel()
            writer.close()

    async def _call(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises ConnectionError when the server does not switch."""
        reader, writer = await asyncio.open_connection(
            self._host, self._port, ssl=self._transport.context, limit=HEAD_MAX
        )
        try:
            keep_alive(writer.get_extra_info("socket"))
            writer.write(
                f"GET {TUNNEL} HTTP/1.1\r\nHost: {self._host}\r\nConnection: Upgrade\r\n"
                f"Upgrade: {PROTOCOL}\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            status = head.split(b" ", 2)[1:2]
            if status != [b"101"]:
                raise ConnectionRefusedError(f"the server answers {head.splitlines()[0].decode()}")
            self._seen(read_seen(head))
        except BaseException:
            writer.close()
            raise
        return reader, writer

    def _accept(self, stream: Stream) -> None:
        task = asyncio.create_task(self._join(stream))
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)

    async def _join(self, stream: Stream) -> None:
        try:
            reader, writer = await asyncio.open_connection(*self._own())
        except OSError:
            stream.reset()
            return
        await pump(stream, reader, writer)
