"""The containers a runtime knows: their records, and what is held open while they live."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from msgspec import Struct, field

from ..linux import processes
from .interface import Container, State
from .records import Record

# A monitor that died took the exit code with it; upstream shows a killed container then.
LOST_EXIT_CODE = 137
# What upstream's runtimes report of a container that a reboot ended.
REBOOT_EXIT_CODE = 255
UNKNOWN = "Unknown"
# Of a container whose command could not be started, as containerd has it.
START_ERROR_EXIT_CODE = 128


class Exit(Struct, frozen=True):
    code: int
    finished_at: float
    oom_killed: bool = False


class Entry(Struct):
    """One container. `pidfd` and `conmon_pidfd` are open while the process may live."""

    record: Record
    pidfd: int | None = None
    conmon_pidfd: int | None = None
    exit: Exit | None = None
    deleting: bool = False
    rebooted: bool = False
    """The machine was started anew since."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    removal: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def group(self) -> str:
        return self.record.cgroup

    @property
    def container(self) -> Container:
        record, ended = self.record, self.exit
        state = State.RUNNING if record.started_at else State.CREATED
        if ended is not None:
            state = State.EXITED
        return Container(
            id=record.id,
            image=record.image,
            state=state,
            pid=0 if ended is not None else record.pid,
            created_at=record.created_at,
            started_at=record.started_at,
            finished_at=ended.finished_at if ended is not None else 0.0,
            exit_code=ended.code if ended is not None else 0,
            oom_killed=ended.oom_killed if ended is not None else False,
            annotations=record.annotations,
            log_path=Path(record.log_path),
            user=record.user,
            reason=UNKNOWN if self._nobody_saw_it_end() else "",
            rebooted=self.rebooted,
        )

    def _nobody_saw_it_end(self) -> bool:
        return self.rebooted and self.exit is not None and self.exit.code == REBOOT_EXIT_CODE

    def open_processes(self) -> None:
        """Take hold of the processes of the record; what has ended meanwhile stays None."""
        record = self.record
        if record.pid:
            self.pidfd = processes.open_pidfd(record.pid, record.pid_ticks)
        if record.conmon_pid:
            self.conmon_pidfd = processes.open_pidfd(record.conmon_pid, record.conmon_ticks)

    def close(self) -> None:
        for fd in (self.pidfd, self.conmon_pidfd):
            if fd is not None:
                os.close(fd)
        self.pidfd = self.conmon_pidfd = None
