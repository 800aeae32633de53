"""portForward over WebSocket: bytes between the client and ports of a pod.

Protocol v4.channel.k8s.io of upstream's kubelet (pkg/kubelet/server/portforward/websocket.go): two
channels per port, data and error; each begins with the port as two bytes, low byte first.
"""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

PROTOCOLS = ("v4.channel.k8s.io", "portforward.k8s.io")
BLOCK_BYTES = 64 * 1024
MESSAGE_MAX = 4 << 20
PORTS_MAX = 64


async def serve_forward(request: web.Request, ip: str) -> web.StreamResponse:
    """Connects to the ports of the query, all at once, until the client closes."""
    from aiohttp import WSMsgType, web

    try:
        ports = [int(part) for text in request.query.getall("port", []) for part in text.split(",")]
    except ValueError:
        return web.Response(status=400, text="port must be a number")
    if not ports or len(ports) > PORTS_MAX or not all(0 < port < 65536 for port in ports):
        return web.Response(status=400, text="query parameter 'port' is required")
    socket = web.WebSocketResponse(
        protocols=PROTOCOLS, max_msg_size=MESSAGE_MAX, compress=False, autoping=True
    )
    await socket.prepare(request)
    writers: dict[int, asyncio.StreamWriter] = {}
    pumps: list[asyncio.Task[None]] = []
    try:
        for index, port in enumerate(ports):
            head = struct.pack("<H", port)
            await socket.send_bytes(bytes((2 * index,)) + head)
            await socket.send_bytes(bytes((2 * index + 1,)) + head)
            try:
                reader, writers[2 * index] = await asyncio.open_connection(ip, port)
            except OSError as error:
                text = f"error forwarding port {port} to pod: {error.strerror or error}"
                await socket.send_bytes(bytes((2 * index + 1,)) + text.encode())
                continue
            pumps.append(asyncio.create_task(_pump(socket, 2 * index, reader)))
        async for message in socket:
            if message.type is not WSMsgType.BINARY or not message.data:
                continue
            writer = writers.get(message.data[0])
            if writer is not None:
                writer.write(message.data[1:])
                with suppress(ConnectionError):
                    await writer.drain()
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for writer in writers.values():
            writer.close()
    return socket


async def _pump(socket: web.WebSocketResponse, channel: int, reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(BLOCK_BYTES):
            await socket.send_bytes(bytes((channel,)) + data)
