"""Streams over one SPDY connection, for the session that uses them (`spdyconnection` is the rest).

Tasks: `run` reads and writes until the connection ends. Bounds: of each stream at most
`INBOX_BYTES` wait unread, then the connection is not read; at most `OUTBOX_BYTES` wait to be
sent, then writers wait and the connection is not read. So a stream nobody reads holds up the
others of its connection, as upstream's does; its session ends with it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

from sampan.wire import spdy
from sampan.wire.spdyconnection import (
    STREAMS_MAX,
    Connection,
    Dropped,
    Ended,
    Event,
    Left,
    Opened,
    Received,
    Writable,
)

INBOX_BYTES = 256 << 10
OUTBOX_BYTES = 256 << 10
PING_S = 10.0


class Carrier(Protocol):
    """What carries the connection's bytes: a socket, or messages of a WebSocket."""

    async def receive(self) -> bytes:
        """b"" at the end."""
        ...

    async def send(self, data: bytes) -> None:
        """Waits until there is room for more. Raises ConnectionError."""
        ...


class Stream:
    """One stream; reading and writing are independent of one another."""

    def __init__(self, multiplex: Multiplex, number: int, headers: Mapping[str, str]) -> None:
        self.number = number
        self.headers = headers
        """Lower-case names."""
        self._multiplex = multiplex
        self._inbox: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._unwanted = False
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()

    async def read(self) -> bytes:
        """The next bytes; b"" when the peer sends no more, or is gone."""
        while not self._inbox:
            if self._ended:
                return b""
            self._arrived.clear()
            await self._arrived.wait()
        data = self._inbox.popleft()
        self._size -= len(data)
        self._multiplex.consumed(self, len(data))
        return data

    async def write(self, data: bytes) -> None:
        """Returns when there is room for more. Raises ConnectionError when the peer is gone."""
        await self._multiplex.write(self, data)

    def finish(self) -> None:
        """We send no more."""
        self._multiplex.finish(self)

    def reset(self) -> None:
        """End it both ways."""
        self._multiplex.reset(self)

    def discard(self) -> None:
        """Nobody will read: what arrives is dropped, so that it holds up no other stream."""
        self._unwanted = True
        self._inbox.clear()
        size, self._size = self._size, 0
        self._multiplex.consumed(self, size)

    # The multiplex's side.

    @property
    def full(self) -> bool:
        return self._size > INBOX_BYTES

    def arrived(self, data: bytes) -> None:
        if self._unwanted:
            self._multiplex.consumed(self, len(data))
            return
        self._inbox.append(data)
        self._size += len(data)
        self._arrived.set()

    def ended(self) -> None:
        self._ended = True
        self._arrived.set()
        self._room.set()

    def has_room(self) -> None:
        self._room.set()

    async def wait_for_room(self) -> None:
        self._room.clear()
        await self._room.wait()


class Multiplex:
    """`accept` is called for every stream the peer opens, at once and in order."""

    def __init__(
        self,
        carrier: Carrier,
        accept: Callable[[Stream], None],
        connection: Connection | None = None,
    ) -> None:
        self._carrier = carrier
        self._accept = accept
        self._connection = connection or Connection()
        self._streams: dict[int, Stream] = {}
        self._full: set[Stream] = set()
        self._unread = asyncio.Event()
        self._pending = asyncio.Event()
        self._sent = asyncio.Event()
        self._closing = False
        self.lost = asyncio.Event()

    async def run(self) -> None:
        """Until the peer is gone or `close` is called and all is sent. Bad bytes end it too."""
        reading = asyncio.create_task(self._read())
        writing = asyncio.create_task(self._write())
        try:
            await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._lose()
            for task in (reading, writing):
                task.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)

    def open(self) -> Stream:
        """A stream of our own, where we are the client. Raises ConnectionError."""
        if self.lost.is_set() or len(self._streams) >= STREAMS_MAX:
            raise ConnectionRefusedError("no further stream can be opened")
        number = self._connection.open([])
        made = self._streams[number] = Stream(self, number, {})
        self._pending.set()
        return made

    def close(self) -> None:
        """Say goodbye, and end `run` when everything written has been sent."""
        for number in tuple(self._connection.streams):
            self._connection.reset(number)
        self._connection.leave()
        self._closing = True
        self._pending.set()

    def _lose(self) -> None:
        self.lost.set()
        self._sent.set()
        for stream in self._streams.values():
            stream.ended()
        self._streams.clear()

    async def _read(self) -> None:
        with suppress(ConnectionError, spdy.SpdyError):
            while data := await self._carrier.receive():
                for event in self._connection.receive(data):
                    self._handle(event)
                self._pending.set()
                while self._full:
                    await self._wait_unread()
                await self._outbox_room()

    async def _wait_unread(self) -> None:
        """A peer we do not read from may leave unnoticed, unless we write to it now and then."""
        self._unread.clear()
        try:
            async with asyncio.timeout(PING_S):
                await self._unread.wait()
        except TimeoutError:
            self._connection.ping()
            self._pending.set()

    def _handle(self, event: Event) -> None:
        if isinstance(event, Opened):
            made = Stream(self, event.stream, dict(event.headers))
            self._streams[event.stream] = made
            if event.fin:
                made.ended()
            self._accept(made)
            return
        if isinstance(event, Left):
            return
        stream = self._streams.get(event.stream)
        match event:
            case Received(_, data) if stream is not None:
                stream.arrived(data)
                if stream.full:
                    self._full.add(stream)
            case Ended() if stream is not None:
                stream.ended()
                self._release(stream)
            case Dropped() if stream is not None:
                self._drop(stream)
            case Writable(0):
                for each in self._streams.values():
                    each.has_room()
            case Writable() if stream is not None:
                stream.has_room()

    def _drop(self, stream: Stream) -> None:
        self._streams.pop(stream.number, None)
        self._full.discard(stream)
        self._unread.set()
        stream.ended()

    async def _write(self) -> None:
        with suppress(ConnectionError):
            while True:
                if self._connection.waiting:
                    data = self._connection.take()
                    self._sent.set()
                    await self._carrier.send(data)
                elif self._closing:
                    return
                else:
                    self._pending.clear()
                    await self._pending.wait()

    async def _outbox_room(self) -> None:
        while self._connection.waiting > OUTBOX_BYTES and not self.lost.is_set():
            self._sent.clear()
            await self._sent.wait()

    # What streams ask for.

    def consumed(self, stream: Stream, size: int) -> None:
        self._connection.consumed(stream.number, size)
        if self._connection.waiting:
            self._pending.set()
        if stream in self._full and not stream.full:
            self._full.discard(stream)
            self._unread.set()

    async def write(self, stream: Stream, data: bytes) -> None:
        view = data
        while True:
            if self.lost.is_set() or stream.number not in self._connection.streams:
                raise ConnectionResetError("the stream is closed")
            view = view[self._connection.send(stream.number, view) :]
            self._pending.set()
            if not view:
                break
            await stream.wait_for_room()
        await self._outbox_room()

    def finish(self, stream: Stream) -> None:
        self._connection.finish(stream.number)
        self._pending.set()
        self._release(stream)

    def reset(self, stream: Stream) -> None:
        self._connection.reset(stream.number)
        self._pending.set()
        self._drop(stream)

    def _release(self, stream: Stream) -> None:
        # One that has ended both ways keeps what has arrived, but nothing comes any more.
        if stream.number not in self._connection.streams:
            self._streams.pop(stream.number, None)
