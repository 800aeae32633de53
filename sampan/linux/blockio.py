"""What a cgroup has read from and written to disks. Cgroup v1 counts what goes past the page cache
and what is read; written pages are the kernel's own there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from msgspec import Struct, field

from . import cgroups

V1 = {"io_service_bytes": "bytes", "io_serviced": "count"}
# io.stat of v2: name -> (figure, direction)
V2 = {
    "rbytes": ("bytes", "Read"), "wbytes": ("bytes", "Write"),
    "rios": ("count", "Read"), "wios": ("count", "Write"),
}  # fmt: skip


class Transfers(Struct, frozen=True):
    """By (device, "Read" or "Write"); a device is a path below /dev."""

    bytes: Mapping[tuple[str, str], int] = field(default_factory=dict)
    count: Mapping[tuple[str, str], int] = field(default_factory=dict)


def transfers(group: str) -> Transfers:
    """Nothing for a group that is gone, or has moved nothing."""
    table = cgroups.hierarchies()
    found: dict[str, dict[tuple[str, str], int]] = {"bytes": {}, "count": {}}
    if table.v2:
        for line in _lines(cgroups.ROOT / group.strip("/") / "io.stat"):
            number, *figures = line.split()
            for name, _, value in (item.partition("=") for item in figures):
                if name in V2:
                    figure, direction = V2[name]
                    found[figure][device(number), direction] = int(value)
    else:
        for file, figure in V1.items():
            place = table.directory("blkio", group)
            path = place / f"blkio.throttle.{file}_recursive" if place is not None else None
            for line in _lines(path) if path is not None else ():
                words = line.split()
                if len(words) == 3 and words[1] in ("Read", "Write"):
                    found[figure][device(words[0]), words[1]] = int(words[2])
    return Transfers(found["bytes"], found["count"])


@cache
def device(number: str) -> str:
    """The path of "MAJOR:MINOR"; "" where the kernel knows none. At most as many as there are."""
    try:
        return f"/dev/{Path(os.readlink(f'/sys/dev/block/{number}')).name}"
    except OSError:
        return ""


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
