"""Unpack an image layer into a directory that overlayfs can stack.

The archive comes from somebody else: every path is opened below the directory with openat2, never
through a symbolic link; names with ".." or a leading "/", links that lead out and entries below a
link are refused. Whiteouts become overlayfs's own (character device 0/0, opaque attribute).
Device nodes are left out: containers have a fresh /dev. Blocking, for a worker thread.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tarfile
from pathlib import Path
from typing import IO, cast

from ..linux.openat2 import open_beneath
from .inflate import CHUNK_BYTES, Inflated, Source
from .interface import ImageDamaged
from .room import Room

# A layer beyond these is taken for a bomb; the largest images in use have a tenth of it.
LAYER_BYTES_MAX = 64 * 1024**3
LAYER_ENTRIES_MAX = 4_000_000
_PATH_BYTES_MAX = 4096
# Directories within directories: more than any image has, and few enough to go down into.
_DEPTH_MAX = 200
# What stands before an entry: long names and attributes. tarfile takes it into memory as a whole.
_HEADER_BYTES_MAX = 1024 * 1024

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_OPAQUE_XATTR = "trusted.overlay.opaque"
_PAX_XATTR = "SCHILY.xattr."
_DIRECTORY = os.O_PATH | os.O_DIRECTORY


def unpack(source: Source, target: Path, *, diff_id: str, digest: str = "") -> int:
    """Unpack into the empty directory `target`; the number of bytes read from `source`.

    Raises ImageDamaged when the layer is not what `diff_id` (uncompressed) or `digest`
    (as stored; "" is not checked) say, or when an entry is not allowed. OSError for the disk.
    """
    stream = Inflated(source, LAYER_BYTES_MAX)
    root = os.open(target, _DIRECTORY | os.O_CLOEXEC)
    try:
        layer = _Layer(root)
        try:
            with tarfile.open(
                fileobj=cast(IO[bytes], stream), mode="r|", bufsize=CHUNK_BYTES, tarinfo=Member
            ) as archive:
                for member in archive:
                    layer.add(archive, member)
                    # tarfile keeps every member it has seen.
                    archive.members = []  # type: ignore[attr-defined]
        except (tarfile.TarError, EOFError, UnicodeError, ValueError) as error:
            raise ImageDamaged(f"damaged layer: {error}") from error
        finally:
            layer.close()
        stream.drain()
    finally:
        os.close(root)
    if digest and stream.raw_digest != digest:
        raise ImageDamaged(f"layer has digest {stream.raw_digest}, expected {digest}")
    if stream.digest != diff_id:
        raise ImageDamaged(f"layer has diff id {stream.digest}, expected {diff_id}")
    return stream.raw_size


class Member(tarfile.TarInfo):
    """An entry whose headers are bounded."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _HEADERS and self.size > _HEADER_BYTES_MAX:
            # No error of tarfile's own, some of which it takes for the end of the archive.
            raise ImageDamaged(f"an entry has more than {_HEADER_BYTES_MAX} bytes of headers")
        found: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        return found


_HEADERS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip


class _Layer:
    """One layer while it is unpacked. Entries come sorted by directory, so the last parent is
    kept open."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._parent_path = ""
        self._parent = -1
        self._entries = 0
        self._room = Room(root)
        self._times: list[tuple[str, int]] = []

    def add(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        self._entries += 1
        if self._entries > LAYER_ENTRIES_MAX:
            raise ImageDamaged(f"layer has more than {LAYER_ENTRIES_MAX} entries")
        path = _clean(member.name)
        try:
            if not path:
                self._add_root(member)
                return
            directory, _, name = path.rpartition("/")
            self._enter(directory)
            if name.startswith(_WHITEOUT):
                self._white_out(name)
            else:
                self._add(archive, member, path, name)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
                raise
            raise ImageDamaged(f"layer entry {member.name!r}: {error.strerror}") from error

    def _add_root(self, member: tarfile.TarInfo) -> None:
        if not member.isdir():
            raise ImageDamaged("layer has a root that is no directory")
        path = f"/proc/self/fd/{self._root}"
        os.chown(path, member.uid, member.gid)
        os.chmod(path, member.mode & 0o7777)

    def _enter(self, directory: str) -> None:
        if self._parent >= 0 and directory == self._parent_path:
            return
        fresh = self._open_or_make(directory)
        if self._parent >= 0:
            os.close(self._parent)
        self._parent, self._parent_path = fresh, directory

    def _open_or_make(self, directory: str) -> int:
        try:
            return open_beneath(self._root, directory or ".", _DIRECTORY)
        except FileNotFoundError:
            pass
        above, _, name = directory.rpartition("/")
        parent = self._open_or_make(above)
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
            return open_beneath(parent, name, _DIRECTORY)
        finally:
            os.close(parent)

    def _white_out(self, name: str) -> None:
        """Hides what lower layers have, never what this one adds."""
        parent = self._parent
        if name == _OPAQUE:
            os.setxattr(f"/proc/self/fd/{parent}", _OPAQUE_XATTR, b"y")
            return
        hidden = name.removeprefix(_WHITEOUT)
        if hidden.startswith(_WHITEOUT):
            # aufs's own bookkeeping.
            return
        if hidden in ("", ".", ".."):
            raise ImageDamaged(f"layer has a whiteout without a name: {name!r}")
        try:
            info = os.stat(hidden, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
            return
        if stat.S_ISDIR(info.st_mode):
            self._make_opaque(hidden)

    def _make_opaque(self, name: str) -> None:
        os.setxattr(
            f"/proc/self/fd/{self._parent}/{name}", _OPAQUE_XATTR, b"y", follow_symlinks=False
        )

    def _add(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, name: str) -> None:
        parent = self._parent
        replaced_whiteout = self._clear(name, keep_directory=member.isdir())
        if member.isdir():
            try:
                os.mkdir(name, 0o700, dir_fd=parent)
            except FileExistsError:
                pass
            if replaced_whiteout:
                self._make_opaque(name)
            self._times.append((path, _time_ns(member)))
        elif member.isreg():
            self._add_file(archive, member, name)
            return
        elif member.issym():
            os.symlink(member.linkname, name, dir_fd=parent)
        elif member.islnk():
            self._add_link(member, name)
            return
        elif member.isfifo():
            os.mkfifo(name, 0o600, dir_fd=parent)
        elif member.ischr() or member.isblk():
            return
        else:
            raise ImageDamaged(f"layer entry {member.name!r} has unknown type {member.type!r}")
        os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        here = f"/proc/self/fd/{parent}/{name}"
        if not member.issym():
            os.chmod(here, member.mode & 0o7777)
        _set_xattrs(here, member)
        if not member.isdir():
            times = (_time_ns(member),) * 2
            os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)

    def _add_file(self, archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> None:
        if member.size > LAYER_BYTES_MAX:
            raise ImageDamaged(f"layer entry {member.name!r} is larger than allowed")
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=self._parent)
        try:
            data = archive.extractfile(member)
            left = member.size
            while data is not None and left > 0:
                chunk = data.read(min(left, CHUNK_BYTES))
                if not chunk:
                    raise ImageDamaged(f"layer entry {member.name!r} ends too early")
                self._room.take(len(chunk))
                _write(fd, chunk)
                left -= len(chunk)
            os.fchown(fd, member.uid, member.gid)
            os.fchmod(fd, member.mode & 0o7777)
            # After the change of owner, which clears a file's capabilities.
            _set_xattrs(fd, member)
            os.utime(fd, ns=(_time_ns(member),) * 2)
        finally:
            os.close(fd)

    def _add_link(self, member: tarfile.TarInfo, name: str) -> None:
        target = _clean(member.linkname)
        directory, _, base = target.rpartition("/")
        if not base:
            raise ImageDamaged(f"layer entry {member.name!r} links to a directory")
        source = open_beneath(self._root, directory or ".", _DIRECTORY)
        try:
            os.link(base, name, src_dir_fd=source, dst_dir_fd=self._parent, follow_symlinks=False)
        finally:
            os.close(source)

    def _clear(self, name: str, *, keep_directory: bool) -> bool:
        """Make room: a later entry replaces an earlier one. True when that was a whiteout."""
        try:
            info = os.stat(name, dir_fd=self._parent, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if stat.S_ISDIR(info.st_mode):
            if not keep_directory:
                shutil.rmtree(name, dir_fd=self._parent)
            return False
        os.unlink(name, dir_fd=self._parent)
        return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0

    def close(self) -> None:
        """Directories get their times last, as filling them changed those."""
        if self._parent >= 0:
            os.close(self._parent)
            self._parent = -1
        for path, time_ns in reversed(self._times):
            try:
                fd = open_beneath(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                # A later entry replaced it.
                continue
            try:
                os.utime(fd, ns=(time_ns, time_ns))
            finally:
                os.close(fd)
        self._times.clear()


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _clean(name: str) -> str:
    """The path without "./" and closing slashes; "" for the root. Raises ImageDamaged."""
    if name.startswith("/") or "\0" in name:
        raise ImageDamaged(f"layer entry {name!r} has an absolute path")
    if len(os.fsencode(name)) > _PATH_BYTES_MAX:
        raise ImageDamaged("layer entry has too long a path")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ImageDamaged(f"layer entry {name!r} leads out of the layer")
    if len(parts) > _DEPTH_MAX:
        raise ImageDamaged(f"layer entry is more than {_DEPTH_MAX} directories deep")
    return "/".join(parts)


def _time_ns(member: tarfile.TarInfo) -> int:
    # Times beyond what 64-bit file systems hold are somebody's joke.
    return int(min(max(member.mtime, 0), 2**33) * 1_000_000_000)


def _set_xattrs(target: str | int, member: tarfile.TarInfo) -> None:
    """Capabilities and users' attributes. Others belong to the host or to overlayfs itself."""
    for key, value in member.pax_headers.items():
        if not key.startswith(_PAX_XATTR):
            continue
        name = key.removeprefix(_PAX_XATTR)
        if name != "security.capability" and not name.startswith("user."):
            continue
        try:
            os.setxattr(target, name, value.encode("utf-8", "surrogateescape"))
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise
