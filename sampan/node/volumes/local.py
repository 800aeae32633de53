"""Directories behind the volumes of class `standard`, below DATA/storage, held to their size by
quotas of projects where the file system has them; volumes of mode Block are files of that size. A
snapshot is a copy beside them, which shares its blocks where the file system can.

A name is `pvc-` or `snapshot-` and a uid, nothing else, so no request leads elsewhere; what is in a
directory is its pods' own, and links in it are never followed. Making and removing can be repeated,
also while the first time is not over: of one volume they are done one after the other.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
from hashlib import sha256
from pathlib import Path
from weakref import WeakValueDictionary

from sampan.linux.projectquota import UNSUPPORTED, give_project, limit_project

from .copying import copy_file, copy_tree
from .kernel import Kernel

log = logging.getLogger("sampan.node.storage")

NAME = re.compile(r"(?:pvc|snapshot)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class LocalVolumes:
    """The node's own."""

    def __init__(self, data: Path, kernel: Kernel) -> None:
        self._folder = data / "storage"
        self._kernel = kernel
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def path(self, name: str) -> Path:
        """Raises ValueError for what is no name of ours."""
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a local volume")
        return self._folder / name

    async def make(
        self, name: str, size_bytes: int = 0, source: str = "", *, block: bool = False
    ) -> Path:
        """Everybody may write, as in other provisioners' directories: the pod's user is not known
        yet, and nobody but root gets as far as the folder around it.

        `size_bytes` is held to where the file system can; `source` is another volume or snapshot of
        ours whose content it begins with. `block` makes a file. Raises ValueError and OSError.
        """
        path = self.path(name)
        origin = self.path(source) if source else None
        async with self._turns.setdefault(name, asyncio.Lock()):
            await asyncio.to_thread(self._make, path, size_bytes, origin, block=block)
        return path

    def _make(self, path: Path, size_bytes: int, origin: Path | None, *, block: bool) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            make = _make_file if block or (origin and origin.is_file()) else _make
            make(path, size_bytes, origin)
        elif path.is_file():
            if path.stat().st_size < size_bytes:
                os.truncate(path, size_bytes)
                self._kernel.grow_loop(path)
        elif size_bytes:
            _limit(path, size_bytes)

    async def remove(self, name: str) -> Path:
        """Raises OSError."""
        path = self.path(name)
        async with self._turns.setdefault(name, asyncio.Lock()):
            await asyncio.to_thread(self._remove, path)
        return path

    def _remove(self, path: Path) -> None:
        _clear(path)
        if path.is_file():
            self._kernel.detach_loop(path)
            path.unlink()
        if not path.is_dir():
            return
        for point in reversed(self._kernel.mounted()):
            # A pod may have left a mount of its own here (mountPropagation: Bidirectional).
            if point.is_relative_to(path):
                self._kernel.detach(point)
        _limit(path, 0)
        shutil.rmtree(path)


def _clear(path: Path) -> Path:
    """Where the volume is made, with nothing there of one that was half made."""
    fresh = path.with_name(f".{path.name}")
    if fresh.is_dir():
        shutil.rmtree(fresh)
    fresh.unlink(missing_ok=True)
    return fresh


def _make(path: Path, size_bytes: int, origin: Path | None) -> None:
    """Under another name first: what is half made is made anew."""
    fresh = _clear(path)
    fresh.mkdir()
    if size_bytes:
        _limit(fresh, size_bytes, project=_project(path.name))
    if origin is not None:
        copy_tree(origin, fresh)
    else:
        fresh.chmod(0o777)
    fresh.rename(path)


def _make_file(path: Path, size_bytes: int, origin: Path | None) -> None:
    """A file takes what is written to it, and no more than its size."""
    fresh = _clear(path)
    fresh.touch(mode=0o600)
    if origin is not None:
        copy_file(origin, fresh)
    if fresh.stat().st_size < size_bytes:
        os.truncate(fresh, size_bytes)
    fresh.rename(path)


def _project(name: str) -> int:
    """A number of 30 bits from the uid: two volumes of one number, at one of a billion, would share
    what both may take."""
    return int.from_bytes(sha256(name.encode()).digest()[:4]) >> 2 or 1


def _limit(path: Path, size_bytes: int, project: int = 0) -> None:
    """Where the file system cannot, a volume may take what there is."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        number = project or _project(path.name)
        if project:
            give_project(directory, number)
        limit_project(directory, number, size_bytes)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        if project:
            log.info("volume %s: no quota by project here: %s", path.name, error.strerror)
    finally:
        os.close(directory)
