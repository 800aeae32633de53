"""Name servers that ask us back: found out by a question nobody else would ask.

Every server is sent one question for a name made up for it (CoreDNS: the plugin loop). When that
name is asked here, the server leads back to us, and it is asked no more until name servers change:
else each name of the outside would go round until it timed out.

Tasks: one per server that is tried, for at most `TRY_S`. Bounds: `MAX_SERVERS` are tried; servers
beyond are taken to be sound.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from .message import HEADER, IN, RD, encode_name
from .routes import Server

log = logging.getLogger("sampan.dns")

TRY_S = 5.0
MAX_SERVERS = 100
_HINFO = 13

Send = Callable[[Server, bytes], Awaitable[bytes]]


class Loops:
    """`send` sends a message to a server and waits for its answer."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._names: dict[str, Server] = {}
        self._tried: set[Server] = set()
        self._looping: set[Server] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def sound(self, servers: Sequence[Server]) -> tuple[Server, ...]:
        """Those of which nothing is known against; new ones are tried meanwhile."""
        for server in servers:
            if server not in self._tried and len(self._tried) < MAX_SERVERS:
                self._tried.add(server)
                task = asyncio.create_task(self._try(server), name="dns loop")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        if not self._looping:
            return tuple(servers)
        return tuple(server for server in servers if server not in self._looping)

    def hear(self, name: str) -> bool:
        """Was this asked by ourselves? Call it for every name that is not the cluster's."""
        server = self._names.get(name)
        if server is None:
            return False
        if server not in self._looping:
            self._looping.add(server)
            log.error("name server %s asks us what we ask it; it is left out", server[0])
        return True

    def forget(self) -> None:
        """The servers have changed."""
        self._tried.clear()
        self._looping.clear()
        self._names.clear()

    async def close(self) -> None:
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _try(self, server: Server) -> None:
        name = f"{secrets.randbits(60)}.{secrets.randbits(60)}"
        self._names[name] = server
        question = encode_name(name) + _HINFO.to_bytes(2, "big") + IN.to_bytes(2, "big")
        message = HEADER.pack(secrets.randbits(16), RD, 1, 0, 0, 0) + question
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(TRY_S):
                await self._send(server, message)
        self._names.pop(name, None)
