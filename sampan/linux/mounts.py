"""mount(2), umount2(2) and the mount table. Errors are OSError with the target's path."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from .libc import check, libc

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

# mount(2) copies its options into one page, the closing zero included.
OPTIONS_BYTES_MAX = 4095

_PROPAGATION = {"private": MS_PRIVATE, "slave": MS_SLAVE, "shared": MS_SHARED}

_mount = libc.mount
_mount.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
)
_umount2 = libc.umount2
_umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)


def mount(source: str, target: Path, kind: str = "", flags: int = 0, options: str = "") -> None:
    """The bare system call."""
    result = _mount(
        os.fsencode(source),
        os.fsencode(target),
        os.fsencode(kind) or None,
        flags,
        os.fsencode(options) or None,
    )
    check(result, target)


def unmount(target: Path, *, detach: bool = False) -> None:
    """Unmount what is on top at `target`; `detach` hides it now and ends it when unused."""
    flags = UMOUNT_NOFOLLOW | (MNT_DETACH if detach else 0)
    check(_umount2(os.fsencode(target), flags), target)


def bind(
    source: Path | int, target: Path, *, read_only: bool = False, recursive: bool = False
) -> None:
    """Show `source` (a path or a descriptor) at `target` as well. Read-only needs a second call,
    as the kernel has it."""
    name = f"/proc/self/fd/{source}" if isinstance(source, int) else os.fspath(source)
    mount(name, target, flags=MS_BIND | (MS_REC if recursive else 0))
    if read_only:
        mount("none", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def mount_tmpfs(
    target: Path, size_bytes: int = 0, mode: int = 0o755, gid: int | None = None
) -> None:
    """A file system in memory; without a size the kernel's default, half of the memory."""
    size = f",size={size_bytes}" if size_bytes else ""
    mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, f"mode={mode:o}{size}{_group(gid)}")


def mount_hugetlbfs(
    target: Path, page_bytes: int, mode: int = 0o755, gid: int | None = None
) -> None:
    """Files of huge pages, for who maps them."""
    options = f"pagesize={page_bytes},mode={mode:o}{_group(gid)}"
    mount("nodev", target, "hugetlbfs", MS_NOSUID | MS_NODEV, options)


def _group(gid: int | None) -> str:
    return "" if gid is None else f",gid={gid}"


def propagate(target: Path, how: str, *, recursive: bool = False) -> None:
    """Set propagation: "private", "slave" or "shared"."""
    mount("none", target, flags=_PROPAGATION[how] | (MS_REC if recursive else 0))


def overlay(lowers: Sequence[Path], upper: Path, work: Path, target: Path) -> None:
    """Stack `lowers` (uppermost first) read-only under `upper`.

    `upper` is volatile where the kernel knows that (5.10): a container's upper layer is never
    mounted twice, so syncing the whole file system at each unmount would be waste. Long chains
    are named by descriptors, since the options must fit in one page.
    """
    opened: list[int] = []
    try:
        names = [os.fspath(path) for path in lowers]
        tail = f",upperdir={_escape(os.fspath(upper))},workdir={_escape(os.fspath(work))}"
        options = "lowerdir=" + ":".join(map(_escape, names)) + tail
        if len(os.fsencode(options)) > OPTIONS_BYTES_MAX - len(",volatile"):
            opened.extend(os.open(path, os.O_PATH | os.O_CLOEXEC) for path in lowers)
            options = "lowerdir=" + ":".join(f"/proc/self/fd/{fd}" for fd in opened) + tail
        try:
            mount("overlay", target, "overlay", 0, options + ",volatile")
        except OSError as error:
            if error.errno != 22:
                raise
            mount("overlay", target, "overlay", 0, options)
    finally:
        for fd in opened:
            os.close(fd)


def stack(lowers: Sequence[Path], target: Path) -> None:
    """Show `lowers` (uppermost first) as one tree that nobody can write to."""
    if len(lowers) == 1:
        bind(lowers[0], target, read_only=True)
    elif lowers:
        opened = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in lowers]
        try:
            options = "lowerdir=" + ":".join(f"/proc/self/fd/{fd}" for fd in opened)
            mount("overlay", target, "overlay", MS_RDONLY, options)
        finally:
            for fd in opened:
                os.close(fd)


def _escape(path: str) -> str:
    """Overlay splits its options at commas and colons unless a backslash stands before."""
    return path.replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")


class MountPoint(Struct, frozen=True):
    """One line of /proc/self/mountinfo, see proc_pid_mountinfo(5)."""

    id: int
    parent: int
    root: str
    target: Path
    kind: str
    source: str
    shared: bool
    options: str
    super_options: str


def list_mounts(pid: int | str = "self") -> Sequence[MountPoint]:
    """The mount table of a process, in the order of mounting."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        return list(_parse(lines))


def _parse(lines: Iterator[str]) -> Iterator[MountPoint]:
    for line in lines:
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        kind, source, super_options = right.rstrip("\n").split(" ", 2)
        yield MountPoint(
            id=int(fields[0]),
            parent=int(fields[1]),
            root=_unescape(fields[3]),
            target=Path(_unescape(fields[4])),
            kind=kind,
            source=_unescape(source),
            shared=any(field.startswith("shared:") for field in fields[6:]),
            options=fields[5],
            super_options=super_options,
        )


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    for code, character in (("040", " "), ("011", "\t"), ("012", "\n"), ("134", "\\")):
        text = text.replace("\\" + code, character)
    return text


def is_mounted(target: Path) -> bool:
    """Whether anything is mounted right at `target` in this mount namespace."""
    return any(point.target == target for point in list_mounts())


def mount_of(path: Path) -> MountPoint:
    """The mount that `path` lives on: the longest target above it, the latest when stacked."""
    path = path.resolve()
    found: MountPoint | None = None
    for point in list_mounts():
        depth = len(point.target.parts)
        if path.is_relative_to(point.target) and (
            found is None or depth >= len(found.target.parts)
        ):
            found = point
    if found is None:
        raise FileNotFoundError(2, "no mount found for", str(path))
    return found
