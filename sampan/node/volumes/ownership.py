"""fsGroup on what a volume holds already (pkg/volume SetVolumeOwnership).

The volume's content is its pods': other pods may swap files for links while we walk, so every entry
is changed through a descriptor of its own directory, and no link is followed.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

# What the group may, on top of what is there: read and write, and enter directories.
GROUP_BITS = 0o660
ENTER_BITS = 0o110
ON_MISMATCH = "OnRootMismatch"


def give_to_group(root: Path, gid: int, policy: str = "") -> bool:
    """Let the group own everything below `root`; false if the root shows that it does already and
    `policy` trusts it. Synchronous and slow for large volumes. Raises OSError."""
    if policy == ON_MISMATCH and _belongs(os.stat(root), gid):
        return False
    # The root comes last: a walk that was broken off is not mistaken for one that was done.
    for _, folders, files, descriptor in os.fwalk(root, topdown=False, follow_symlinks=False):
        for name in (*files, *folders):
            _give(name, descriptor, gid)
    _give(os.fspath(root), None, gid)
    return True


def _belongs(found: os.stat_result, gid: int) -> bool:
    wanted = GROUP_BITS | ENTER_BITS | stat.S_ISGID
    return found.st_gid == gid and found.st_mode & wanted == wanted


def _give(name: str, directory: int | None, gid: int) -> None:
    try:
        entry = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        # Removed by another pod since the directory was read.
        return
    try:
        found = os.fstat(entry)
        if stat.S_ISLNK(found.st_mode):
            # A link's own group; one that is a file by now is the next walk's.
            os.chown(name, -1, gid, dir_fd=directory, follow_symlinks=False)
            return
        path, mode = f"/proc/self/fd/{entry}", stat.S_IMODE(found.st_mode)
        wanted = mode | GROUP_BITS
        if stat.S_ISDIR(found.st_mode):
            wanted |= ENTER_BITS | stat.S_ISGID
        if found.st_gid != gid:
            os.chown(path, -1, gid)
        # A change of owner takes setuid bits away; what was there is kept, as upstream does.
        if wanted != mode or found.st_gid != gid:
            os.chmod(path, wanted)
    finally:
        os.close(entry)
