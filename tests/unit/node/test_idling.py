"""Connections on which nothing moves, and peers that vanished."""

from __future__ import annotations

import asyncio
import socket

import pytest

from sampan.node.idling import KEEPALIVE_COUNT, KEEPALIVE_S, idle_s, limited, watch_peers


async def pair() -> tuple[asyncio.Transport, socket.socket, asyncio.Server]:
    """Our side of an accepted connection, the client's socket, and who listens."""
    loop = asyncio.get_running_loop()
    made: asyncio.Future[asyncio.Transport] = loop.create_future()

    class Side(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.set_result(transport)  # type: ignore[arg-type]

    listener = socket.create_server(("127.0.0.1", 0))
    watch_peers(listener)
    server = await loop.create_server(Side, sock=listener)
    client = socket.create_connection(listener.getsockname())
    return await made, client, server


async def test_accepted_connections_ask_whether_the_peer_is_there() -> None:
    transport, client, server = await pair()
    found = transport.get_extra_info("socket")
    assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    for option, value in (
        (socket.TCP_KEEPIDLE, KEEPALIVE_S),
        (socket.TCP_KEEPINTVL, KEEPALIVE_S),
        (socket.TCP_KEEPCNT, KEEPALIVE_COUNT),
    ):
        assert found.getsockopt(socket.IPPROTO_TCP, option) == value
    assert 0 <= idle_s(found) < 5
    client.close()
    transport.abort()
    server.close()


async def test_an_idle_block_ends_and_its_connection_with_it() -> None:
    transport, client, server = await pair()
    ended = False
    try:
        async with limited(transport, 0.05):
            try:
                await asyncio.Event().wait()
            finally:
                ended = True
    finally:
        client.close()
        server.close()
    assert ended
    assert transport.is_closing()


async def test_no_limit_and_failures_of_the_block_itself() -> None:
    transport, client, server = await pair()
    async with limited(transport, 0):
        pass
    with pytest.raises(TimeoutError, match="own"):
        async with limited(transport, 60):
            raise TimeoutError("own")
    assert not transport.is_closing()
    transport.abort()
    client.close()
    server.close()
