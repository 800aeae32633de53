"""The mounts volumes need, as a seam: tests put a fake in its place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sampan.linux import ipcns, loopdevice, mounts


class Kernel(Protocol):
    def tmpfs(self, target: Path, size_bytes: int, mode: int, gid: int | None = None) -> None: ...

    def hugetlbfs(
        self, target: Path, page_bytes: int, mode: int, gid: int | None = None
    ) -> None: ...

    def bind(self, source: Path, target: Path) -> None: ...

    def stack(self, layers: Sequence[Path], target: Path) -> None:
        """An image's layers, uppermost first, for reading."""
        ...

    def mounted(self) -> list[Path]:
        """Every mount point of this mount namespace, in the order of mounting."""
        ...

    def detach(self, target: Path) -> None: ...

    def attach_loop(self, file: Path) -> Path:
        """The loop device that shows the file, made or found."""
        ...

    def detach_loop(self, file: Path) -> None: ...

    def grow_loop(self, file: Path) -> None:
        """The file is longer than it was."""
        ...

    def mount_device(self, device: Path, target: Path, kind: str, options: Sequence[str]) -> None:
        """What the device holds; a file system is made where there is nothing."""
        ...

    def pin_ipc(self, target: Path) -> None:
        """Mount a new IPC namespace there; the calling thread is in it for a moment."""
        ...


class LinuxKernel:
    """The machine's own."""

    def tmpfs(self, target: Path, size_bytes: int, mode: int, gid: int | None = None) -> None:
        mounts.mount_tmpfs(target, size_bytes, mode, gid)

    def hugetlbfs(self, target: Path, page_bytes: int, mode: int, gid: int | None = None) -> None:
        mounts.mount_hugetlbfs(target, page_bytes, mode, gid)

    def bind(self, source: Path, target: Path) -> None:
        mounts.bind(source, target, recursive=os.path.isdir(source))

    def stack(self, layers: Sequence[Path], target: Path) -> None:
        mounts.stack(layers, target)

    def mounted(self) -> list[Path]:
        return [point.target for point in mounts.list_mounts()]

    def detach(self, target: Path) -> None:
        mounts.unmount(target, detach=True)

    def attach_loop(self, file: Path) -> Path:
        return loopdevice.attach(file)

    def detach_loop(self, file: Path) -> None:
        loopdevice.detach(file)

    def grow_loop(self, file: Path) -> None:
        loopdevice.grow(file)

    def mount_device(self, device: Path, target: Path, kind: str, options: Sequence[str]) -> None:
        from .formatting import format_and_mount

        format_and_mount(device, target, kind, options)

    def pin_ipc(self, target: Path) -> None:
        ipcns.pin(target)
