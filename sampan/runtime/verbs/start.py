"""start: let the made container run its command."""

from __future__ import annotations

import dataclasses
import time

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
    try:
        done = await processes.run(
            places.crun_command("start", record.id), timeout_s=START_TIMEOUT_S
        )
    except TimeoutError:
        raise RuntimeFailure("the container runtime did not start the container") from None
    if done.code:
        raise RuntimeFailure(f"OCI runtime start failed: {done.error or done.code}")
    record = dataclasses.replace(record, started_at=started_at)
    write_record(places.record(record.id), record)
    return record
