"""What is kept on disk of each container, so that an agent that starts again finds its own.

One small JSON file per container below `data`, replaced atomically. The exit code is not in it:
conmon writes that to the exit directory, also while no agent runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson
from msgspec import Struct, field, structs


class Record(Struct, frozen=True):
    id: str
    image: str
    cgroup: str
    boot_id: str
    created_at: float
    started_at: float = 0.0
    pid: int = 0
    pid_ticks: int = 0
    """Start time of the process, which tells it from a later one with its number."""
    conmon_pid: int = 0
    conmon_ticks: int = 0
    tty: bool = False
    failure: str = ""
    """Why it could not be made to run: told at `start`, as upstream's runtimes do."""
    log_path: str = ""
    shares_processes: bool = False
    """Its PID namespace lives on without it, and so would what it leaves running."""
    user: Sequence[int] = ()
    """Uid, gid and the other groups of the first process."""
    annotations: Mapping[str, str] = field(default_factory=dict)


def write_record(path: Path, record: Record) -> None:
    """Replace the file as a whole; a crash leaves the old one or the new one."""
    draft = path.with_suffix(".new")
    draft.write_bytes(orjson.dumps(structs.asdict(record)))
    os.replace(draft, path)


def read_record(path: Path) -> Record | None:
    """None when there is none, or when it is torn (the container is then cleaned away)."""
    try:
        fields = orjson.loads(path.read_bytes())
        return Record(**fields)
    except (FileNotFoundError, orjson.JSONDecodeError, TypeError):
        return None
