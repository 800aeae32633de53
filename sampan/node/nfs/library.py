"""libnfs (version 4, libnfs.so.13) by ctypes: one connection to one server, synchronous.

Calls act as the user they are made for (`act_as`): an AUTH_SYS credential with its groups. Errors
are OSError with the server's code and libnfs's text.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping, Sequence
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_uint32, c_uint64, c_void_p
from typing import Any

NAMES = ("libnfs.so.13", "libnfs.so.14", "libnfs.so")
GROUPS_MAX = 16
"""Of AUTH_SYS (RFC 5531)."""
CHUNK_BYTES = 1 << 20
OLD = "libnfs.so.13"
OLD_WRITE_BYTES = 3072
"""libnfs 4 cannot encode longer writes for NFSv4."""
TIMEOUT_MS = 60_000
"""How long a server may be silent before a call fails; it is connected to again after that."""


class Stat(Structure):
    """struct nfs_stat_64."""

    _fields_ = [
        (name, c_uint64)
        for name in (
            "dev", "ino", "mode", "nlink", "uid", "gid", "rdev", "size", "blksize", "blocks",
            "atime", "mtime", "ctime", "atime_nsec", "mtime_nsec", "ctime_nsec", "used",
        )
    ]  # fmt: skip


class StatVfs(Structure):
    """struct nfs_statvfs_64."""

    _fields_ = [
        ("bsize", c_uint64), ("frsize", c_uint64), ("blocks", c_uint64), ("bfree", c_uint64),
        ("bavail", c_uint64), ("files", c_uint64), ("ffree", c_uint64), ("favail", c_uint64),
        ("fsid", c_uint64), ("flag", c_uint64), ("namemax", c_uint64),
    ]  # fmt: skip


class TimeVal(Structure):
    _fields_ = [("seconds", ctypes.c_long), ("micros", ctypes.c_long)]


class Entry(Structure):
    """struct nfsdirent, as far as it is read."""


Entry._fields_ = [("next", POINTER(Entry)), ("name", c_char_p), ("inode", c_uint64)]


def _load() -> tuple[ctypes.CDLL, str]:
    """The library, and its name. Raises OSError when it is not installed."""
    for name in NAMES[:-1]:
        try:
            return ctypes.CDLL(name), name
        except OSError:
            continue
    return ctypes.CDLL(NAMES[-1]), NAMES[-1]


class Server:
    """One export of one server. Not for several threads."""

    def __init__(self, host: str, path: str, options: Mapping[str, str]) -> None:
        """`options` are those of mount.nfs that libnfs knows: vers, port, mountport. Raises
        OSError."""
        version = int(options.get("vers", "4").partition(".")[0])
        self._lib, name = _load()
        self._write_bytes = OLD_WRITE_BYTES if version == 4 and name == OLD else CHUNK_BYTES
        self._declare()
        self._context = c_void_p(self._lib.nfs_init_context())
        self._user: tuple[int, int, tuple[int, ...]] | None = None
        self._lib.nfs_set_version(self._context, c_int(version))
        self._lib.nfs_set_timeout(self._context, c_int(TIMEOUT_MS))
        self._lib.nfs_set_autoreconnect(self._context, c_int(-1))
        for field in ("port", "mountport"):
            if field in options:
                url = f"nfs://{host}/?{'nfs' * (field == 'port')}{field}={int(options[field])}"
                self._lib.nfs_parse_url_dir(self._context, url.encode())
        # The kernel has applied the caller's mask already.
        self._lib.nfs_umask(self._context, c_int(0))
        # Links are the kernel's to follow, and what it has cached it asks for no more.
        self._lib.nfs_set_dircache(self._context, c_int(0))
        self.call("nfs_mount", host.encode(), os.fsencode(path))

    def _declare(self) -> None:
        lib = self._lib
        for name in ("nfs_init_context", "libnfs_authunix_create", "nfs_parse_url_dir"):
            getattr(lib, name).restype = c_void_p
        lib.nfs_get_error.restype = c_char_p
        lib.nfs_readdir.restype = POINTER(Entry)

    def call(self, name: str, *arguments: Any) -> int:
        """A function that answers a number, negative for an error. Raises OSError."""
        result: int = getattr(self._lib, name)(self._context, *arguments)
        if result < 0:
            text = self._lib.nfs_get_error(self._context) or b""
            raise OSError(-result, text.decode(errors="replace"))
        return result

    def act_as(self, uid: int, gid: int, groups: Sequence[int]) -> None:
        """From here on, until somebody else."""
        user = uid, gid, tuple(groups[:GROUPS_MAX])
        if user == self._user:
            return
        listed = (c_uint32 * len(user[2]))(*user[2])
        auth = self._lib.libnfs_authunix_create(
            b"sampan", c_uint32(uid), c_uint32(gid), c_uint32(len(user[2])), listed
        )
        # It belongs to the connection now, which frees the one before.
        self._lib.nfs_set_auth(self._context, c_void_p(auth))
        self._user = user

    # Paths

    def stat(self, path: bytes) -> Stat:
        found = Stat()
        self.call("nfs_lstat64", path, byref(found))
        return found

    def list(self, path: bytes) -> Iterator[bytes]:
        folder = c_void_p()
        self.call("nfs_opendir", path, byref(folder))
        try:
            while entry := self._lib.nfs_readdir(self._context, folder):
                yield entry.contents.name
        finally:
            self._lib.nfs_closedir(self._context, folder)

    def read_link(self, path: bytes) -> bytes:
        text = ctypes.create_string_buffer(4097)
        self.call("nfs_readlink", path, text, c_int(4096))
        return text.value

    def set_times(self, path: bytes, times: Sequence[int]) -> None:
        """In nanoseconds: of access, of modification. The protocol's own are microseconds here."""
        pair = (TimeVal * 2)(*(TimeVal(at // 10**9, at % 10**9 // 1000) for at in times))
        self.call("nfs_lutimes", path, pair)

    def sizes(self, path: bytes) -> StatVfs:
        found = StatVfs()
        self.call("nfs_statvfs64", path, byref(found))
        return found

    # Files

    def open(self, path: bytes, flags: int) -> int:
        handle = c_void_p()
        self.call("nfs_open", path, c_int(flags), byref(handle))
        return handle.value or 0

    def create(self, path: bytes, flags: int, mode: int) -> int:
        handle = c_void_p()
        self.call("nfs_create", path, c_int(flags), c_int(mode), byref(handle))
        if self.stat(path).mode & 0o7777 != mode:
            # libnfs 4 makes files of NFSv4 with a mode of its own.
            self.call("nfs_lchmod", path, c_int(mode))
        return handle.value or 0

    def read(self, handle: int, size: int, offset: int) -> bytes:
        out = bytearray()
        while size > 0:
            part = ctypes.create_string_buffer(min(size, CHUNK_BYTES))
            count = self.call(
                "nfs_pread", c_void_p(handle), c_uint64(offset), c_uint64(len(part)), part
            )
            out += part.raw[:count]
            if count < len(part):
                break
            offset, size = offset + count, size - count
        return bytes(out)

    def write(self, handle: int, data: bytes, offset: int) -> int:
        done = 0
        while done < len(data):
            part = data[done : done + self._write_bytes]
            done += self.call(
                "nfs_pwrite", c_void_p(handle), c_uint64(offset + done), c_uint64(len(part)), part
            )
        return done
