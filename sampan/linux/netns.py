"""Network namespaces pinned by a file: make, enter, remove.

A namespace lives as long as a bind mount of its /proc entry (or a process inside). The calls
change the calling thread alone and put it back: use them in a thread of your own.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import mounts
from .namespaces import CLONE_NEWNET, namespace_kind, setns, unshare


def open_own() -> int:
    """A descriptor of the calling thread's network namespace."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def open_pinned(path: Path) -> int | None:
    """A descriptor of the namespace pinned at `path`; None when none is."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if namespace_kind(fd) == CLONE_NEWNET:
        return fd
    os.close(fd)
    return None


def create(path: Path, home: int) -> int:
    """Make a namespace, pin it at `path` and return its descriptor; the thread stays in `home`.

    Raises OSError; nothing is left behind then.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    try:
        unshare(CLONE_NEWNET)
        try:
            mounts.bind(Path("/proc/thread-self/ns/net"), path)
            return open_own()
        finally:
            setns(home, CLONE_NEWNET)
    except BaseException:
        remove(path)
        raise


@contextmanager
def inside(fd: int, home: int) -> Iterator[None]:
    """The calling thread in namespace `fd`, and back in `home` afterwards."""
    setns(fd, CLONE_NEWNET)
    try:
        yield
    finally:
        setns(home, CLONE_NEWNET)


def open_socket(path: Path, family: int) -> socket.socket:
    """A TCP socket that belongs to the namespace pinned at `path`, wherever it is used later.

    Raises OSError, FileNotFoundError when no namespace is pinned there.
    """
    inner = open_pinned(path)
    if inner is None:
        raise FileNotFoundError(errno.ENOENT, "no network namespace", str(path))
    try:
        home = open_own()
        try:
            with inside(inner, home):
                return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        finally:
            os.close(home)
    finally:
        os.close(inner)


def remove(path: Path) -> None:
    """Unpin; the kernel ends the namespace when its last process has. A missing one is fine."""
    try:
        while True:
            mounts.unmount(path, detach=True)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise
    path.unlink(missing_ok=True)
