"""The API server on sockets: TLS, listening, and an end in good order."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.aio.tls import ServingContext, ServingFiles

from .connection import Connection
from .listeners import Listeners

if TYPE_CHECKING:
    from .app import Server

HANDSHAKE_TIMEOUT_S = 10.0
BACKLOG = 4096
"""Connections not yet taken, as Go's server has it: all who watched come back at once behind a
restart, and whoever finds no room waits for seconds before it tries again."""
SHUTDOWN_S = 2.0
"""How long answers under way may take when the server stops."""
KEEPALIVE_S = 30
"""Idle time after which the kernel asks whether the client is still there (watches)."""


class Listener:
    """Open sockets of a server; made by `serve`."""

    def __init__(
        self,
        shared: Listeners,
        servers: Sequence[asyncio.Server],
        tls: ServingContext | None = None,
    ) -> None:
        self._shared = shared
        self._servers = servers
        self._tls = tls

    def reload(self) -> None:
        """Take new files for connections to come. Raises OSError or ssl.SSLError; then the old
        ones stay."""
        if self._tls is not None:
            self._tls.reload()

    @property
    def ports(self) -> list[int]:
        """The ports in use, in the order of the sockets given."""
        return [sock.getsockname()[1] for server in self._servers for sock in server.sockets]

    @property
    def connections(self) -> int:
        return len(self._shared.connections)

    async def close(self) -> None:
        """Take no more connections; let answers under way finish for a moment, then cut."""
        self._shared.closing = True
        for server in self._servers:
            server.close()
        connections = self._shared.connections
        answering = [item.answering for item in connections if item.answering is not None]
        for connection in tuple(connections):
            connection.shut()
        if answering:
            await asyncio.wait(answering, timeout=SHUTDOWN_S)
        # Goodbyes are sent within two of the loop's turns. TLS would wait for an answer to them,
        # which a client that keeps its connection for later does not read.
        for _ in range(2):
            await asyncio.sleep(0)
        for connection in tuple(connections):
            if _has_sent_all(connection):
                connection.abort()
        await asyncio.sleep(0)
        if connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._shared.empty.wait(), SHUTDOWN_S)
        for connection in tuple(connections):
            connection.abort()


def _has_sent_all(connection: Connection) -> bool:
    try:
        return not connection.unsent
    except AttributeError:
        # asyncio's TLS transport has no buffer to ask any more once it is closed.
        return True


async def serve(
    server: Server,
    sockets: Sequence[socket.socket],
    cert: Path | None = None,
    key: Path | None = None,
) -> Listener:
    """Answer on `sockets`, which listen already, until the listener is closed. Without a
    certificate there is no TLS: only tests may want that."""
    shared = Listeners(server)
    loop = asyncio.get_running_loop()
    config = server.config
    tls = None
    if cert and key:
        authorities = (config.ca_cert, *config.client_cas)
        if config.front_proxy_ca is not None:
            authorities = (*authorities, config.front_proxy_ca)
        try:
            tls = ServingContext(ServingFiles(cert, key, authorities))
        except OSError as error:
            # The next start would find the same files.
            raise ValueError(str(error)) from error
    servers = []
    for sock in sockets:
        # Accepted connections inherit these: watches of clients that are gone must end.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S)
        servers.append(
            await loop.create_server(
                lambda: Connection(shared),
                sock=sock,
                backlog=BACKLOG,
                ssl=tls.context if tls is not None else None,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S if tls is not None else None,
            )
        )
    return Listener(shared, servers, tls)
