"""The node's own mount namespace, and setns(2) and unshare(2).

Every mount a node makes (container roots, tmpfs, volumes) lives in a mount namespace of its own,
pinned by a bind mount at RUN/mnt. The host never sees those mounts; mounts made on the host still
arrive (slave). An agent that starts again enters the same namespace and finds its mounts.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import mounts
from .libc import check, libc

CLONE_FS = 0x0200
CLONE_NEWNS = 0x0002_0000
CLONE_NEWIPC = 0x08000000
CLONE_NEWNET = 0x4000_0000
_NS_GET_NSTYPE = 0xB703

_setns = libc.setns
_setns.argtypes = (ctypes.c_int, ctypes.c_int)
_unshare = libc.unshare
_unshare.argtypes = (ctypes.c_int,)


def setns(fd: int, kind: int) -> None:
    check(_setns(fd, kind))


def unshare(flags: int) -> None:
    check(_unshare(flags))


def namespace_kind(fd: int) -> int:
    """The CLONE_NEW flag of an open namespace file; 0 when the file is none."""
    try:
        return fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError:
        return 0


def enter_node_namespace(run: Path) -> None:
    """Move this process into the node's mount namespace; make it first where there is none.

    Call it at the start of the process, while there is a single thread: threads that exist
    already stay outside. Raises OSError.
    """
    run.mkdir(parents=True, exist_ok=True)
    run = run.resolve()
    if in_node_namespace(run):
        return
    with _locked(run):
        pinned = _open_pin(run / "mnt")
        if pinned is None:
            _make_private(run)
            pinned = _make_namespace(run / "mnt")
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _move(pinned)
    except BaseException:
        os.close(home)
        raise
    finally:
        os.close(pinned)
    _homes[run] = home


# The namespace this process came from, by run directory, so that it can go back.
_homes: dict[Path, int] = {}


def home_namespace(run: Path) -> int:
    """The mount namespace this process came from, as a descriptor that stays ours; -1 for one that
    has not moved."""
    return _homes.get(run.resolve(), -1)


def leave_node_namespace(run: Path) -> None:
    """Back to where `enter_node_namespace` was called; a process that is outside stays there."""
    home = _homes.pop(run.resolve(), None)
    if home is None:
        return
    try:
        _move(home)
    finally:
        os.close(home)


def remove_node_namespace(run: Path) -> None:
    """Leave, and undo the pin; the mounts go when the last process inside ends.

    A namespace that is not there is fine. Raises OSError.
    """
    if run.is_dir():
        run = run.resolve()
        leave_node_namespace(run)
        _unpin(run)


def _move(namespace: int) -> None:
    """The kernel sets root and working directory to the new namespace's root. It moves no thread
    that shares these with another, and a thread that was joined may not be quite gone yet."""
    where = os.getcwd()
    unshare(CLONE_FS)
    setns(namespace, CLONE_NEWNS)
    os.chdir(where if os.path.isdir(where) else "/")


def _unpin(run: Path) -> None:
    pin = run / "mnt"
    with _locked(run):
        pinned = _open_pin(pin)
        if pinned is not None:
            os.close(pinned)
            mounts.unmount(pin, detach=True)
        pin.unlink(missing_ok=True)
    if mounts.is_mounted(run):
        mounts.unmount(run, detach=True)
    (run / "mnt.lock").unlink(missing_ok=True)


def in_node_namespace(run: Path) -> bool:
    """Whether this process lives in the namespace pinned at `run`.

    The kernel keeps the pin itself out of the namespace (it would be a loop), so the maker leaves
    the namespace's number, with the boot it belongs to, in the lock file.
    """
    try:
        return (run / "mnt.lock").read_text() == _own_number()
    except FileNotFoundError:
        return False


def _own_number() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {os.stat('/proc/self/ns/mnt').st_ino}"


@contextmanager
def _locked(run: Path) -> Iterator[None]:
    fd = os.open(run / "mnt.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _open_pin(pin: Path) -> int | None:
    try:
        fd = os.open(pin, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if namespace_kind(fd) == CLONE_NEWNS:
        return fd
    os.close(fd)
    return None


def _make_private(run: Path) -> None:
    """The kernel pins a mount namespace only on a mount that does not propagate."""
    if mounts.mount_of(run).shared:
        mounts.bind(run, run)
        mounts.propagate(run, "private")


def _make_namespace(pin: Path) -> int:
    """Make and pin the namespace and come back; the descriptor of the new one."""
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    where = os.getcwd()
    try:
        unshare(CLONE_FS | CLONE_NEWNS)
        try:
            mounts.propagate(Path("/"), "slave", recursive=True)
            _hide_empty_v2()
            # What the host mounts comes in, nothing goes out; and inside, what a pod mounts in a
            # volume reaches other pods that ask for it (mountPropagation).
            mounts.propagate(Path("/"), "shared", recursive=True)
            fresh = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            (pin.parent / "mnt.lock").write_text(_own_number())
        finally:
            setns(home, CLONE_NEWNS)
            os.chdir(where)
    finally:
        os.close(home)
    try:
        pin.touch(0o600)
        mounts.bind(fresh, pin)
    except BaseException:
        os.close(fresh)
        raise
    return fresh


def _hide_empty_v2() -> None:
    """crun 1.8 refuses hybrid cgroups: it takes a mounted v2 hierarchy for the only one."""
    unified = Path("/sys/fs/cgroup/unified")
    if not mounts.is_mounted(unified):
        return
    mounts.unmount(unified, detach=True)
    # crun still makes directories there; they stay in here instead of in the host's tmpfs.
    mounts.mount_tmpfs(unified)
