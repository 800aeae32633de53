"""inotify(7) on a directory, read without blocking from an event loop."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from .libc import check, libc

IN_MODIFY = 0x2
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_Q_OVERFLOW = 0x4000

_EVENT = struct.Struct("iIII")
_READ_BYTES = 64 * 1024

_inotify_add_watch = libc.inotify_add_watch
_inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)


class Event(Struct, frozen=True):
    watch: int
    mask: int
    name: str


def inotify_init() -> int:
    """A descriptor that does not block and closes on exec."""
    return check(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))


def add_watch(fd: int, path: Path, mask: int) -> int:
    """The watch's number, as it comes back in `Event.watch`."""
    return check(_inotify_add_watch(fd, os.fsencode(path), mask), path)


def read_events(fd: int) -> Iterator[Event]:
    """What has happened since; nothing when nothing has. The kernel's queue is bounded
    (fs.inotify.max_queued_events): IN_Q_OVERFLOW says that the directory must be listed again."""
    try:
        data = os.read(fd, _READ_BYTES)
    except BlockingIOError:
        return
    offset = 0
    while offset < len(data):
        watch, mask, _, length = _EVENT.unpack_from(data, offset)
        offset += _EVENT.size
        name = data[offset : offset + length].rstrip(b"\0")
        offset += length
        yield Event(watch, mask, os.fsdecode(name))
