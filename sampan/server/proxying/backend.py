"""One request to a backend on a connection of its own, and its answer as it comes.

Bounds: at most `HIGH_BYTES` of an answer wait unread; then the backend is not read. A request's
body is sent as fast as the backend takes it. The head is at most `HEAD_MAX`. No time limit but on
dialling (`DIAL_S`): proxied requests may last; they end when their client goes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from sampan.api.errors import ServiceUnavailable
from sampan.wire.address import connect_words

from .headers import Pairs
from .target import Target

DIAL_S = 30.0
"""Go's default dialer, which upstream uses."""
HIGH_BYTES = 256 << 10
LOW_BYTES = 64 << 10
UNREACHABLE = "error trying to reach service: "
HEAD_MAX = 1 << 20
"""As Go's transport."""


class Backend(asyncio.Protocol):
    """The client's side of one exchange."""

    def __init__(self, *, bodiless: bool = False) -> None:
        """`bodiless`: the answer has no body, whatever its headers say (HEAD)."""
        self._loop = asyncio.get_running_loop()
        self.head: asyncio.Future[int] = self._loop.create_future()
        """The status, once it is known. Raises ServiceUnavailable."""
        self.headers: Pairs = []
        self._bodiless = bodiless
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._head_size = 0
        self._paused = False
        self._complete = False
        self._broken = False
        self._interim: Pairs = []
        self._arrived = asyncio.Event()
        self._drained: asyncio.Future[None] | None = None

    # asyncio's calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface, but not the base class.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._fail("the backend switched protocols without being asked")
        except HttpParserError as error:
            self._fail(f"malformed HTTP response: {error}")

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.head.done():
            self._fail("EOF")
        # Without a length the end of the connection is the end of the body.
        self._broken = not self._complete and _has_length(self.headers)
        self._complete = True
        self._arrived.set()
        self.resume_writing()

    def pause_writing(self) -> None:
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    # httptools' calls.

    def on_message_begin(self) -> None:
        self._interim = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value)
        if self._head_size > HEAD_MAX:
            self._fail("response header too large")
        self._interim.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200 and not self.head.done():
            self.headers = self._interim
            self.head.set_result(status)
            if self._bodiless:
                self._complete = True

    def on_body(self, body: bytes) -> None:
        if self._bodiless:
            return
        self._chunks.append(body)
        self._size += len(body)
        if self._size > HIGH_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._arrived.set()

    def on_message_complete(self) -> None:
        # 1xx answers are messages of their own.
        if self.head.done():
            self._complete = True
            self._arrived.set()

    def _fail(self, why: str) -> None:
        if not self.head.done():
            self.head.set_exception(unreachable(why))
            # It may be that nobody asks any more.
            self.head.exception()
        self._broken = self._complete = True
        self._arrived.set()
        if self._transport is not None:
            self._transport.abort()

    # The relay's calls.

    async def send(self, data: bytes) -> bool:
        """False when the backend takes no more."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        transport.write(data)
        if self._drained is not None:
            await self._drained
        return not transport.is_closing()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body. Closing the iterator closes the connection. Raises ConnectionError when the
        body broke off."""
        try:
            while True:
                while self._chunks:
                    chunk = self._chunks.popleft()
                    self._size -= len(chunk)
                    if self._paused and self._size < LOW_BYTES:
                        self._resume()
                    yield chunk
                if self._broken:
                    raise ConnectionResetError("the backend's answer broke off")
                if self._complete:
                    return
                self._arrived.clear()
                await self._arrived.wait()
        finally:
            self.close()

    def _resume(self) -> None:
        self._paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _has_length(headers: Pairs) -> bool:
    names = {name.lower() for name, _ in headers}
    return "content-length" in names or "transfer-encoding" in names


def unreachable(why: str) -> ServiceUnavailable:
    """Upstream's answer when a backend cannot be spoken to."""
    return ServiceUnavailable(UNREACHABLE + why)


async def dial(target: Target, make: Callable[[], asyncio.BaseProtocol]) -> tuple[
    asyncio.Transport, asyncio.BaseProtocol
]:  # fmt: skip
    """Connect to a target. Raises ServiceUnavailable with the reason in Go's words."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(DIAL_S):
            return await loop.create_connection(
                make,
                target.host,
                target.port,
                ssl=target.tls,
                server_hostname=(target.server_name or target.host) if target.tls else None,
            )
    except TimeoutError:
        raise unreachable(f"dial tcp {target.address}: i/o timeout") from None
    except OSError as error:
        raise unreachable(f"dial tcp {target.address}: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    # A failed handshake is an OSError with a number of its own.
    if type(error).__module__ == "ssl":
        return str(error)
    return f"connect: {connect_words(error)}"
