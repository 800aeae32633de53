"""The C library's own functions, for calls that Python does not wrap."""

from __future__ import annotations

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, path: object = None) -> int:
    """`result`, or OSError with errno and `path` when the call returned -1."""
    if result == -1:
        number = ctypes.get_errno()
        if path is None:
            raise OSError(number, os.strerror(number))
        raise OSError(number, os.strerror(number), os.fspath(str(path)))
    return result
