"""emptyDir volumes: a directory of the pod's own, on disk or in memory (pkg/volume/emptydir)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sampan.wire.quantity import whole

from .kernel import Kernel
from .source import VolumeError


def empty_dir(directory: Path, source: Mapping[str, Any], gid: int, kernel: Kernel) -> Path:
    """Make it (again): everybody may write, as upstream."""
    directory.mkdir(parents=True, exist_ok=True)
    medium = source.get("medium") or ""
    if medium == "Memory":
        if directory not in kernel.mounted():
            limit = source.get("sizeLimit")
            kernel.tmpfs(directory, whole(limit) if limit else 0, 0o777)
    elif medium:
        raise VolumeError(f"storage medium {medium!r} is not supported on this node")
    mode = 0o777
    if gid >= 0:
        os.chown(directory, -1, gid)
        mode |= 0o2000
    directory.chmod(mode)
    return directory
