"""Starting monitors and other programs, and what is left of those that nobody waits for."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from sampan.linux import processes
from sampan.runtime import conmon
from sampan.runtime.interface import ContainerSpec
from sampan.runtime.places import Places


async def test_a_creation_that_is_called_off_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: asyncio.Future[processes.Child] = asyncio.get_running_loop().create_future()
    spawn = processes.spawn

    def seen(*arguments: Any, **options: Any) -> processes.Child:
        begun.set_result(spawn(*arguments, **options))
        return begun.result()

    monkeypatch.setattr(processes, "spawn", seen)
    program = tmp_path / "conmon"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    places = structs.replace(Places(tmp_path, tmp_path, "root"), conmon=str(program))
    places.bundle("c").mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    creation = asyncio.create_task(
        conmon.create(places, ContainerSpec(id="c", image="i", args=["x"], env=()))
    )
    child = await begun
    creation.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creation
    assert not _lives(child.pid)
    assert child.pid not in processes._started
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_program_that_nobody_could_wait_for_does_not_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that is out of descriptors says that it could not start it."""
    pids: list[int] = []

    def refuse(pid: int) -> int:
        pids.append(pid)
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(OSError, match="Too many"):
        processes.spawn(["sleep", "1000"])
    assert not _lives(pids[0])


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
