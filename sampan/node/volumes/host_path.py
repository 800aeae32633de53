"""hostPath volumes: a path of the node, checked or made as its type says (pkg/volume/hostpath)."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .source import VolumeError

CHECKS: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "FileOrCreate": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket file"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


def host_path(source: Mapping[str, Any]) -> Path:
    """The path to bind. Raises VolumeError with upstream's text."""
    path = Path(source["path"])
    kind = source.get("type") or ""
    _make(path, kind)
    if kind in CHECKS:
        is_right, what = CHECKS[kind]
        try:
            right = is_right(path.stat().st_mode)
        except OSError:
            right = False
        if not right:
            raise VolumeError(f"hostPath type check failed: {path} is not {what}")
    return path


def _make(path: Path, kind: str) -> None:
    """What is missing and to be made; a container runtime makes directories of no type."""
    verb = "open" if kind == "FileOrCreate" else "mkdir"
    try:
        if path.exists():
            return
        if kind == "FileOrCreate":
            path.touch(mode=0o644)
        elif kind in ("", "DirectoryOrCreate"):
            path.mkdir(mode=0o755, parents=True)
    except OSError as error:
        raise VolumeError(f"{verb} {path}: {(error.strerror or str(error)).lower()}") from error
