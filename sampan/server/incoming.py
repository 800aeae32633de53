"""A request's body given on while it arrives.

Bounds: at most `HIGH_BYTES` wait unread; then the client's connection is not read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

HIGH_BYTES = 256 << 10
LOW_BYTES = 64 << 10


class Incoming:
    """Fed by the connection, read once by whoever passes the body on."""

    def __init__(self, transport: asyncio.Transport, length: int | None) -> None:
        self.length = length
        self._transport = transport
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self._ended = False
        self._lost = False
        self._arrived = asyncio.Event()

    def arrive(self, part: bytes) -> None:
        """Some of the body has come."""
        self._parts.append(part)
        self._size += len(part)
        if self._size > HIGH_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._arrived.set()

    def end(self) -> None:
        """The body is complete."""
        self._ended = True
        self._arrived.set()

    def lose(self) -> None:
        """The client went away."""
        self._lost = True
        self._arrived.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            while self._parts:
                part = self._parts.popleft()
                self._size -= len(part)
                if self._paused and self._size < LOW_BYTES:
                    self._paused = False
                    if not self._transport.is_closing():
                        self._transport.resume_reading()
                yield part
            if self._ended:
                return
            if self._lost:
                raise ConnectionResetError("the client has gone")
            self._arrived.clear()
            await self._arrived.wait()
