"""Read a layer's bytes: plain, gzip or zstd, hashed on the way in and on the way out.

Blocking, for a worker thread. Decompression and hashing release the interpreter's lock. What comes
out at a time is bounded too (`CHUNK_BYTES`): a few bytes from a stranger may stand for gigabytes.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Protocol, cast

from .interface import ImageDamaged

CHUNK_BYTES = 256 * 1024
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class Source(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class Inflated:
    """A forward-only file of the uncompressed bytes, never more than `limit`.

    `digest` is of what came out (a layer's diff id), `raw_digest` of what went in. Both are whole
    only after `drain`.
    """

    def __init__(self, source: Source, limit: int) -> None:
        self._source = source
        self._left = limit
        self._raw = hashlib.sha256()
        self._out = hashlib.sha256()
        self._pending = memoryview(b"")
        self.raw_size = 0
        self._first: bytes | None = self._take()
        self._pieces = _decoder(self._first)(self._give)

    @property
    def digest(self) -> str:
        return f"sha256:{self._out.hexdigest()}"

    @property
    def raw_digest(self) -> str:
        return f"sha256:{self._raw.hexdigest()}"

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, fewer only at the end. Raises ImageDamaged."""
        parts: list[bytes | memoryview] = []
        wanted = size if size >= 0 else CHUNK_BYTES
        while wanted > 0:
            if not self._pending and not self._fill():
                break
            part = self._pending[:wanted]
            self._pending = self._pending[len(part) :]
            wanted -= len(part)
            parts.append(part)
        return b"".join(parts)

    def drain(self) -> None:
        """Read to the end, so that both digests cover everything."""
        self._pending = memoryview(b"")
        while self._fill():
            self._pending = memoryview(b"")

    def _fill(self) -> bool:
        while True:
            try:
                data = next(self._pieces, None)
            except (zlib.error, EOFError, ValueError, OSError) as error:
                raise ImageDamaged(f"damaged layer: {error}") from error
            if data is None:
                return False
            if data:
                self._left -= len(data)
                if self._left < 0:
                    raise ImageDamaged("layer is larger than allowed when unpacked")
                self._out.update(data)
                self._pending = memoryview(data)
                return True

    def _give(self) -> bytes:
        """What is to be decoded next; nothing at the end."""
        raw = self._first if self._first is not None else self._take()
        self._first = None
        return raw

    def _take(self) -> bytes:
        raw = self._source.read(CHUNK_BYTES)
        self._raw.update(raw)
        self.raw_size += len(raw)
        return raw


Take = Callable[[], bytes]
"""The next raw bytes; nothing at the end."""


def _decoder(first: bytes) -> Callable[[Take], Iterator[bytes]]:
    if first.startswith(_GZIP):
        return _gunzip
    if first.startswith(_ZSTD):
        return _unzstd
    return _plain


def _plain(take: Take) -> Iterator[bytes]:
    while raw := take():
        yield raw


def _gunzip(take: Take) -> Iterator[bytes]:
    """gzip, also of several members; what follows the last one as padding is ignored."""
    state, full = zlib.decompressobj(31), False
    while raw := take():
        # Where a piece is full more may wait inside, although all that came is taken.
        while raw or full:
            if state.eof:
                raw, full = raw.lstrip(b"\0"), False
                if not raw:
                    break
                state = zlib.decompressobj(31)
            data = state.decompress(raw, CHUNK_BYTES)
            raw = state.unused_data if state.eof else state.unconsumed_tail
            full = len(data) == CHUNK_BYTES
            yield data
    if not state.eof:
        raise EOFError("compressed data ends too early")


def _unzstd(take: Take) -> Iterator[bytes]:
    """zstd, also of several frames. What is cut short is told by its digest."""
    import zstandard

    class Raw:
        def read(self, size: int) -> bytes:
            return take()

    decoder = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    reader = decoder.stream_reader(
        cast(IO[bytes], Raw()), read_size=CHUNK_BYTES, read_across_frames=True
    )
    try:
        while data := reader.read(CHUNK_BYTES):
            yield data
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
