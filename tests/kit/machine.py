"""What is on this machine that a cluster could leave behind."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Traces:
    """Everything of every cluster whose name begins with a prefix."""

    processes: frozenset[str]
    mounts: frozenset[str]
    links: frozenset[str]
    tables: frozenset[str]
    cgroups: frozenset[str]


def traces(name: str, data: Path) -> Traces:
    """What belongs to cluster `name` with its data in `data`; all empty when nothing is left."""
    return Traces(
        processes=frozenset(_processes(name, data)),
        mounts=frozenset(
            line
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if f"/sampan/{name}" in line or str(data) in line
        ),
        links=frozenset(line for line in _lines("ip", "-o", "link") if f" sb-{name}:" in line),
        tables=frozenset(
            line for line in _lines("nft", "list", "tables") if line.endswith(f"sampan-{name}")
        ),
        cgroups=frozenset(
            str(path) for end in ("", ".*") for path in CGROUPS.glob(f"**/sampan-{name}{end}")
        ),
    )


NOTHING = Traces(frozenset(), frozenset(), frozenset(), frozenset(), frozenset())


def _processes(name: str, data: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"--name {name} " in command or str(data) in command or f"/sampan/{name}/" in command:
            found.append(command)
    return found


def _lines(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
