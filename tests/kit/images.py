"""Small test images, made from the machine's own static busybox: no registry needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from examples.busybox import busybox_files
from sampan.runtime.build import Entry, ImageConfig, build_archive


def busybox_archive(
    path: Path,
    tag: str = "docker.io/library/busybox:test",
    entrypoint: Sequence[str] = (),
    *,
    command: Sequence[str] = ("sh",),
    extra: Mapping[str, Entry] | None = None,
    user: str = "",
) -> Path:
    """Write the image as a docker archive; the same bytes for the same arguments."""
    config = ImageConfig(entrypoint=entrypoint, command=command, user=user)
    path.write_bytes(build_archive({**busybox_files(), **(extra or {})}, config, tag))
    return path
