"""portForward: bytes between a client and ports of a pod, three ways.

SPDY (portforward.k8s.io, upstream's pkg/kubelet portforward/httpstream.go): each connection of the
client is a pair of streams, data and error, with the port in their headers. The same tunnelled
through messages of a WebSocket (KEP-4006). And WebSocket channels (v4.channel.k8s.io): two
channels for each port of the query, data and error, each beginning with the port as two bytes, low
byte first; the ports are connected to at once.

Tasks: one per connection and direction; all end with the client's connection.
"""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec import Struct

from sampan.client.multiplex import Carrier, Multiplex, Stream

from .channels import BASE64, MESSAGE_MAX, V1, V1_BASE64, V4, V4_BASE64, WebSocketChannels
from .takeover import choose_protocol, take_over, wants_spdy

if TYPE_CHECKING:
    from aiohttp import web

PORTFORWARD = "portforward.k8s.io"
TUNNEL = "SPDY/3.1+portforward.k8s.io"
PROTOCOLS = (TUNNEL, V4, V4_BASE64, V1, V1_BASE64, PORTFORWARD)
BLOCK_BYTES = 64 << 10
PORTS_MAX = 64
# A stream whose partner has not come by then is ended; upstream's streamCreationTimeout.
PAIR_S = 30.0

Dial = Callable[[int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
"""Connects to a port of the pod. Raises OSError."""


class Pod(Struct, frozen=True):
    """Whom to forward to."""

    name: str
    uid: str
    dial: Dial

    def complaint(self, port: int, error: object) -> bytes:
        """What an error stream is told."""
        text = f"error forwarding port {port} to pod {self.name}, uid {self.uid}: {error}"
        return text.encode()


async def serve_forward(request: web.Request, pod: Pod) -> web.StreamResponse:
    """Forward until the client closes the connection."""
    from aiohttp import web

    if wants_spdy(request):
        protocol = choose_protocol(request, (PORTFORWARD,))
        if protocol is None:
            text = "unable to upgrade: unable to negotiate protocol"
            return web.Response(status=403, text=text)
        carrier = take_over(request, protocol or PORTFORWARD)
        try:
            await forward_streams(carrier, pod)
        finally:
            carrier.close()
        # Never sent: the connection is no longer aiohttp's.
        return web.Response()
    socket = web.WebSocketResponse(
        protocols=PROTOCOLS, max_msg_size=MESSAGE_MAX, compress=False, autoping=True
    )
    if not socket.can_prepare(request).ok:
        return web.Response(status=400, text="Upgrade request required")
    asked = request.headers.get("Sec-WebSocket-Protocol", "")
    if TUNNEL in [item.strip() for item in asked.split(",")]:
        await socket.prepare(request)
        await forward_streams(Tunnel(socket), pod)
        return socket
    try:
        ports = [int(part) for text in request.query.getall("port", []) for part in text.split(",")]
    except ValueError:
        return web.Response(status=400, text="port must be a number")
    if not ports or len(ports) > PORTS_MAX or not all(0 < port < 65536 for port in ports):
        return web.Response(status=400, text="query parameter 'port' is required")
    await socket.prepare(request)
    await _forward_channels(socket, ports, pod)
    return socket


class Tunnel:
    """Messages of a WebSocket as a `multiplex.Carrier`."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def receive(self) -> bytes:
        from aiohttp import WSMsgType

        while True:
            message = await self._socket.receive()
            if message.type is not WSMsgType.BINARY:
                return b""
            if message.data:
                return bytes(message.data)

    async def send(self, data: bytes) -> None:
        await self._socket.send_bytes(data)


# Streams


async def forward_streams(carrier: Carrier, pod: Pod) -> None:
    """Serve the pairs of streams the client opens, until it is gone."""
    waiting: dict[str, Stream] = {}
    tasks: set[asyncio.Task[None]] = set()

    def accept(stream: Stream) -> None:
        """Upstream's order: the error stream, then the data stream, one request id for both."""
        kind, port = stream.headers.get("streamtype", ""), stream.headers.get("port", "")
        if kind not in ("data", "error") or not _is_port(port):
            stream.reset()
            return
        key = _request_of(stream, kind)
        other = waiting.pop(key, None)
        if other is None:
            waiting[key] = stream
            loop.call_later(PAIR_S, expire, key, stream)
            return
        if other.headers["streamtype"] == kind:
            stream.reset()
            waiting[key] = other
            return
        data, error = (stream, other) if kind == "data" else (other, stream)
        task = loop.create_task(_serve_pair(data, error, int(port), pod))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def expire(key: str, stream: Stream) -> None:
        if waiting.get(key) is stream:
            del waiting[key]
            stream.reset()

    loop = asyncio.get_running_loop()
    try:
        await Multiplex(carrier, accept).run()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536


def _request_of(stream: Stream, kind: str) -> str:
    """Old clients send no request id: their data stream follows the error stream."""
    number = stream.number if kind == "error" else stream.number - 2
    return stream.headers.get("requestid") or str(number)


async def _serve_pair(data: Stream, error: Stream, port: int, pod: Pod) -> None:
    try:
        try:
            reader, writer = await pod.dial(port)
        except OSError as failure:
            with suppress(ConnectionError):
                await error.write(pod.complaint(port, failure))
            return
        try:
            await _relay(data, reader, writer)
        finally:
            writer.close()
    finally:
        # What was said is sent before the end of it.
        for stream in (data, error):
            stream.finish()
            stream.discard()


async def _relay(data: Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Both ways until the pod's side has said all; the client's end of input is passed on."""

    async def inward() -> None:
        while block := await data.read():
            writer.write(block)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    async def outward() -> None:
        while block := await reader.read(BLOCK_BYTES):
            await data.write(block)

    feeding = asyncio.create_task(inward())
    try:
        with suppress(ConnectionError):
            await outward()
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


# Channels


async def _forward_channels(socket: web.WebSocketResponse, ports: list[int], pod: Pod) -> None:
    from aiohttp import WSMsgType

    protocol = socket.ws_protocol or V1
    channels = WebSocketChannels(socket, protocol)
    writers: dict[int, asyncio.StreamWriter] = {}
    pumps: list[asyncio.Task[None]] = []
    ending: asyncio.Task[None] | None = None
    try:
        for index, port in enumerate(ports):
            head = struct.pack("<H", port)
            await channels.send(2 * index, head)
            await channels.send(2 * index + 1, head)
            try:
                reader, writers[2 * index] = await pod.dial(port)
            except OSError as error:
                await channels.send(2 * index + 1, pod.complaint(port, error))
                continue
            pumps.append(asyncio.create_task(_pump(channels, 2 * index, reader)))
        # A client reads until the end: it comes when no port has anything more to say.
        ending = asyncio.create_task(_end(socket, tuple(pumps)))
        async for message in socket:
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT) or not message.data:
                continue
            channel, payload = _message(message.data, protocol)
            writer = writers.get(channel)
            if writer is not None:
                with suppress(ConnectionError):
                    writer.write(payload)
                    await writer.drain()
    except ConnectionError:
        # The client went while it was told something.
        return
    finally:
        tasks = [*pumps, ending] if ending else pumps
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers.values():
            writer.close()


async def _end(socket: web.WebSocketResponse, pumps: tuple[asyncio.Task[None], ...]) -> None:
    await asyncio.gather(*pumps, return_exceptions=True)
    await socket.close()


def _message(data: bytes | str, protocol: str) -> tuple[int, bytes]:
    raw = data if isinstance(data, bytes) else data.encode()
    if protocol not in BASE64:
        return raw[0], raw[1:]
    try:
        return raw[0] - ord("0"), base64.b64decode(raw[1:])
    except ValueError:
        return -1, b""


async def _pump(channels: WebSocketChannels, channel: int, reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(BLOCK_BYTES):
            await channels.send(channel, data)
