"""One outgoing HTTP/1.1 connection: a request goes out, its answer is read as it comes.

Bounds: at most `HIGH_BYTES` wait unread; then the peer is no longer read from, and TCP holds it
back. An answer's head is at most `MAX_HEAD_BYTES`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from .target import Address, CallFailed

HIGH_BYTES = 256 << 10
LOW_BYTES = 64 << 10
MAX_HEAD_BYTES = 64 << 10
"""As what the server itself takes."""
UNDELIMITED = frozenset({204, 304})
"""Answers that have no body, whatever their headers say."""


class Broken(CallFailed):
    """The peer went away; `silent` when it had said nothing, so the request may go out again."""

    def __init__(self, message: str, *, silent: bool) -> None:
        super().__init__(message)
        self.silent = silent


class Connection(asyncio.Protocol):
    """A connection to one peer. One request at a time; `reusable` when the next may follow."""

    def __init__(self, peer: Address) -> None:
        self.peer = peer
        self.closed = False
        self.reusable = False
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        """Of the answer under way, names in lower case."""
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._start("")

    def _start(self, method: str) -> None:
        self.status = 0
        self.headers = []
        self.reusable = False
        self._method = method
        self._parser = HttpResponseParser(self)
        self._head: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._chunks: deque[bytes] = deque()
        self._size = self._head_size = 0
        self._paused = self._complete = self._heard = False
        self._error: CallFailed | None = None
        self._feeding: asyncio.Task[None] | None = None
        self._arrived = asyncio.Event()

    # asyncio's calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface, but not the base class.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self._method or self._complete:
            # Nobody asked for this.
            self.abort()
            return
        self._heard = True
        if not self._head.done():
            # Counted here: the parser says nothing of a header that has no end.
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._fail(CallFailed("unexpected protocol upgrade"))
        except HttpParserError as error:
            self._fail(CallFailed(f"net/http: HTTP/1.x transport connection broken: {error}"))
        if self._head_size > MAX_HEAD_BYTES and not self._head.done():
            self._fail(CallFailed("net/http: server response headers exceeded the limit"))

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self.reusable = False
        self._writable.set()
        if self._method and not self._complete:
            if self._head.done() and self._ends_with_connection():
                self._finish()
            else:
                words = "read: connection reset by peer" if error else "EOF"
                if self._head.done():
                    words = "unexpected EOF"
                self._fail(Broken(words, silent=not self._heard))

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # httptools' calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            return
        self.status = status
        if not self._head.done():
            self._head.set_result(None)
        if self._method == "HEAD":
            # The parser cannot know that no body follows, so the connection is not used again.
            self._finish()
            self.close()

    def on_body(self, body: bytes) -> None:
        if self._complete:
            return
        self._chunks.append(body)
        self._size += len(body)
        if self._size > HIGH_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._arrived.set()

    def on_message_complete(self) -> None:
        if self.status == 0:
            # 100 Continue and its like: what counts comes next.
            self.headers = []
            self._head_size = 0
            return
        self.reusable = (
            not self.closed
            and bool(self._parser.should_keep_alive())
            and self._method != "HEAD"
            and (self._feeding is None or self._feeding.done())
        )
        self._finish()

    def _ends_with_connection(self) -> bool:
        names = {name for name, _ in self.headers}
        return not names & {"content-length", "transfer-encoding"} or self.status in UNDELIMITED

    def _finish(self) -> None:
        self._complete = True
        self._arrived.set()

    def _fail(self, error: CallFailed) -> None:
        if self._complete:
            return
        self._error = error
        if not self._head.done():
            self._head.set_exception(error)
            self._head.exception()
        self._finish()
        self.abort()

    # What callers use.

    async def send(self, method: str, head: bytes, body: bytes) -> None:
        """Send a request; returns when the head of its answer is here. Raises CallFailed."""
        self._start(method)
        if self._transport is None or self._transport.is_closing():
            raise Broken("EOF", silent=True)
        self._transport.write(head + body)
        await asyncio.shield(self._head)

    async def send_parts(
        self, method: str, head: bytes, parts: AsyncIterable[bytes], *, chunked: bool
    ) -> None:
        """The same with a body that is sent as it comes, no faster than the peer takes it. The
        answer may begin before the body has ended. Raises CallFailed."""
        self._start(method)
        if self._transport is None or self._transport.is_closing():
            raise Broken("EOF", silent=True)
        self._transport.write(head)
        self._feeding = asyncio.get_running_loop().create_task(self._feed(parts, chunked))
        self._feeding.add_done_callback(_ended)
        await asyncio.shield(self._head)

    async def _feed(self, parts: AsyncIterable[bytes], chunked: bool) -> None:
        transport = self._transport
        assert transport is not None
        try:
            async for part in parts:
                # What the peer does not take is still read, so that the client can hear its answer.
                if transport.is_closing() or not part:
                    continue
                transport.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
                await self._writable.wait()
        except ConnectionError:
            # Half a body must not pass for a whole one.
            self._fail(CallFailed("http: the client has gone"))
            self.abort()
            return
        if chunked and not transport.is_closing():
            transport.write(b"0\r\n\r\n")

    async def chunks(self) -> AsyncIterator[bytes]:
        """The answer's body. Raises CallFailed when it breaks off."""
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._size -= len(chunk)
                self._resume()
                yield chunk
            if self._complete:
                if self._error is not None:
                    raise self._error
                return
            self._arrived.clear()
            await self._arrived.wait()

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises CallFailed when it is larger than `limit` or breaks off."""
        parts: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > limit:
                self.abort()
                raise CallFailed(f"http: response body too large (more than {limit} bytes)")
            parts.append(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def header(self, name: str) -> str:
        """A header of the answer, "" when absent."""
        return next((value for known, value in self.headers if known == name), "")

    def _resume(self) -> None:
        transport = self._transport
        if self._paused and self._size < LOW_BYTES and transport is not None:
            self._paused = False
            if not transport.is_closing():
                transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()


def _ended(feeding: asyncio.Task[None]) -> None:
    """Nobody waits for a body to be sent: how it ended is told by the answer."""
    if not feeding.cancelled():
        feeding.exception()
