"""start: let the made container run its command."""

from __future__ import annotations

import errno
import os
import time

from msgspec import structs

from ...linux import processes
from ..interface import RuntimeFailure
from ..places import Places
from ..records import Record, write_record

# crun only opens a door the container's first process waits at.
START_TIMEOUT_S = 60.0


async def start(places: Places, record: Record) -> Record:
    """Raises RuntimeFailure: with the failure `create` met, or crun's text."""
    if record.failure:
        raise RuntimeFailure(record.failure)
    started_at = time.time()
    if not _open_door(places, record):
        await _start_by_crun(places, record)
    record = structs.replace(record, started_at=started_at)
    write_record(places.record(record.id), record)
    return record


def _open_door(places: Places, record: Record) -> bool:
    """What `crun start` does without hooks: one byte for the first process, which waits for it
    at a FIFO. Saves a process and most of the time; False when it has to be crun after all."""
    door = places.crun_root / record.id / "exec.fifo"
    try:
        fd = os.open(door, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.write(fd, b"\0")
        finally:
            os.close(fd)
    except OSError as error:
        # Nobody waits (any more), but the process lives: an agent that ended right here had let it
        # in, and crun would wait for somebody who does.
        if error.errno not in (errno.ENXIO, errno.EPIPE) or not _lives(record):
            return False
    door.unlink(missing_ok=True)
    return True


def _lives(record: Record) -> bool:
    return bool(record.pid) and processes.start_ticks(record.pid) == record.pid_ticks


async def _start_by_crun(places: Places, record: Record) -> None:
    try:
        done = await processes.run(
            places.crun_command("start", record.id), timeout_s=START_TIMEOUT_S
        )
    except TimeoutError:
        raise RuntimeFailure("the container runtime did not start the container") from None
    if done.code:
        raise RuntimeFailure(f"OCI runtime start failed: {done.error or done.code}")
