"""Loop devices: a regular file as a block device (loop(4)). Raises OSError, as the kernel does.

A file is known by its own device and inode, so that one which is attached is found again by
whoever comes after the process that attached it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CONTROL = Path("/dev/loop-control")
BLOCKS = Path("/sys/block")

# <linux/loop.h>
_LOOP_CLR_FD = 0x4C01
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_SET_CAPACITY = 0x4C07
_LOOP_CONFIGURE = 0x4C0A
_LOOP_CTL_GET_FREE = 0x4C82
# struct loop_info64: five numbers of 64 bits, four of 32, two names, a key, two numbers more.
_INFO = struct.Struct("=QQQQQIIII64s64s32sQQ")
_CONFIG_HEAD = struct.Struct("=II")
_CONFIG_TAIL_BYTES = 64
NAME_BYTES = 63
# Between asking for a free device and taking it another may have taken it.
TRIES = 16


def attach(file: Path) -> Path:
    """The device that shows the file: the one there is, or a new one. It stays until `detach`."""
    opened = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        for device in _showing(os.fstat(opened)):
            return device
        for _ in range(TRIES):
            device = Path(f"/dev/loop{_free()}")
            try:
                _configure(device, opened, os.fspath(file))
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                continue
            return device
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), os.fspath(CONTROL))
    finally:
        os.close(opened)


def detach(file: Path) -> None:
    """Let go of the file; a device that somebody still has open goes with its last user."""
    for device in _showing(os.stat(file)):
        _ask(device, _LOOP_CLR_FD)


def grow(file: Path) -> None:
    """The file has become longer: let its device show that."""
    for device in _showing(os.stat(file)):
        _ask(device, _LOOP_SET_CAPACITY)


def _showing(wanted: os.stat_result) -> Iterator[Path]:
    for device in _attached():
        # One that is let go of meanwhile shows nothing (ENXIO).
        with suppress(OSError):
            info = bytearray(_INFO.size)
            _ask(device, _LOOP_GET_STATUS64, info)
            found = _INFO.unpack(info)
            # The kernel tells the device in the form that stat(2) has it in.
            if (found[0], found[1]) == (wanted.st_dev, wanted.st_ino):
                yield device


def _attached() -> list[Path]:
    """Devices that show a file: only those have a folder `loop` in sysfs."""
    return [
        Path(f"/dev/{entry.name}")
        for entry in os.scandir(BLOCKS)
        if entry.name.startswith("loop") and os.path.isdir(f"{entry.path}/loop")
    ]


def _free() -> int:
    control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        return fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
    finally:
        os.close(control)


def _configure(device: Path, opened: int, name: str) -> None:
    shown = name.encode()[-NAME_BYTES:]
    info = _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, 0, shown, b"", b"", 0, 0)
    _ask(device, _LOOP_CONFIGURE, _CONFIG_HEAD.pack(opened, 0) + info + bytes(_CONFIG_TAIL_BYTES))


def _ask(device: Path, request: int, argument: bytes | bytearray | int = 0) -> None:
    opened = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(opened, request, argument)
    finally:
        os.close(opened)
