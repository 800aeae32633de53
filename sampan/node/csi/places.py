"""Where a driver publishes and stages, seen from outside: is it there, and away with it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from ..volumes.kernel import Kernel


def is_made(path: Path) -> bool:
    """Is there a directory, mounted on or not? It is not looked into: who serves what is mounted
    there may never answer, and would hold up the whole node."""
    try:
        return path.name in os.listdir(path.parent)
    except FileNotFoundError:
        return False


def is_device(path: Path) -> bool:
    """Is there a block device?"""
    try:
        return stat.S_ISBLK(path.stat().st_mode)
    except OSError:
        return False


def clear(target: Path, kernel: Kernel) -> None:
    """Remove what a volume was mounted on. A driver that says it is done and is not must not
    have its volume's files removed with it: whatever is not empty stays (OSError)."""
    if target in kernel.mounted():
        kernel.detach(target)
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(target.lstat().st_mode):
            target.rmdir()
        else:
            # What a device, or the file it was bound to, leaves behind.
            target.unlink()
