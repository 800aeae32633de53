"""A SPDY/3.1 connection as a pure machine: bytes in, events out; calls in, bytes out.

Flow control: the peer is told what has been consumed (WINDOW_UPDATE), and its own windows are kept
once it has shown that it has any, by SETTINGS or a WINDOW_UPDATE. The library behind kubectl has
none, and would hang for ever if its silence were taken for a full window.

Bounds: `STREAMS_MAX` open streams, further ones are refused. What was consumed of a stream is
announced in steps of `UPDATE_STEP`. Bytes to send wait in here until taken: the caller stops
sending, and stops receiving, while `waiting` is large.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct, field

from . import spdy
from .spdy import Headers, SpdyError

STREAMS_MAX: Final = 1000
"""A port forward has two streams for every connection made through it."""
WINDOW_DEFAULT: Final = 64 << 10
UPDATE_STEP: Final = 32 << 10
FRAME_MAX: Final = 32 << 10
"""Longer data are sent as several frames, so that streams take turns."""


class Opened(Struct, frozen=True):
    stream: int
    headers: Headers
    fin: bool


class Received(Struct, frozen=True):
    stream: int
    data: bytes


class Ended(Struct, frozen=True):
    """The peer sends no more on the stream."""

    stream: int


class Dropped(Struct, frozen=True):
    """The stream is gone, both ways."""

    stream: int
    code: int


class Writable(Struct, frozen=True):
    """There is room for more on a stream (0: on all) that was full."""

    stream: int


class Left(Struct, frozen=True):
    """The peer opens no more streams."""


Event = Opened | Received | Ended | Dropped | Writable | Left


class _Stream(Struct):
    window: int
    """What we may still send, if the peer keeps windows."""
    unannounced: int = 0
    local_ended: bool = False
    remote_ended: bool = False


class Connection(Struct):
    """One side of a connection; the server's unless `client`."""

    client: bool = False
    governed: bool = False
    """The peer has shown that it keeps windows."""
    streams: dict[int, _Stream] = field(default_factory=dict)
    _decoder: spdy.Decoder = field(default_factory=spdy.Decoder)
    _encoder: spdy.Encoder = field(default_factory=spdy.Encoder)
    _out: list[bytes] = field(default_factory=list)
    waiting: int = 0
    """How many bytes wait to be taken."""
    _last: int = 0
    """The highest stream the peer has opened."""
    _next: int = 1
    _initial: int = WINDOW_DEFAULT
    _window: int = WINDOW_DEFAULT
    """The connection's own, over all streams."""
    _unannounced: int = 0
    _leaving: bool = False

    # Input

    def receive(self, data: bytes) -> list[Event]:
        """What these bytes mean. Raises SpdyError, after which the connection is of no use."""
        events: list[Event] = []
        for frame in self._decoder.feed(data):
            HANDLERS[type(frame)](self, frame, events)
        return events

    def _syn_stream(self, frame: spdy.SynStream, events: list[Event]) -> None:
        stream = frame.stream
        if stream <= self._last or stream % 2 == (1 if self.client else 0):
            raise SpdyError(f"stream {stream} cannot be opened now")
        self._last = stream
        if self._leaving or len(self.streams) >= STREAMS_MAX:
            self._put(spdy.Rst(stream, spdy.REFUSED_STREAM))
            return
        made = self.streams[stream] = _Stream(self._initial)
        made.remote_ended = frame.fin
        made.local_ended = frame.unidirectional
        self._put(spdy.SynReply(stream))
        events.append(Opened(stream, frame.headers, frame.fin))
        self._forget_if_done(stream)

    def _syn_reply(self, frame: spdy.SynReply | spdy.MoreHeaders, events: list[Event]) -> None:
        if frame.fin:
            self._end_remote(frame.stream, events)

    def _data(self, frame: spdy.Data, events: list[Event]) -> None:
        stream = self.streams.get(frame.stream)
        # What is never read is consumed at once, or the connection's window would shrink.
        if stream is None:
            self._announce(0, len(frame.data))
            if frame.stream > self._last or not frame.stream:
                raise SpdyError(f"data on stream {frame.stream}, which was never opened")
            return
        if stream.remote_ended:
            self._announce(0, len(frame.data))
            self.reset(frame.stream, spdy.STREAM_ALREADY_CLOSED)
            events.append(Dropped(frame.stream, spdy.STREAM_ALREADY_CLOSED))
            return
        if frame.data:
            events.append(Received(frame.stream, frame.data))
        if frame.fin:
            self._end_remote(frame.stream, events)

    def _end_remote(self, stream: int, events: list[Event]) -> None:
        found = self.streams.get(stream)
        if found is not None and not found.remote_ended:
            found.remote_ended = True
            events.append(Ended(stream))
            self._forget_if_done(stream)

    def _rst(self, frame: spdy.Rst, events: list[Event]) -> None:
        if self.streams.pop(frame.stream, None) is not None:
            events.append(Dropped(frame.stream, frame.code))

    def _settings(self, frame: spdy.Settings, events: list[Event]) -> None:
        for key, value in frame.values:
            if key == spdy.INITIAL_WINDOW_SIZE:
                for stream in self.streams.values():
                    stream.window += value - self._initial
                self._initial = value
                self.governed = True
                events.append(Writable(0))

    def _ping(self, frame: spdy.Ping, events: list[Event]) -> None:
        # A ping of ours comes back with our own parity.
        if frame.number % 2 == (0 if self.client else 1):
            self._put(frame)

    def _go_away(self, frame: spdy.GoAway, events: list[Event]) -> None:
        events.append(Left())

    def _window_update(self, frame: spdy.WindowUpdate, events: list[Event]) -> None:
        self.governed = True
        if frame.stream == 0:
            self._window += frame.delta
        elif frame.stream in self.streams:
            self.streams[frame.stream].window += frame.delta
        else:
            return
        events.append(Writable(frame.stream))

    # Output

    def open(self, headers: Headers) -> int:
        """A stream of our own, as a client makes them."""
        stream, self._next = self._next, self._next + 2
        self._last = stream
        self.streams[stream] = _Stream(self._initial)
        self._put(spdy.SynStream(stream, headers))
        return stream

    def send(self, stream: int, data: bytes) -> int:
        """How many of these bytes were sent: fewer than all when a window is full (`Writable`
        tells when it no longer is). On a stream that is gone all are "sent"."""
        found = self.streams.get(stream)
        if found is None or found.local_ended:
            return len(data)
        size = len(data)
        if self.governed:
            size = max(0, min(size, found.window, self._window))
        found.window -= size
        self._window -= size
        for start in range(0, size, FRAME_MAX):
            self._put(spdy.Data(stream, data[start : min(size, start + FRAME_MAX)]))
        return size

    def finish(self, stream: int) -> None:
        """Nothing more comes from us on this stream."""
        found = self.streams.get(stream)
        if found is not None and not found.local_ended:
            found.local_ended = True
            self._put(spdy.Data(stream, b"", True))
            self._forget_if_done(stream)

    def reset(self, stream: int, code: int = spdy.CANCEL) -> None:
        """End a stream both ways."""
        if self.streams.pop(stream, None) is not None:
            self._put(spdy.Rst(stream, code))

    def consumed(self, stream: int, size: int) -> None:
        """So much of what was received on the stream has been used."""
        self._announce(stream, size)

    def ping(self) -> None:
        """A sign of life; the answer is not waited for."""
        self._put(spdy.Ping(1 if self.client else 2))

    def leave(self) -> None:
        """Say goodbye: no new streams."""
        if not self._leaving:
            self._leaving = True
            self._put(spdy.GoAway(0 if self.client else self._last, 0))

    def take(self) -> bytes:
        """The bytes that are to be sent now, in this order."""
        out = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        self.waiting = 0
        return out

    def _announce(self, stream: int, size: int) -> None:
        self._unannounced += size
        if self._unannounced >= UPDATE_STEP:
            self._put(spdy.WindowUpdate(0, self._unannounced))
            self._unannounced = 0
        found = self.streams.get(stream)
        if found is not None and not found.remote_ended:
            found.unannounced += size
            if found.unannounced >= UPDATE_STEP:
                self._put(spdy.WindowUpdate(stream, found.unannounced))
                found.unannounced = 0

    def _put(self, frame: spdy.Frame) -> None:
        data = self._encoder.encode(frame)
        self._out.append(data)
        self.waiting += len(data)

    def _forget_if_done(self, stream: int) -> None:
        found = self.streams[stream]
        if found.local_ended and found.remote_ended:
            del self.streams[stream]


def balanced(*, client: bool) -> Connection:
    """One side of a connection whose both ends are ours: each stream has a window that is kept from
    the first byte, and they share none, so that one nobody reads holds up no other. What may wait
    unread is `STREAMS_MAX` windows."""
    return Connection(client=client, governed=True, _window=1 << 62)


HANDLERS: dict[type, Callable[..., None]] = {
    spdy.SynStream: Connection._syn_stream,
    spdy.SynReply: Connection._syn_reply,
    spdy.MoreHeaders: Connection._syn_reply,
    spdy.Data: Connection._data,
    spdy.Rst: Connection._rst,
    spdy.Settings: Connection._settings,
    spdy.Ping: Connection._ping,
    spdy.GoAway: Connection._go_away,
    spdy.WindowUpdate: Connection._window_update,
}
