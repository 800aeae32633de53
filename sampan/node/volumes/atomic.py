"""Files of a volume, changed all at once: a directory behind the symbolic link `..data`.

The layout is upstream's (pkg/volume/util/atomic_writer.go), which programs rely on when they watch
their configuration: each name links to `..data/NAME`, `..data` links to the present directory, and
an update renames a new link over `..data`. A crash leaves the old or the new state, and what is to
be done after the rename is done by the next write, also of the same files.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from .source import VolumeError

DATA = "..data"
DATA_NEW = "..data_tmp"
STAMPED = re.compile(r"\.\.\d{4}(?:_\d\d){5}\.")
"""The name of a directory of ours: when it was made, and something random."""
PATH_MAX = 4096


class File(Struct, frozen=True):
    content: bytes
    mode: int = 0o644
    uid: int = -1


Files = Mapping[str, File]
"""Relative path -> file."""


def write(directory: Path, files: Files, gid: int = -1) -> bool:
    """Make the directory show exactly `files`; false if it already did. Raises OSError, and
    VolumeError for a path that would lead out: whoever made it up got past the API."""
    for path in files:
        _check(path)
    directory.mkdir(parents=True, exist_ok=True, mode=0o755)
    names = {path.split("/")[0] for path in files}
    if read(directory) == {path: (item.content, _mode(item, gid)) for path, item in files.items()}:
        _settle(directory, names)
        return False
    stamp = time.strftime("..%Y_%m_%d_%H_%M_%S.", time.gmtime()) + secrets.token_hex(5)
    fresh = directory / stamp
    fresh.mkdir(mode=0o755)
    for path, item in files.items():
        target = fresh / path
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        target.write_bytes(item.content)
        if item.uid >= 0 or gid >= 0:
            os.chown(target, item.uid, gid)
        target.chmod(_mode(item, gid))
    if gid >= 0:
        for folder in (directory, fresh, *(path for path in fresh.rglob("*") if path.is_dir())):
            os.chown(folder, -1, gid)
            folder.chmod(0o2775)
    new_link = directory / DATA_NEW
    new_link.unlink(missing_ok=True)
    new_link.symlink_to(stamp)
    new_link.rename(directory / DATA)
    _settle(directory, names)
    return True


def read(directory: Path) -> dict[str, tuple[bytes, int]] | None:
    """Path -> (content, mode) as the directory shows now; None before the first write."""
    present = _present(directory)
    if present is None:
        return None
    out = {}
    for path in present.rglob("*"):
        if path.is_file():
            mode = stat.S_IMODE(path.stat().st_mode)
            out[str(path.relative_to(present))] = (path.read_bytes(), mode)
    return out


def _mode(item: File, gid: int) -> int:
    """With an fsGroup the group may read what the owner may."""
    return item.mode | 0o440 if gid >= 0 else item.mode


def _check(path: str) -> None:
    """In the words of upstream's validatePath."""
    if not path:
        raise VolumeError(f'invalid path: must not be empty: "{path}"')
    if path.startswith("/"):
        raise VolumeError(f"invalid path: must be relative path: {path}")
    if len(path) > PATH_MAX:
        raise VolumeError(f"invalid path: must be less than or equal to {PATH_MAX} characters")
    if ".." in path.split("/"):
        raise VolumeError(f"invalid path: must not contain '..': {path}")
    if path.startswith(".."):
        raise VolumeError(f"invalid path: must not start with '..': {path}")


def _present(directory: Path) -> Path | None:
    """The directory behind `..data`, which is ours alone to set: what leads elsewhere is nothing
    of ours, and is neither read nor removed (CVE-2017-1002102)."""
    try:
        name = os.readlink(directory / DATA)
    except FileNotFoundError:
        return None
    present = directory / name
    return present if "/" not in name and name != ".." and not present.is_symlink() else None


def _settle(directory: Path, names: set[str]) -> None:
    """Show these names, and remove what other writes left, whole or not."""
    present = os.readlink(directory / DATA)
    missing = set(names)
    for entry in [*os.scandir(directory)]:
        missing.discard(entry.name)
        if entry.name.startswith(".."):
            if STAMPED.match(entry.name) and entry.name != present:
                shutil.rmtree(entry.path, ignore_errors=True)
        # A subPath that was not there is a directory by now: it is not ours to remove.
        elif entry.name not in names and entry.is_symlink():
            os.unlink(entry.path)
    for name in missing:
        (directory / name).symlink_to(f"{DATA}/{name}")
