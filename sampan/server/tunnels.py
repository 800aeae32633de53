"""Connections to agents that called us, because we cannot call them (NAT, a firewall).

An agent's request to switch protocols becomes a `Multiplex` on which we open a stream per
connection to the agent. `subresources.nodes.connect` takes that way where there is one. A socket
pair stands between, since TLS wants a socket. A node's second tunnel is used instead of its first,
which ends by itself: the agent knows before us that it is dead. Bounds: `STREAMS_MAX` connections
per node, `TUNNELS_MAX` nodes.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import TYPE_CHECKING

from sampan.api.errors import BadRequest, Forbidden, TooManyRequests
from sampan.client.multiplex import Multiplex, Stream
from sampan.client.tunnelling import PROTOCOL, Carrier, keep_alive, pump, switch
from sampan.wire.spdyconnection import balanced

from .authz.nodes import node_of
from .exchange import Request, Upgrade
from .subresources.nodes import tunnels

if TYPE_CHECKING:
    from .app import Server

TUNNELS_MAX = 5000

_pumps: set[asyncio.Task[None]] = set()


def answer(server: Server, request: Request) -> Upgrade:
    """A node's own tunnel, and nobody else's. Raises Forbidden, BadRequest, TooManyRequests."""
    node = node_of(request.user)
    if not node:
        raise Forbidden("only a node may open a tunnel, and only its own")
    if not request.upgradable or request.headers.get("upgrade") != PROTOCOL:
        raise BadRequest("Upgrade request required")
    if len(tunnels.setdefault(server, {})) >= TUNNELS_MAX:
        raise TooManyRequests("too many tunnels")

    async def carry(transport: asyncio.Transport, received: bytes) -> None:
        await serve(server, node, transport, received)

    return Upgrade(carry)


async def serve(server: Server, node: str, transport: asyncio.Transport, received: bytes) -> None:
    """Until the agent has gone."""
    reader = asyncio.StreamReader(limit=1 << 16)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if received:
        reader.feed_data(received)
    writer = asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
    keep_alive(transport.get_extra_info("socket"))
    multiplex = Multiplex(Carrier(reader, writer), Stream.reset, balanced(client=True))
    known = tunnels.setdefault(server, {})
    way = partial(dial, multiplex)
    known[node] = way
    transport.write(switch(str((transport.get_extra_info("peername") or ("",))[0])))
    transport.resume_reading()
    try:
        await multiplex.run()
    finally:
        if known.get(node) is way:
            del known[node]
        transport.abort()


def dial(multiplex: Multiplex) -> socket.socket:
    """A socket whose other end is the agent's server. Raises ConnectionError when there are too
    many already, or the agent has gone."""
    stream = multiplex.open()
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    task = asyncio.create_task(_join(stream, theirs))
    _pumps.add(task)
    task.add_done_callback(_pumps.discard)
    return ours


async def _join(stream: Stream, sock: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=sock)
    await pump(stream, reader, writer)
