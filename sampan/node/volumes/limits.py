"""emptyDirs that outgrow their sizeLimit: their pods are evicted (kubelet's localStorageEviction).

Task: `run`, under the agent's supervisor, looks when it is told to (`beat`, at the agent's own
ticks) and at nothing but volumes on disk that have a limit, one after the other in a thread. A look
stops as soon as the limit is passed. Those in memory cannot grow beyond theirs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from sampan.api.errors import Object
from sampan.wire.quantity import QuantityError, whole

BLOCK_BYTES = 512
"""Of st_blocks, whatever the file system's own are."""


class Limited(NamedTuple):
    """One volume to look at."""

    name: str
    limit: str
    """As it is written."""
    path: Path
    evict: Callable[[str], None]
    """Called with the message."""


class SizeLimits:
    """`volumes` gives what there is to look at now."""

    def __init__(self, volumes: Callable[[], Iterable[Limited]]) -> None:
        self._volumes = volumes
        self._told = asyncio.Event()

    def beat(self) -> None:
        """Look soon; while a look is under way, once more after it."""
        self._told.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._told.wait()
            self._told.clear()
            for item in list(self._volumes()):
                limit = whole(item.limit)
                if await asyncio.to_thread(outgrows, item.path, limit):
                    item.evict(
                        f'Usage of EmptyDir volume "{item.name}" exceeds the limit "{item.limit}". '
                    )


def limits_of(pod: Object) -> list[tuple[str, str]]:
    """(volume, limit) of the pod's emptyDirs on disk that have one."""
    out = []
    for volume in pod["spec"].get("volumes") or ():
        source = volume.get("emptyDir") or {}
        limit = source.get("sizeLimit")
        if limit is None or source.get("medium"):
            continue
        try:
            if whole(limit) > 0:
                out.append((str(volume["name"]), str(limit)))
        except QuantityError:
            continue
    return out


def outgrows(root: Path, limit_bytes: int) -> bool:
    """Does what is below `root`, on its own file system, take more of the disk than this? Files of
    several names count once; what vanishes meanwhile does not. Follows no link."""
    total, seen = 0, set[int]()
    try:
        device = os.stat(root, follow_symlinks=False).st_dev
    except OSError:
        return False
    for _, folders, files, descriptor in os.fwalk(root, follow_symlinks=False, onerror=None):
        inside, named = set(), {*files}
        for name in (*files, *folders):
            try:
                found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            except OSError:
                continue
            if found.st_dev != device:
                continue
            inside.add(name)
            if found.st_nlink > 1 and name in named:
                if found.st_ino in seen:
                    continue
                seen.add(found.st_ino)
            total += found.st_blocks * BLOCK_BYTES
            if total > limit_bytes:
                return True
        folders[:] = [name for name in folders if name in inside]
    return False
