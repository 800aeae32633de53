"""A share as FUSE wants it: every call of the kernel is one of libnfs, as the caller's user."""

from __future__ import annotations

import errno
import os
import time
from ctypes import c_int, c_uint64, c_void_p
from typing import Any

import mfusepy

from .library import Server

NAMES_OF_STAT = ("ino", "mode", "nlink", "uid", "gid", "rdev", "size", "blksize", "blocks")
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2


class Share(mfusepy.Operations):  # type: ignore[misc]
    """Not for several threads: the connection acts as one user at a time."""

    use_ns = True

    def __init__(self, server: Server) -> None:
        self._server = server
        self._written: set[int] = set()

    def _as_caller(self) -> Server:
        uid, gid, pid = mfusepy.fuse_get_context()
        self._server.act_as(uid, gid, _groups(pid))
        return self._server

    def _call(self, name: str, *arguments: Any) -> int:
        self._as_caller().call(name, *arguments)
        return 0

    # Paths

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        found = self._as_caller().stat(os.fsencode(path))
        out = {f"st_{name}": getattr(found, name) for name in NAMES_OF_STAT}
        for name in ("atime", "mtime", "ctime"):
            out[f"st_{name}"] = getattr(found, name) * 10**9 + getattr(found, f"{name}_nsec")
        return out

    def readdir(self, path: str, fh: int) -> list[str]:
        return [os.fsdecode(name) for name in self._as_caller().list(os.fsencode(path))]

    def readlink(self, path: str) -> str:
        return os.fsdecode(self._as_caller().read_link(os.fsencode(path)))

    def mkdir(self, path: str, mode: int) -> int:
        return self._call("nfs_mkdir2", os.fsencode(path), c_int(mode))

    def mknod(self, path: str, mode: int, dev: int) -> int:
        return self._call("nfs_mknod", os.fsencode(path), c_int(mode), c_int(dev))

    def unlink(self, path: str) -> int:
        return self._call("nfs_unlink", os.fsencode(path))

    def rmdir(self, path: str) -> int:
        return self._call("nfs_rmdir", os.fsencode(path))

    def rename(self, old: str, new: str) -> int:
        return self._call("nfs_rename", os.fsencode(old), os.fsencode(new))

    def symlink(self, target: str, source: str) -> int:
        return self._call("nfs_symlink", os.fsencode(source), os.fsencode(target))

    def link(self, target: str, source: str) -> int:
        return self._call("nfs_link", os.fsencode(source), os.fsencode(target))

    def chmod(self, path: str, mode: int) -> int:
        return self._call("nfs_lchmod", os.fsencode(path), c_int(mode & 0o7777))

    def chown(self, path: str, uid: int, gid: int) -> int:
        found = self._as_caller().stat(os.fsencode(path))
        owner = found.uid if uid == -1 else uid
        group = found.gid if gid == -1 else gid
        return self._call("nfs_lchown", os.fsencode(path), c_int(owner), c_int(group))

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        server, name, now = self._as_caller(), os.fsencode(path), time.time_ns()
        found = server.stat(name)
        old = (found.atime * 10**9 + found.atime_nsec, found.mtime * 10**9 + found.mtime_nsec)
        given = times or (now, now)
        named = [{UTIME_NOW: now, UTIME_OMIT: old[index]} for index in range(2)]
        server.set_times(name, [named[index].get(at, at) for index, at in enumerate(given)])
        return 0

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        if fh is not None:
            return self._call("nfs_ftruncate", c_void_p(fh), c_uint64(length))
        return self._call("nfs_truncate", os.fsencode(path), c_uint64(length))

    def statfs(self, path: str) -> dict[str, int]:
        found = self._as_caller().sizes(os.fsencode(path))
        names = ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail")
        return {f"f_{name}": getattr(found, name) for name in (*names, "namemax")}

    # Files

    def open(self, path: str, flags: int) -> int:
        # The kernel makes and shortens files itself, and appends at the end it knows.
        kept = flags & (os.O_ACCMODE | os.O_SYNC | os.O_DSYNC)
        return self._as_caller().open(os.fsencode(path), kept)

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
        return self._as_caller().create(os.fsencode(path), flags, mode & 0o7777)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return self._server.read(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._written.add(fh)
        return self._server.write(fh, data, offset)

    def flush(self, path: str, fh: int) -> int:
        """At every close(2): what was written is with the server when another client opens."""
        if fh in self._written:
            self._server.call("nfs_fsync", c_void_p(fh))
            self._written.discard(fh)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._server.call("nfs_fsync", c_void_p(fh))
        self._written.discard(fh)
        return 0

    def release(self, path: str, fh: int) -> int:
        self._written.discard(fh)
        self._server.call("nfs_close", c_void_p(fh))
        return 0


def _groups(pid: int) -> list[int]:
    """Supplemental groups of a process; none when it has gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as lines:
            for line in lines:
                if line.startswith(b"Groups:"):
                    return [int(word) for word in line.split()[1:]]
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESRCH):
            raise
    return []
