"""The channels of a remote command (stdin, stdout, stderr, error, sizes), whatever carries them.

WebSocket (KEP-4006): each message begins with its channel's number; in v5, 255 followed by a
channel closes that channel; the base64 protocols write the number as a digit and the rest in
base64. SPDY: each channel is a stream whose header says which. Up to v3 the end of a command is
told as text, since v4 as a Status.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import orjson

from sampan.api.errors import Object
from sampan.client.multiplex import Multiplex, Stream

from .takeover import Socket

if TYPE_CHECKING:
    from aiohttp import web

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
V1, V1_BASE64, V4_BASE64 = "channel.k8s.io", "base64.channel.k8s.io", "v4.base64.channel.k8s.io"
WEBSOCKET_PROTOCOLS = (V5, V4, V4_BASE64, V1, V1_BASE64)
SPDY_PROTOCOLS = (V4, "v3.channel.k8s.io", "v2.channel.k8s.io", V1)
WITH_SIZES = frozenset({V4, "v3.channel.k8s.io"})
BASE64 = frozenset({V1_BASE64, V4_BASE64})
WITH_STATUS = frozenset({V5, V4, V4_BASE64})
# One message from the client; kubectl sends 32 KiB.
MESSAGE_MAX = 4 << 20
# kubelet's streamCreationTimeout.
STREAMS_S = 30.0
# A terminal's sizes are short; a stream of them without an end of line is none.
SIZE_MAX = 4096
PING_S = 10.0


class Channels(Protocol):
    """One client's side of a session."""

    async def send(self, channel: int, data: bytes) -> None:
        """Output for the client, taken as fast as it reads. Raises ConnectionError."""
        ...

    async def receive(self) -> tuple[int, bytes] | None:
        """(STDIN, bytes), (CLOSE, b"") at the end of input, (RESIZE, JSON); None when the client
        has gone."""
        ...

    async def probe(self) -> None:
        """Write something without meaning, to notice a client that has gone."""
        ...

    async def finish(self, status: Object) -> None:
        """Tell how it ended, and close."""
        ...


class WebSocketChannels:
    """`socket` is prepared, with `protocol` (one of WEBSOCKET_PROTOCOLS)."""

    def __init__(self, socket: web.WebSocketResponse, protocol: str) -> None:
        self._socket = socket
        self._protocol = protocol

    async def send(self, channel: int, data: bytes) -> None:
        if self._protocol in BASE64:
            await self._socket.send_str(chr(ord("0") + channel) + base64.b64encode(data).decode())
        else:
            await self._socket.send_bytes(bytes((channel,)) + data)

    async def receive(self) -> tuple[int, bytes] | None:
        from aiohttp import WSMsgType

        while True:
            message = await self._socket.receive()
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                return None
            channel, payload = self._read(message.data)
            if channel == CLOSE and self._protocol == V5 and payload[:1] == bytes((STDIN,)):
                return CLOSE, b""
            if channel in (STDIN, RESIZE):
                return channel, payload

    def _read(self, data: bytes | str) -> tuple[int, bytes]:
        raw = data if isinstance(data, bytes) else data.encode()
        if not raw:
            return -1, b""
        if self._protocol not in BASE64:
            return raw[0], raw[1:]
        try:
            return raw[0] - ord("0"), base64.b64decode(raw[1:])
        except binascii.Error:
            return -1, b""

    async def probe(self) -> None:
        await self._socket.ping()

    async def finish(self, status: Object) -> None:
        with suppress(ConnectionError):
            text = report(status, self._protocol)
            if text:
                await self.send(ERROR, text)
            await self._socket.close()


class SpdyChannels:
    """Streams arrive in any order; `open` waits for all that are wanted."""

    def __init__(self, socket: Socket, protocol: str) -> None:
        self._socket = socket
        self._protocol = protocol or V1
        self._multiplex = Multiplex(socket, self._accept)
        self._streams: dict[str, Stream] = {}
        self._changed = asyncio.Event()
        self._inputs: list[asyncio.Task[None]] = []
        self._arrived: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(1)
        self._running = asyncio.create_task(self._multiplex.run())

    def _accept(self, stream: Stream) -> None:
        kind = stream.headers.get("streamtype", "")
        if kind not in ("error", "stdin", "stdout", "stderr", "resize") or kind in self._streams:
            stream.reset()
            return
        self._streams[kind] = stream
        self._changed.set()

    async def open(self, wanted: Sequence[str]) -> bool:
        """False when the client went, or did not open them in time."""
        names = {"error", *wanted}
        if self._protocol in WITH_SIZES and "tty" in names:
            names.add("resize")
        names.discard("tty")
        lost = asyncio.ensure_future(self._multiplex.lost.wait())
        try:
            async with asyncio.timeout(STREAMS_S):
                while not names <= self._streams.keys():
                    if lost.done():
                        return False
                    self._changed.clear()
                    changed = asyncio.ensure_future(self._changed.wait())
                    try:
                        await asyncio.wait((changed, lost), return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        changed.cancel()
        except TimeoutError:
            return False
        finally:
            lost.cancel()
        for name, read in (("stdin", self._read_input), ("resize", self._read_sizes)):
            if name in names:
                self._inputs.append(asyncio.create_task(read(self._streams[name])))
        self._inputs.append(asyncio.create_task(self._watch_end()))
        return True

    async def _read_input(self, stream: Stream) -> None:
        while data := await stream.read():
            await self._arrived.put((STDIN, data))
        await self._arrived.put((CLOSE, b""))

    async def _read_sizes(self, stream: Stream) -> None:
        rest = b""
        while data := await stream.read():
            *lines, rest = (rest + data).split(b"\n")
            rest = rest if len(rest) <= SIZE_MAX else b""
            for line in lines:
                await self._arrived.put((RESIZE, line))

    async def _watch_end(self) -> None:
        await self._multiplex.lost.wait()
        await self._arrived.put(None)

    async def send(self, channel: int, data: bytes) -> None:
        await self._streams["stdout" if channel == STDOUT else "stderr"].write(data)

    async def receive(self) -> tuple[int, bytes] | None:
        if self._multiplex.lost.is_set():
            return None
        return await self._arrived.get()

    async def probe(self) -> None:
        """The multiplex does that by itself while it is not read."""

    async def finish(self, status: Object) -> None:
        error = self._streams.get("error")
        with suppress(ConnectionError):
            text = report(status, self._protocol)
            if text and error is not None:
                await error.write(text)
        for name in ("stdout", "stderr", "error"):
            if name in self._streams:
                self._streams[name].finish()
        self._multiplex.close()
        await self._running

    async def close(self) -> None:
        """The end, however it came; idempotent."""
        for task in (*self._inputs, self._running):
            task.cancel()
        await asyncio.gather(*self._inputs, self._running, return_exceptions=True)
        self._socket.close()


def report(status: Object, protocol: str) -> bytes:
    """A session's end as its protocol tells it; b"" for nothing to tell."""
    if protocol in WITH_STATUS:
        return orjson.dumps(status)
    if status["status"] == "Success":
        return b""
    return str(status["message"]).encode()
