"""SPDY/3.1 frames: bytes to frames and back. Pure; the connection they make is `spdyconnection`.

The protocol kubectl speaks up to 1.30, and tunnels through WebSocket since (KEP-4006). After
draft-mbelshe-httpbis-spdy-00 and SPDY/3.1.

Bounds: a control frame has at most `CONTROL_MAX` bytes, its headers at most `HEADERS_MAX` once
decompressed. Data frames are never held: their bytes are given on as they arrive.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

VERSION: Final = 3
CONTROL_MAX: Final = 64 << 10
HEADERS_MAX: Final = 64 << 10
"""Streams of Kubernetes carry three short headers; this is room, and no bomb."""
HEADERS_COUNT_MAX: Final = 100

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = (
    1, 2, 3, 4, 6, 7, 8, 9,
)  # fmt: skip
FLAG_FIN, FLAG_UNIDIRECTIONAL = 1, 2
INITIAL_WINDOW_SIZE = 7
"""The one setting that matters here."""

# Codes of RST_STREAM.
PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, CANCEL, INTERNAL_ERROR = 1, 2, 3, 5, 6
FLOW_CONTROL_ERROR, STREAM_IN_USE, STREAM_ALREADY_CLOSED = 7, 8, 9

_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language "
    "accept-ranges age allow authorization cache-control connection content-base content-encoding "
    "content-language content-length content-location content-md5 content-range content-type date "
    "etag expect expires from host if-match if-modified-since if-none-match if-range "
    "if-unmodified-since last-modified location max-forwards pragma proxy-authenticate "
    "proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url "
    "public set-cookie keep-alive origin"
)
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 "
    "Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service "
    "UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, "
    "Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/"
    "xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8"
    "charset=iso-8859-1,utf-,*,enq=0."
)


def _dictionary() -> bytes:
    """What both sides prime zlib with: words with their lengths, then fragments of values."""
    words = (word.replace("_", " ").encode() for word in _WORDS.split())
    return b"".join(struct.pack(">I", len(word)) + word for word in words) + _TAIL.encode()


DICTIONARY: Final = _dictionary()

Headers = Sequence[tuple[str, str]]


class SpdyError(Exception):
    """The peer's bytes are no SPDY, or too much; the connection is of no more use."""


class SynStream(Struct, frozen=True):
    stream: int
    headers: Headers = ()
    fin: bool = False
    unidirectional: bool = False


class SynReply(Struct, frozen=True):
    stream: int
    headers: Headers = ()
    fin: bool = False


class MoreHeaders(Struct, frozen=True):
    stream: int
    headers: Headers = ()
    fin: bool = False


class Rst(Struct, frozen=True):
    stream: int
    code: int


class Settings(Struct, frozen=True):
    values: tuple[tuple[int, int], ...]


class Ping(Struct, frozen=True):
    number: int


class GoAway(Struct, frozen=True):
    last_stream: int
    code: int


class WindowUpdate(Struct, frozen=True):
    stream: int
    """0 is the connection's."""
    delta: int


class Data(Struct, frozen=True):
    """A data frame, or a part of one: only the last part can end the stream."""

    stream: int
    data: bytes
    fin: bool = False


Frame = SynStream | SynReply | MoreHeaders | Rst | Settings | Ping | GoAway | WindowUpdate | Data


class Decoder:
    """One direction of a connection. `feed` it; a SpdyError is final."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._stream = 0
        self._left = 0
        """Bytes of the present data frame that are still to come."""
        self._fin = False

    def feed(self, data: bytes) -> list[Frame]:
        """The frames these bytes complete. Raises SpdyError."""
        self._buffer += data
        frames: list[Frame] = []
        while True:
            frame = self._continue_data() if self._left else self._next()
            if frame is None:
                return frames
            frames.append(frame)

    def _continue_data(self) -> Frame | None:
        buffer = self._buffer
        if not buffer:
            return None
        part = bytes(buffer[: self._left])
        del buffer[: len(part)]
        self._left -= len(part)
        return Data(self._stream, part, self._fin and not self._left)

    def _next(self) -> Frame | None:
        buffer = self._buffer
        while len(buffer) >= 8:
            first, second = struct.unpack_from(">II", buffer)
            flags, length = second >> 24, second & 0xFF_FFFF
            if not first & 0x8000_0000:
                del buffer[:8]
                self._stream, self._left, self._fin = first, length, bool(flags & FLAG_FIN)
                if not length:
                    return Data(first, b"", self._fin)
                return self._continue_data()
            if (first >> 16) & 0x7FFF != VERSION:
                raise SpdyError(f"version {(first >> 16) & 0x7FFF} of SPDY is not spoken here")
            if length > CONTROL_MAX:
                raise SpdyError(f"a control frame of {length} bytes is too long")
            if len(buffer) < 8 + length:
                return None
            payload = bytes(buffer[8 : 8 + length])
            del buffer[: 8 + length]
            frame = self._control(first & 0xFFFF, flags, payload)
            if frame is not None:
                return frame
        return None

    def _control(self, kind: int, flags: int, payload: bytes) -> Frame | None:
        """None for a kind of frame that may be ignored."""
        try:
            return self._read_control(kind, flags, payload)
        except struct.error:
            raise SpdyError(f"a frame of type {kind} is too short") from None

    def _read_control(self, kind: int, flags: int, payload: bytes) -> Frame | None:
        fin = bool(flags & FLAG_FIN)
        if kind == SYN_STREAM:
            stream, _, _ = struct.unpack_from(">IIH", payload)
            headers = self._headers(payload[10:])
            return SynStream(stream & MASK, headers, fin, bool(flags & FLAG_UNIDIRECTIONAL))
        if kind in (SYN_REPLY, HEADERS):
            (stream,) = struct.unpack_from(">I", payload)
            made = SynReply if kind == SYN_REPLY else MoreHeaders
            return made(stream & MASK, self._headers(payload[4:]), fin)
        if kind == SETTINGS:
            (count,) = struct.unpack_from(">I", payload)
            if count * 8 != len(payload) - 4:
                raise SpdyError("a SETTINGS frame is not as long as it says")
            pairs = struct.iter_unpack(">II", payload[4:])
            return Settings(tuple((key & 0xFF_FFFF, value) for key, value in pairs))
        if kind == PING:
            return Ping(*struct.unpack_from(">I", payload))
        if kind not in (RST_STREAM, GOAWAY, WINDOW_UPDATE):
            return None
        stream, value = (number & MASK for number in struct.unpack_from(">II", payload))
        if kind == RST_STREAM:
            return Rst(stream, value)
        return GoAway(stream, value) if kind == GOAWAY else WindowUpdate(stream, value)

    def _headers(self, block: bytes) -> Headers:
        """A compressed block. Every block passes through the one inflater, wanted or not."""
        try:
            text = self._inflate.decompress(block, HEADERS_MAX)
        except zlib.error as error:
            raise SpdyError(f"headers cannot be decompressed: {error}") from None
        if self._inflate.unconsumed_tail or self._inflate.eof:
            raise SpdyError("headers are too long, or end for good")
        return read_headers(text)


MASK: Final = 0x7FFF_FFFF


def read_headers(text: bytes) -> Headers:
    """A decompressed block. Raises SpdyError, struct.error."""
    (count,) = struct.unpack_from(">I", text)
    if count > HEADERS_COUNT_MAX:
        raise SpdyError(f"{count} headers are too many")
    at = 4
    words: list[str] = []
    for _ in range(2 * count):
        (length,) = struct.unpack_from(">I", text, at)
        at += 4
        if length > len(text) - at:
            raise SpdyError("a header is longer than its block")
        words.append(text[at : at + length].decode("utf-8", "replace"))
        at += length
    return tuple(zip((name.lower() for name in words[::2]), words[1::2], strict=True))


class Encoder:
    """The other direction: frames to bytes."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def encode(self, frame: Frame) -> bytes:
        match frame:
            case Data(stream, data, fin):
                return struct.pack(">II", stream, fin * FLAG_FIN << 24 | len(data)) + data
            case SynStream(stream, headers, fin, one_way):
                flags = fin * FLAG_FIN | one_way * FLAG_UNIDIRECTIONAL
                head = struct.pack(">IIH", stream, 0, 0)
                return _control(SYN_STREAM, head + self._pack(headers), flags)
            case SynReply(stream, headers, fin):
                body = struct.pack(">I", stream) + self._pack(headers)
                return _control(SYN_REPLY, body, fin * FLAG_FIN)
            case MoreHeaders(stream, headers, fin):
                body = struct.pack(">I", stream) + self._pack(headers)
                return _control(HEADERS, body, fin * FLAG_FIN)
            case Settings(values):
                body = b"".join(struct.pack(">II", key, value) for key, value in values)
                return _control(SETTINGS, struct.pack(">I", len(values)) + body)
            case Ping(number):
                return _control(PING, struct.pack(">I", number))
            case Rst(stream, code):
                return _control(RST_STREAM, struct.pack(">II", stream, code))
            case GoAway(last, code):
                return _control(GOAWAY, struct.pack(">II", last, code))
            case WindowUpdate(stream, delta):
                return _control(WINDOW_UPDATE, struct.pack(">II", stream, delta))

    def _pack(self, headers: Headers) -> bytes:
        parts = [struct.pack(">I", len(headers))]
        for word in (word.encode() for pair in headers for word in pair):
            parts += (struct.pack(">I", len(word)), word)
        return self._deflate.compress(b"".join(parts)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


def _control(kind: int, body: bytes, flags: int = 0) -> bytes:
    head = struct.pack(">II", 0x8000_0000 | VERSION << 16 | kind, flags << 24 | len(body))
    return head + body
