"""Folders whose files somebody else writes: the certificates, the administrator's settings."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from sampan.linux import inotify


class FolderWatch:
    """Tells when files of a folder change: one inotify descriptor, no task, no polling.

    Changes that come together (an editor's, a pair's) are told once, `SETTLE_S` after the first.
    """

    SETTLE_S = 0.2

    def __init__(self, folder: Path, changed: Callable[[], None]) -> None:
        self._folder = folder
        self._changed = changed
        self._fd = -1
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Begin. Raises OSError when there is no such folder or no watch to be had."""
        self._fd = inotify.inotify_init()
        mask = (
            inotify.IN_CLOSE_WRITE | inotify.IN_MOVED_TO | inotify.IN_MOVED_FROM | inotify.IN_DELETE
        )
        inotify.add_watch(self._fd, self._folder, mask)
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def _read(self) -> None:
        # Files that begin with a dot are being written; the rename that ends that counts.
        names = [event.name for event in inotify.read_events(self._fd)]
        if self._timer is None and any(not name.startswith(".") for name in names):
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self.SETTLE_S, self._tell)

    def _tell(self) -> None:
        self._timer = None
        self._changed()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
