"""Read a layer's bytes: plain, gzip or zstd, hashed on the way in and on the way out.

Blocking, for a worker thread. Decompression and hashing release the interpreter's lock.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from typing import Protocol

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
        self._ended = False
        self.raw_size = 0
        first = self._take()
        self._next = self._decoder(first)
        self._first: bytes | None = first

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
        while not self._ended:
            raw = self._first if self._first is not None else self._take()
            self._first = None
            self._ended = not raw
            try:
                data = self._next(raw)
            except (zlib.error, EOFError, ValueError, OSError) as error:
                raise ImageDamaged(f"damaged layer: {error}") from error
            if data:
                self._left -= len(data)
                if self._left < 0:
                    raise ImageDamaged("layer is larger than allowed when unpacked")
                self._out.update(data)
                self._pending = memoryview(data)
                return True
        return False

    def _take(self) -> bytes:
        raw = self._source.read(CHUNK_BYTES)
        self._raw.update(raw)
        self.raw_size += len(raw)
        return raw

    def _decoder(self, first: bytes) -> Callable[[bytes], bytes]:
        if first.startswith(_GZIP):
            return _gunzip()
        if first.startswith(_ZSTD):
            return _unzstd()
        return bytes


def _gunzip() -> Callable[[bytes], bytes]:
    """gzip, also of several members; what follows the last one as padding is ignored."""
    state = zlib.decompressobj(31)

    def decode(raw: bytes) -> bytes:
        nonlocal state
        if not raw:
            if not state.eof:
                raise EOFError("compressed data ends too early")
            return b""
        parts = []
        while raw:
            if state.eof:
                raw = raw.lstrip(b"\0")
                if not raw:
                    break
                state = zlib.decompressobj(31)
            parts.append(state.decompress(raw))
            raw = state.unused_data
        return b"".join(parts)

    return decode


def _unzstd() -> Callable[[bytes], bytes]:
    import zstandard

    factory = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    state = factory.decompressobj()

    def decode(raw: bytes) -> bytes:
        nonlocal state
        if not raw:
            if not state.eof:
                raise EOFError("compressed data ends too early")
            return b""
        parts = []
        try:
            while raw:
                if state.eof:
                    state = factory.decompressobj()
                parts.append(state.decompress(raw))
                raw = state.unused_data
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error
        return b"".join(parts)

    return decode
