"""Directories behind the volumes of class `standard`, below DATA/storage.

A name is `pvc-` and a uid, nothing else, so no request leads elsewhere; what is in a directory is
its pods' own, and links in it are never followed. Making and removing can be repeated.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

from .kernel import Kernel

NAME = re.compile(r"pvc-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class LocalVolumes:
    """The node's own."""

    def __init__(self, data: Path, kernel: Kernel) -> None:
        self._folder = data / "storage"
        self._kernel = kernel

    def path(self, name: str) -> Path:
        """Raises ValueError for what is no name of ours."""
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a local volume")
        return self._folder / name

    async def make(self, name: str) -> Path:
        """Everybody may write, as in other provisioners' directories: the pod's user is not known
        yet, and nobody but root gets as far as the folder around it. Raises OSError."""
        path = self.path(name)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(exist_ok=True)
        path.chmod(0o777)
        return path

    async def remove(self, name: str) -> Path:
        """Raises OSError."""
        path = self.path(name)
        if not path.is_dir():
            return path
        for point in reversed(self._kernel.mounted()):
            # A pod may have left a mount of its own here (mountPropagation: Bidirectional).
            if point.is_relative_to(path):
                self._kernel.detach(point)
        await asyncio.to_thread(shutil.rmtree, path)
        return path
