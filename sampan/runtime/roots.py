"""A container's root: its image's layers under a writable one, by overlayfs."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from ..linux import mounts
from ..linux.openat2 import open_in_root
from .interface import RuntimeFailure


def mount_root(layers: Sequence[Path], home: Path, target: Path, owner: int = 0) -> None:
    """Mount at `target`; what the container writes goes to `home`/upper, which belongs to `owner`.
    Raises OSError."""
    upper, work = home / "upper", home / "work"
    upper.mkdir()
    work.mkdir()
    target.mkdir()
    # "/" of the container belongs to its image, not to the private directory above it.
    upper.chmod(layers[0].stat().st_mode & 0o7777 if layers else 0o755)
    if owner:
        os.chown(upper, owner, owner)
    if not layers:
        mounts.bind(upper, target)
        return
    mounts.overlay(layers, upper, work, target)


def mount_mapped_root(
    layers: Sequence[Path], home: Path, target: Path, ids: tuple[int, int]
) -> None:
    """As `mount_root`, for a container with a user namespace: what its image's root owns is owned
    by its own. The layers are seen through the mapping; the upper one belongs to its ids."""
    from ..linux.idmap import make_namespace, mount_mapped

    namespace = make_namespace(*ids)
    seen: list[Path] = []
    try:
        for place, layer in enumerate(layers):
            point = home / f"layer{place}"
            point.mkdir()
            mount_mapped(layer, point, namespace)
            seen.append(point)
        mount_root(seen, home, target, owner=ids[0])
    finally:
        os.close(namespace)
        # The stack holds what it is made of; the mounts themselves are not needed any more.
        for point in seen:
            mounts.unmount(point, detach=True)
            point.rmdir()


def unmount_root(target: Path) -> None:
    """One that is not mounted is fine."""
    try:
        mounts.unmount(target, detach=True)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise


def remove_tree(path: Path) -> None:
    """Remove a directory with all below it; one that is gone is fine."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        pass


def prepare_working_directory(rootfs: Path, wanted: str, covered: Collection[str]) -> None:
    """Make the working directory where the image lacks it, and refuse one that leads to /proc.

    crun 1.8.1 follows a working directory such as /proc/self/fd/7 into whatever it has open
    (CVE-2024-21626). A directory below one of the mount targets in `covered` is the volume's
    business. Raises RuntimeFailure.
    """
    path = PurePosixPath(wanted or "/")
    if not path.is_absolute():
        raise RuntimeFailure(f"working directory {wanted!r} is not an absolute path")
    if any(path.is_relative_to(target) for target in covered):
        return
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _refuse_kernel_path(wanted, path)
        found = _open_or_make(root, path)
        inside = os.readlink(f"/proc/self/fd/{found}").removeprefix(str(rootfs)) or "/"
        os.close(found)
        _refuse_kernel_path(wanted, PurePosixPath(inside))
    except OSError as error:
        raise RuntimeFailure(f"working directory {wanted!r}: {error.strerror}") from error
    finally:
        os.close(root)


def _refuse_kernel_path(wanted: str, path: PurePosixPath) -> None:
    if len(path.parts) > 1 and path.parts[1] == "proc":
        raise RuntimeFailure(f"working directory {wanted!r} leads into /proc")


def _open_or_make(root: int, path: PurePosixPath) -> int:
    flags = os.O_PATH | os.O_DIRECTORY
    try:
        return open_in_root(root, str(path), flags)
    except FileNotFoundError:
        pass
    parent = _open_or_make(root, path.parent)
    try:
        os.mkdir(path.name, 0o755, dir_fd=parent)
        return os.open(path.name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    finally:
        os.close(parent)
