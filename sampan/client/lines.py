"""Lines out of a stream of chunks, in time linear in its bytes."""

from __future__ import annotations

# The largest object the server takes is 3 MiB; a watch event wraps one, escaped at worst.
MAX_LINE_BYTES = 16 << 20


class LineTooLongError(OSError):
    """A line over the limit: whatever is speaking, it is not an API server's watch."""


class LineSplitter:
    """Feed chunks, get whole lines. The unfinished end is kept in pieces and joined once."""

    def __init__(self, limit_bytes: int = MAX_LINE_BYTES) -> None:
        self._limit = limit_bytes
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that end in this chunk, without their ends; blank ones are left out.

        Raises LineTooLongError when the unfinished line exceeds the limit.
        """
        first, *rest = chunk.split(b"\n")
        self._pieces.append(first)
        self._size += len(first)
        if self._size > self._limit:
            raise LineTooLongError(f"a line of the watch exceeds {self._limit} bytes")
        if not rest:
            return []
        lines = [b"".join(self._pieces), *rest[:-1]]
        self._pieces, self._size = [rest[-1]], len(rest[-1])
        return [line for line in lines if line.strip()]
