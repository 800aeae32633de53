"""Watches over WebSockets (RFC 6455), as browsers make them: each event is a message of text.

The one who watches says nothing but control frames: a close is answered and ends the watch, a ping
is answered, other messages are read past. Bounds: `MESSAGE_BYTES` for what the client sends; what
is sent waits in the watch's own queue, which cuts off who reads too slowly.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from hashlib import sha1

from sampan.api.errors import BadRequest

from .authn.authenticator import WEBSOCKET_BEARER
from .exchange import Request, Upgrade

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
VERSION = "13"
MESSAGE_BYTES = 1 << 16
"""A client has nothing to say that would be longer."""
GOODBYE_S = 1.0
"""How long the client may take to answer ours."""
TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
FINAL, MASKED = 0x80, 0x80
NORMAL = (1000).to_bytes(2)
"""The watch is over (timeoutSeconds, or the server stops)."""


def is_websocket(request: Request) -> bool:
    return request.upgradable and request.headers.get("upgrade", "").lower() == "websocket"


def watch_by_messages(request: Request, lines: AsyncIterator[bytes]) -> Upgrade:
    """The answer that shows `lines`, chunks of whole lines, as messages. Raises BadRequest."""
    head = _accepted(request)

    async def carry(transport: asyncio.Transport, received: bytes) -> None:
        await _serve(lines, head, transport, received)

    return Upgrade(carry)


def _accepted(request: Request) -> bytes:
    """The head of the answer. A token among the protocols was for authentication alone."""
    key = request.headers.get("sec-websocket-key", "")
    if not key or request.headers.get("sec-websocket-version") != VERSION:
        raise BadRequest("a WebSocket needs a key, and version 13")
    accepted = b64encode(sha1(key.encode() + MAGIC, usedforsecurity=False).digest()).decode()
    said = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accepted}"]  # fmt: skip
    offered = request.headers.get("sec-websocket-protocol", "").replace(" ", "").split(",")
    protocols = [item for item in offered if item and not item.startswith(WEBSOCKET_BEARER)]
    if protocols:
        said.append(f"Sec-WebSocket-Protocol: {protocols[0]}")
    return "\r\n".join([*said, "", ""]).encode("latin-1")


async def _serve(
    lines: AsyncIterator[bytes], head: bytes, transport: asyncio.Transport, received: bytes
) -> None:
    """Until the watch is over or the client has gone."""
    reader = asyncio.StreamReader(limit=MESSAGE_BYTES)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if received:
        reader.feed_data(received)
    writer = asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
    writer.write(head)
    transport.resume_reading()
    shown = asyncio.ensure_future(_show(lines, writer))
    heard = asyncio.ensure_future(_listen(reader, writer))
    try:
        await asyncio.wait((shown, heard), return_when=asyncio.FIRST_COMPLETED)
        if not shown.done():
            if (goodbye := heard.result()) is not None:
                writer.write(frame(CLOSE, goodbye))
        elif shown.exception() is None:
            writer.write(frame(CLOSE, NORMAL))
            await asyncio.wait((heard,), timeout=GOODBYE_S)
    finally:
        for task in (shown, heard):
            task.cancel()
        await asyncio.gather(shown, heard, return_exceptions=True)
        transport.close()


async def _show(lines: AsyncIterator[bytes], writer: asyncio.StreamWriter) -> None:
    try:
        async for chunk in lines:
            writer.writelines(frame(TEXT, line) for line in chunk.splitlines(keepends=True))
            await writer.drain()
    finally:
        await lines.aclose()  # type: ignore[attr-defined]


async def _listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
    """Answer what must be answered. Gives the client's goodbye, None when it has gone without
    one, or talks too much."""
    try:
        while True:
            opcode, body = await _message(reader)
            if opcode == PING:
                writer.write(frame(PONG, body))
                # Who does not take the answers is not heard further.
                await writer.drain()
            elif opcode == CLOSE:
                return body[:2]
    except (asyncio.IncompleteReadError, ConnectionError, ValueError):
        return None


async def _message(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """(opcode, payload) of a client's frame. Raises ValueError for one that is too long or not
    masked, IncompleteReadError at the end."""
    first, second = await reader.readexactly(2)
    size = second & ~MASKED
    if size > 125:
        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8))
    if size > MESSAGE_BYTES or not second & MASKED:
        raise ValueError("not a client's frame")
    mask = await reader.readexactly(4)
    body = await reader.readexactly(size)
    return first & 0x0F, bytes(byte ^ mask[at % 4] for at, byte in enumerate(body))


def frame(opcode: int, payload: bytes) -> bytes:
    """A whole message of ours."""
    size = len(payload)
    if size < 126:
        return bytes((FINAL | opcode, size)) + payload
    if size < 1 << 16:
        return bytes((FINAL | opcode, 126)) + size.to_bytes(2) + payload
    return bytes((FINAL | opcode, 127)) + size.to_bytes(8) + payload
