"""openat2(2): open a path that somebody else chose, without leaving a directory.

Used wherever an image, a volume or a user names a path; string checks cannot win the race
against a symbolic link (CVE-2017-1002101, CVE-2021-25741).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from pathlib import Path

from .libc import check, libc

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

# The same number on every architecture, as for all calls since 424.
_NR_OPENAT2 = 437
# The kernel answers EAGAIN when a directory moved while it resolved ".."; it seldom lasts.
_ATTEMPTS = 64

_syscall = libc.syscall
_syscall.restype = ctypes.c_long


def openat2(directory: int, path: str, flags: int, *, mode: int = 0, resolve: int) -> int:
    """Open `path` below the directory descriptor; close-on-exec. Raises OSError with the path."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    name = os.fsencode(path)
    for _ in range(_ATTEMPTS):
        result = int(
            _syscall(
                ctypes.c_long(_NR_OPENAT2),
                ctypes.c_int(directory),
                ctypes.c_char_p(name),
                ctypes.c_char_p(how),
                ctypes.c_size_t(len(how)),
            )
        )
        if result >= 0:
            return result
        if ctypes.get_errno() != errno.EAGAIN:
            break
    return check(-1, path)


def open_in_root(root: int | Path, path: str, flags: int, mode: int = 0) -> int:
    """As if `root` (a descriptor or a path) were "/": absolute links and ".." stay inside."""
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
    if isinstance(root, int):
        return openat2(root, path, flags, mode=mode, resolve=resolve)
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return openat2(directory, path, flags, mode=mode, resolve=resolve)
    finally:
        os.close(directory)


def open_within(directory: int, path: str, flags: int, mode: int = 0) -> int:
    """Links are followed as far as they stay inside: an absolute one, and ".." that leads out, are
    EXDEV."""
    resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
    return openat2(directory, path, flags, mode=mode, resolve=resolve)


def open_beneath(directory: int, path: str, flags: int, mode: int = 0) -> int:
    """No symbolic link at all, and nothing outside `directory`: EXDEV or ELOOP instead."""
    resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
    return openat2(directory, path, flags, mode=mode, resolve=resolve)


def read_in_root(root: int | Path, path: str, limit: int) -> bytes:
    """The first `limit` bytes of a regular file inside the root; OSError when it is none."""
    fd = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    with open(fd, "rb") as file:
        if not os.path.isfile(f"/proc/self/fd/{fd}"):
            raise OSError(errno.EINVAL, "not a regular file", path)
        return file.read(limit)
