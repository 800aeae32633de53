"""fdatasync(2) that nobody waits for: io_submit(2) with IOCB_CMD_FDSYNC, answered by an eventfd.

The kernel's own asynchronous I/O (io_setup(2)) has had it since 4.18 for every file system that can
sync at all. Python does not wrap it, and its numbers differ between architectures.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import NamedTuple

from .libc import check, libc


class _Calls(NamedTuple):
    """Numbers of the calls."""

    setup: int
    destroy: int
    getevents: int
    submit: int


_GENERIC = _Calls(0, 1, 4, 2)
_CALLS = {
    "x86_64": _Calls(206, 207, 208, 209),
    "aarch64": _GENERIC,
    "riscv64": _GENERIC,
    "loongarch64": _GENERIC,
}
_IOCB_CMD_FDSYNC = 3
_IOCB_FLAG_RESFD = 1

# Both <linux/aio_abi.h>. What we fill in of a control block, by place: command, file, flags,
# eventfd. Of an event, the third field is the result.
_CONTROL_BLOCK = struct.Struct("=QIIHhIQQqQII")
_EVENT = struct.Struct("=QQqq")

_syscall = libc.syscall
_syscall.restype = ctypes.c_long


class DataSync:
    """Makes what was written to one file durable. One at a time: `begin`, and when `fileno` can be
    read, `finish`. Raises OSError where the kernel has none to give (ENOSYS, EPERM, EAGAIN)."""

    def __init__(self, file: int) -> None:
        calls = _CALLS.get(os.uname().machine)
        if calls is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        self._context = ctypes.c_ulong(0)
        self._told = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            setup = ctypes.c_long(calls.setup)
            check(_syscall(setup, ctypes.c_uint(1), ctypes.byref(self._context)))
        except OSError:
            os.close(self._told)
            raise
        block = _CONTROL_BLOCK.pack(
            0, 0, 0, _IOCB_CMD_FDSYNC, 0, file, 0, 0, 0, 0, _IOCB_FLAG_RESFD, self._told
        )
        # Kept: the kernel reads them at each call.
        self._block = ctypes.create_string_buffer(block, len(block))
        self._blocks = (ctypes.c_void_p * 1)(ctypes.addressof(self._block))
        self._event = ctypes.create_string_buffer(_EVENT.size)
        one = ctypes.c_long(1)
        self._submit = (ctypes.c_long(calls.submit), self._context, one, self._blocks)
        self._collect = (
            ctypes.c_long(calls.getevents), self._context, one, one, self._event, None,
        )  # fmt: skip
        self._destroy = (ctypes.c_long(calls.destroy), self._context)

    def fileno(self) -> int:
        """Can be read when what was begun has ended."""
        return self._told

    def begin(self) -> None:
        """Start. Raises OSError (EAGAIN, EINVAL): then nothing has started."""
        check(_syscall(*self._submit))

    def finish(self) -> None:
        """Take the answer. Raises OSError when the data may not be durable."""
        os.eventfd_read(self._told)
        check(_syscall(*self._collect))
        result = _EVENT.unpack(self._event)[2]
        if result < 0:
            raise OSError(-result, os.strerror(-result))

    def close(self) -> None:
        """Waits for what is under way."""
        _syscall(*self._destroy)
        os.close(self._told)
