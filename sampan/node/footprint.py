"""How much of a disk a folder takes. Blocking: call it in a thread."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct

BLOCK_BYTES = 512
"""Of st_blocks, whatever the file system's own are."""


class Footprint(Struct, frozen=True):
    size_bytes: int = 0
    inodes: int = 0

    def plus(self, other: Footprint) -> Footprint:
        return Footprint(self.size_bytes + other.size_bytes, self.inodes + other.inodes)


NOTHING = Footprint()


def footprint(root: Path, limit_bytes: int | None = None) -> Footprint:
    """Of what is below `root`, on its own file system; the look stops once it is past the limit.

    Files of several names count once; what vanishes meanwhile does not. Follows no link.
    """
    total, count, seen = 0, 0, set[int]()
    try:
        device = os.stat(root, follow_symlinks=False).st_dev
    except OSError:
        return NOTHING
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
            count += 1
            if limit_bytes is not None and total > limit_bytes:
                return Footprint(total, count)
        folders[:] = [name for name in folders if name in inside]
    return Footprint(total, count)
