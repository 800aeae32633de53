"""User namespaces with one mapping, and mounts seen through it (mount_setattr(2), Linux 5.12).

A namespace is made by a helper process (unshare(1)), as a process with threads cannot; it lives as
long as the descriptor that is returned. All calls block for a few milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

from .libc import check, libc

_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442
_OPEN_TREE_CLONE = 1
_AT_EMPTY_PATH = 0x1000
_MOVE_MOUNT_F_EMPTY_PATH = 0x04
_MOUNT_ATTR_IDMAP = 0x0010_0000
_AT_FDCWD = -100


class _Attributes(ctypes.Structure):
    """struct mount_attr."""

    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("namespace", ctypes.c_uint64),
    )


def make_namespace(first: int, count: int) -> int:
    """A descriptor of a user namespace in which ids from 0 on are those from `first` on here.
    Raises OSError."""
    command = ["unshare", "--user", "sh", "-c", "echo; exec sleep 60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        try:
            if not child.stdout.readline():
                _, told = child.communicate()
                raise OSError(f"no user namespace: {told.decode(errors='replace').strip()}")
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{child.pid}/{name}").write_text(f"0 {first} {count}\n")
            return os.open(f"/proc/{child.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            child.kill()


def mount_mapped(source: Path, target: Path, namespace: int) -> None:
    """Show `source` at `target` with its owners mapped by the user namespace. Raises OSError where
    the file system does not know how."""
    tree = check(
        libc.syscall(
            _SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(source), _OPEN_TREE_CLONE | os.O_CLOEXEC
        ),
        source,
    )
    try:
        wanted = _Attributes(_MOUNT_ATTR_IDMAP, 0, 0, namespace)
        check(
            libc.syscall(
                _SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH,
                ctypes.byref(wanted), ctypes.sizeof(wanted),
            ),
            source,
        )  # fmt: skip
        check(
            libc.syscall(
                _SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH
            ),
            target,
        )
    finally:
        os.close(tree)
