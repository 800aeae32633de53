"""Notice every container's end: conmon's exit files, and conmons that die themselves.

Nothing polls. One inotify watch covers the exit directory; one pidfd per container tells when its
monitor has gone. Both call back in the event loop.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from ..linux import cgroups, inotify
from .table import Exit


class ExitWatch:
    """Calls `exited(container_id)` for every exit file; twice does not hurt."""

    def __init__(self, directory: Path, exited: Callable[[str], None]) -> None:
        self._directory = directory
        self._exited = exited
        self._fd = -1

    def open(self) -> None:
        """Watch first, so that nothing falls between this and the caller's first look."""
        self._fd = inotify.inotify_init()
        inotify.add_watch(self._fd, self._directory, inotify.IN_MOVED_TO | inotify.IN_CLOSE_WRITE)
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def _read(self) -> None:
        for event in inotify.read_events(self._fd):
            if event.mask & inotify.IN_Q_OVERFLOW:
                for name in os.listdir(self._directory):
                    self._exited(name)
            elif event.name:
                self._exited(event.name)

    def close(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


def read_exit(path: Path, cgroup: str) -> Exit | None:
    """None when there is no complete exit file (yet)."""
    try:
        with open(path, "rb") as file:
            text = file.read(16)
            finished_at = os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None
    if not text.strip().isdigit():
        return None
    # The cgroup stays until the container is deleted, and with it the kernel's count.
    return Exit(int(text), finished_at, oom_killed=cgroups.oom_kills(cgroup) > 0)
