"""IPC namespaces pinned by a file: those of pods whose containers share one."""

from __future__ import annotations

import os
from pathlib import Path

from . import mounts
from .namespaces import CLONE_NEWIPC, setns, unshare

OWN = Path("/proc/thread-self/ns/ipc")


def pin(path: Path) -> None:
    """Make a namespace that lives as long as the mount at `path`. The calling thread is in it for
    a moment, so call it in a thread whose work needs none. Raises OSError."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        unshare(CLONE_NEWIPC)
        try:
            mounts.bind(OWN, path)
        finally:
            setns(home, CLONE_NEWIPC)
    finally:
        os.close(home)
