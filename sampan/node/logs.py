"""Container logs: read from the end or from a time, and followed. The format is CRI's.

Each line is "<RFC3339Nano> <stdout|stderr> <F|P> <text>"; P is a part of a line that goes on. A
file is read in blocks of `BLOCK_BYTES`, and the next block only when the reader took the last one.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from msgspec import Struct

from sampan.linux import inotify
from sampan.linux.openat2 import open_beneath

BLOCK_BYTES = 64 * 1024
# A line longer than this is cut: conmon writes parts of 8 KiB.
LINE_MAX = 1 << 20
FOLDERS = 2
"""A log lies in POD/CONTAINER of the folder of logs."""


class LogOptions(Struct, frozen=True):
    """PodLogOptions, checked."""

    follow: bool = False
    tail_lines: int | None = None
    since_s: float | None = None
    """Seconds since the epoch."""
    timestamps: bool = False
    limit_bytes: int | None = None
    stream: bytes = b""
    """b"stdout" or b"stderr"; empty for both."""


class Formatter:
    """Lines of a log file to what the client gets. Feed blocks, take text."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._rest = b""
        self._since = options.since_s
        self._left = options.limit_bytes
        self._within = False
        """The last line given was a part: what follows belongs to it."""
        self.done = options.limit_bytes is not None and options.limit_bytes <= 0

    def feed(self, block: bytes) -> bytes:
        lines = (self._rest + block).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > LINE_MAX:
            self._rest = b""
        out = b"".join(map(self._line, lines))
        if self._left is not None:
            out = out[: self._left]
            self._left -= len(out)
            self.done = self._left <= 0
        return out

    def _line(self, line: bytes) -> bytes:
        parts = line.split(b" ", 3)
        if len(parts) < 3:
            return b""
        stamp, stream, tag = parts[:3]
        text = parts[3] if len(parts) > 3 else b""
        if self._options.stream and stream != self._options.stream:
            return b""
        if self._since is not None:
            if _seconds(stamp) < self._since:
                return b""
            # Lines are in the order of time, so the rest need not be looked at.
            self._since = None
        partial = tag.startswith(b"P")
        head = b""
        if self._options.timestamps and not self._within:
            head = stamp.replace(b"+00:00", b"Z") + b" "
        self._within = partial
        return head + text + (b"" if partial else b"\n")


def _seconds(stamp: bytes) -> float:
    text = stamp.decode("ascii", "replace")
    try:
        # fromisoformat takes at most six digits of a second in 3.11 only when exactly six.
        whole, _, fraction = text.partition(".")
        digits = fraction.rstrip("Z").partition("+")[0].partition("-")[0]
        zone = fraction[len(digits) :] if fraction else ""
        moment = datetime.fromisoformat(whole + (zone or ("" if text.endswith("Z") else "Z")))
        return moment.timestamp() + (float(f"0.{digits}") if digits else 0)
    except ValueError:
        return 0


def open_log(path: Path) -> int:
    """A pod that may write to the folder of logs shows no file of the node by a link in the place
    of its own log or of its folders, and stops nobody by a pipe. Raises OSError."""
    root, below = path.parents[FOLDERS], os.O_RDONLY | os.O_NONBLOCK
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = open_beneath(directory, str(path.relative_to(root)), below)
    finally:
        os.close(directory)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return fd


def tail_offset(fd: int, lines: int) -> int:
    """Where the last `lines` lines of a file begin; reads from the end, no more than needed."""
    end = os.fstat(fd).st_size
    if lines <= 0:
        return end
    offset, seen = end, 0
    while offset > 0:
        start = max(0, offset - BLOCK_BYTES)
        block = os.pread(fd, offset - start, start)
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            # The newline that ends the file begins no line.
            if start + at == end - 1:
                continue
            seen += 1
            if seen == lines:
                return start + at + 1
        offset = start
    return 0


def tail_text(path: Path, lines: int, limit_bytes: int) -> str:
    """The last words of a container, for its termination message."""
    try:
        fd = open_log(path)
    except OSError:
        return ""
    try:
        start = max(tail_offset(fd, lines), os.fstat(fd).st_size - 2 * BLOCK_BYTES)
        text = Formatter(LogOptions()).feed(os.pread(fd, 2 * BLOCK_BYTES, start))
    finally:
        os.close(fd)
    return text[-limit_bytes:].decode("utf-8", "replace")


async def read_log(
    path: Path,
    options: LogOptions,
    is_running: Callable[[], bool],
    changed: Callable[[], Awaitable[object]],
) -> AsyncIterator[bytes]:
    """The log as text, in pieces. Raises FileNotFoundError.

    When following it ends once the container is not running and all is read; `changed` wakes us
    when the container's state may have changed.
    """
    formatter = Formatter(options)
    fd = open_log(path)
    try:
        if options.tail_lines is not None:
            os.lseek(fd, tail_offset(fd, options.tail_lines), os.SEEK_SET)
        if not options.follow:
            while not formatter.done and (block := os.read(fd, BLOCK_BYTES)):
                if text := formatter.feed(block):
                    yield text
            return
        with watching(path.parent) as written:
            while not formatter.done:
                # In this order, so that nothing written in between is missed.
                running, moved = is_running(), _has_moved(path, fd)
                written.clear()
                if block := os.read(fd, BLOCK_BYTES):
                    if text := formatter.feed(block):
                        yield text
                elif moved:
                    fresh = open_log(path)
                    os.close(fd)
                    fd = fresh
                elif not running:
                    return
                else:
                    await _first(written.wait(), changed())
    finally:
        os.close(fd)


def _has_moved(path: Path, fd: int) -> bool:
    """Whether another file has taken the log's place (a rotation)."""
    try:
        return os.stat(path).st_ino != os.fstat(fd).st_ino
    except FileNotFoundError:
        return False


async def _first(*waits: Awaitable[object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


@contextmanager
def watching(folder: Path) -> Iterator[asyncio.Event]:
    """An event that is set whenever a file of the folder is written to or comes to be."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    fd = inotify.inotify_init()

    def ready() -> None:
        for _ in inotify.read_events(fd):
            event.set()

    try:
        inotify.add_watch(fd, folder, inotify.IN_MODIFY | inotify.IN_CREATE)
        loop.add_reader(fd, ready)
        try:
            yield event
        finally:
            loop.remove_reader(fd)
    finally:
        os.close(fd)
