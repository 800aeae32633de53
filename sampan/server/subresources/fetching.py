"""A plain request to a node agent, its answer read as it comes.

Bounds: at most `HIGH_BYTES` wait unread; then the node is no longer read from, and TCP holds it
back. The head of the answer must come within `HEAD_S`, the rest when it likes (logs are followed).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, cast

from httptools import HttpParserError, HttpResponseParser

from sampan.api.errors import InternalError

from .nodes import connect

if TYPE_CHECKING:
    from ..app import Server

HEAD_S = 30.0
HIGH_BYTES = 256 * 1024
LOW_BYTES = 64 * 1024
TEXT_BYTES = 4096
"""Of an answer that is read whole."""


class NodeAnswer(asyncio.Protocol):
    """The answer to one request on one connection."""

    def __init__(self) -> None:
        self.head: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """The status code, once it is known."""
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self._complete = False
        self._error: Exception | None = None
        self._arrived = asyncio.Event()

    # asyncio's calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface, but not the base class.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self._fail(InternalError(f"Internal error occurred: bad answer from node: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        # Without a length the end of the connection is the end of the body.
        if not self.head.done():
            self._fail(InternalError("Internal error occurred: the node closed the connection"))
        self._complete = True
        self._arrived.set()

    # httptools' calls.

    def on_headers_complete(self) -> None:
        if not self.head.done():
            self.head.set_result(self._parser.get_status_code())

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)
        self._size += len(body)
        if self._size > HIGH_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._arrived.set()

    def on_message_complete(self) -> None:
        self._complete = True
        self._arrived.set()

    def _fail(self, error: InternalError) -> None:
        self._error = error
        if not self.head.done():
            self.head.set_exception(error)
        self._complete = True
        self._arrived.set()
        if self._transport is not None:
            self._transport.abort()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body. Closing the iterator closes the connection."""
        try:
            while True:
                while self._chunks:
                    chunk = self._chunks.popleft()
                    self._size -= len(chunk)
                    self._resume()
                    yield chunk
                if self._complete:
                    return
                self._arrived.clear()
                await self._arrived.wait()
        finally:
            self.close()

    def _resume(self) -> None:
        transport = self._transport
        if self._paused and self._size < LOW_BYTES and transport is not None:
            self._paused = False
            if not transport.is_closing():
                transport.resume_reading()

    async def text(self, limit: int) -> str:
        """The body as text, cut at `limit` bytes."""
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) >= limit:
                break
        self.close()
        return bytes(body[:limit]).decode(errors="replace")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def ask(server: Server, node: str, method: str, target: str) -> tuple[int, str]:
    """The status and (short) text of a node's answer. Raises NotFound and InternalError."""
    answer = await fetch(server, node, target, method=method)
    return answer.head.result(), await answer.text(TEXT_BYTES)


async def fetch(
    server: Server, node: str, target: str, *, insecure: bool = False, method: str = "GET"
) -> NodeAnswer:
    """Request `target` (path and query) of the agent of `node`; the head has come when it returns.

    `insecure` leaves the node's certificate unchecked. Raises NotFound and InternalError.
    """
    transport, answer = await connect(server, node, NodeAnswer, insecure=insecure)
    transport.write(
        f"{method} {target} HTTP/1.1\r\nHost: {node}\r\nConnection: close\r\n"
        "Content-Length: 0\r\n\r\n".encode("latin-1")
    )
    try:
        await asyncio.wait_for(asyncio.shield(answer.head), HEAD_S)
    except TimeoutError:
        answer.close()
        raise InternalError("Internal error occurred: the node does not answer") from None
    except BaseException:
        answer.close()
        raise
    return answer
