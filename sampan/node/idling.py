"""The end of sessions on which nothing moves: kubelet's streamingConnectionIdleTimeout.

What moves is asked of the kernel (TCP_INFO), so a byte costs nothing more, whatever the dialect;
pings count, as upstream's do. Tasks: none; one timer per session, set for when it could be idle.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# <linux/tcp.h>: milliseconds since data was last sent and received, in struct tcp_info.
LAST_DATA_SENT, LAST_DATA_RECEIVED = 44, 52
TCP_INFO_BYTES = 104
# The peer of a session is asked for after this much silence; without an answer it is gone.
KEEPALIVE_S = 30
KEEPALIVE_COUNT = 4


def watch_peers(listener: socket.socket) -> None:
    """Connections accepted from `listener` notice a peer that vanished without a word."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)


def idle_s(connection: socket.socket) -> float:
    """How long nothing was sent or received."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
    sent, received = (
        struct.unpack_from("=I", info, at)[0] for at in (LAST_DATA_SENT, LAST_DATA_RECEIVED)
    )
    return float(min(sent, received)) / 1000.0


@asynccontextmanager
async def limited(transport: asyncio.BaseTransport | None, limit_s: float) -> AsyncIterator[None]:
    """Ends the block, and aborts the connection, once it was idle for `limit_s` (0: never)."""
    connection = transport.get_extra_info("socket") if transport is not None else None
    if connection is None or limit_s <= 0:
        yield
        return
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None

    def look() -> None:
        nonlocal timer
        try:
            left = limit_s - idle_s(connection)
        except OSError:
            # It is closed already; whoever reads from it knows.
            return
        if left <= 0:
            end.reschedule(loop.time())
        else:
            timer = loop.call_later(left, look)

    try:
        async with asyncio.timeout(None) as end:
            timer = loop.call_later(limit_s, look)
            try:
                yield
            finally:
                timer.cancel()
    except TimeoutError:
        if not end.expired():
            raise
        if isinstance(transport, asyncio.Transport):
            transport.abort()
