"""Blobs that are being fetched: what a cut connection or a crash leaves is gone on with.

    ROOT/<hex of digest>    the blob's first bytes, as far as they came

Who fetches a blob holds its file's lock. What nobody came back to within `KEPT_S` is swept, and a
file never grows beyond its blob's size, so that their bytes are bounded by what was asked for.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path
from weakref import WeakValueDictionary

# The image's pod tries again within minutes; a day is for nodes that were off meanwhile.
KEPT_S = 24 * 3600.0


class Partials:
    """The folder of one image store; several processes may use it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def open(self) -> None:
        """Make the folder, and remove what is too old."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.sweep(time.time() - KEPT_S)

    def sweep(self, before: float) -> None:
        """Remove what was last written before then and is not being fetched."""
        for path in self._root.iterdir():
            _remove(path, before)

    @asynccontextmanager
    async def claim(self, digest: str, draft: Path) -> AsyncIterator[Path]:
        """The blob's file, for one fetcher at a time; `draft` when another process has it."""
        name = digest.removeprefix("sha256:")
        lock = self._locks.setdefault(name, asyncio.Lock())
        async with lock:
            path = self._root / name
            fd, is_ours = _take(path)
            try:
                yield path if is_ours else draft
            finally:
                os.close(fd)

    def forget(self, digests: Iterable[str]) -> None:
        """Remove them: they are unpacked, or not what they should be. One that somebody else
        fetches meanwhile is his, and goes when he is done."""
        for digest in digests:
            _remove(self._root / digest.removeprefix("sha256:"))


def _take(path: Path) -> tuple[int, bool]:
    """The file, made if it is not there, and whether its lock is ours. Until it is, whoever has it
    may remove the file, and then it is another one."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        is_ours = _try_lock(fd)
        if not is_ours or os.fstat(fd).st_nlink:
            return fd, is_ours
        os.close(fd)


def _remove(path: Path, before: float = inf) -> None:
    """If nobody fetches it, and it was last written before then."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        # One that another has removed has left its name to a new file.
        if os.fstat(fd).st_mtime < before and _try_lock(fd) and os.fstat(fd).st_nlink:
            path.unlink(missing_ok=True)
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
