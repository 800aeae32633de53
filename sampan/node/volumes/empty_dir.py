"""emptyDir volumes: a directory of the pod's own, on disk, in memory or of huge pages
(pkg/volume/emptydir)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sampan.api.errors import Object
from sampan.node.downward import Facts
from sampan.wire.quantity import whole

from .kernel import Kernel
from .source import VolumeError

WRITABLE = 0o777
"""Everybody may write, as upstream: whose the containers' users are is not known."""
HUGE, HUGE_RESOURCE = "HugePages", "hugepages-"
FRESH = ".fresh"
"""Suffix of a directory that is being made."""


def empty_dir(
    directory: Path, source: Mapping[str, Any], gid: int, kernel: Kernel, facts: Facts
) -> Path:
    """Make it. One that is there is left as the pod has it: its containers may have changed the
    mode of its root. Raises VolumeError and OSError."""
    medium = source.get("medium") or ""
    if medium == "Memory":
        directory.mkdir(parents=True, exist_ok=True)
        if directory not in kernel.mounted():
            kernel.tmpfs(directory, memory_size(source, facts), *_access(gid))
        return directory
    if medium.startswith(HUGE):
        size = page_size(medium, facts.pod)
        directory.mkdir(parents=True, exist_ok=True)
        if directory not in kernel.mounted():
            kernel.hugetlbfs(directory, size, *_access(gid))
        return directory
    if medium:
        raise VolumeError(f"storage medium {medium!r} is not supported on this node")
    if not directory.exists():
        fresh = directory.with_name(directory.name + FRESH)
        fresh.mkdir(parents=True, exist_ok=True)
        mode, group = _access(gid)
        os.chown(fresh, -1, -1 if group is None else group)
        fresh.chmod(mode)
        fresh.rename(directory)
    return directory


def _access(gid: int) -> tuple[int, int | None]:
    """The mode, and the group if there is one: what is mounted has both from the beginning, since
    an agent that is killed in between would find it there and leave it as it is."""
    return (WRITABLE | 0o2000, gid) if gid >= 0 else (WRITABLE, None)


def page_size(medium: str, pod: Object) -> int:
    """Bytes of the pages behind medium HugePages, or HugePages-2Mi: a size that a container asks
    for. Raises VolumeError."""
    spec = pod["spec"]
    sizes = {
        whole(name.removeprefix(HUGE_RESOURCE))
        for field in ("initContainers", "containers")
        for container in spec.get(field) or ()
        for name in (container.get("resources") or {}).get("requests") or ()
        if name.startswith(HUGE_RESOURCE)
    }
    if medium != HUGE:
        sizes &= {whole(medium.removeprefix(f"{HUGE}-"))}
    if len(sizes) > 1:
        raise VolumeError(
            f"medium: {medium} can't be used if container requests multiple huge page sizes"
        )
    if not sizes:
        raise VolumeError(
            f"medium {medium}: hugePages storage requested, but there is no resource request for "
            "huge pages"
        )
    return sizes.pop()


def memory_size(source: Mapping[str, Any], facts: Facts) -> int:
    """The least of the volume's own limit, what the pod's containers may use of memory, and what
    the node has for pods (KEP-1967); 0 when nothing limits it."""
    spec = facts.pod["spec"]
    limits = [_memory(spec), _sum(spec.get("containers") or ())]
    limits += [whole(size) for size in (source.get("sizeLimit"), facts.allocatable.get("memory"))
               if size]  # fmt: skip
    return min((limit for limit in limits if limit), default=0)


def _memory(holder: Mapping[str, Any]) -> int:
    limits = (holder.get("resources") or {}).get("limits") or {}
    return whole(limits["memory"]) if "memory" in limits else 0


def _sum(containers: Iterable[Mapping[str, Any]]) -> int:
    """What all containers together may use; 0 when one of them has no limit."""
    each = [_memory(item) for item in containers]
    return sum(each) if all(each) else 0
