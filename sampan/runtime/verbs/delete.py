"""delete: remove every trace of a container that has ended, or that never came to be."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import orjson

from ...linux import cgroups, processes
from ..conmon import read_pid
from ..places import Places
from ..roots import remove_tree, unmount_root

DELETE_TIMEOUT_S = 60.0


async def delete(places: Places, container_id: str, cgroup: str) -> None:
    """Idempotent. Processes the container left in a shared PID namespace are killed too.

    Without a `cgroup` the container was never recorded: it may be half made, and still run.
    """
    ended = bool(cgroup)
    if not ended:
        _stop_making(places, container_id)
        cgroup = _configured_cgroup(places, container_id)
    # No process in its cgroup: what crun would still do is to remove its own folder.
    if not ended or not cgroups.remove(cgroup):
        await _delete_by_crun(places, container_id, cgroup)
    remove_tree(places.crun_root / container_id)
    unmount_root(places.rootfs(container_id))
    remove_tree(places.bundle(container_id))
    # What the container wrote may be large: not in the event loop.
    await asyncio.to_thread(remove_tree, places.home(container_id))
    try:
        os.unlink(places.exit_file(container_id))
    except FileNotFoundError:
        pass


async def _delete_by_crun(places: Places, container_id: str, cgroup: str) -> None:
    """With force, and then whatever is left in the cgroup."""
    if (places.crun_root / container_id).exists():
        await processes.run(
            places.crun_command("delete", "--force", container_id), timeout_s=DELETE_TIMEOUT_S
        )
    if cgroup and not cgroups.remove(cgroup):
        cgroups.kill(cgroup)
        await asyncio.to_thread(cgroups.remove_when_empty, cgroup)


def _stop_making(places: Places, container_id: str) -> None:
    """End a creation that an agent began and did not live to record: conmon, the crun it may
    still wait for, and the container's first process, all of which are below conmon."""
    pid = read_pid(places.bundle(container_id) / "conmon.pid")
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return
    if container_id.encode() not in command:
        # The number belongs to another process by now.
        return
    for one in (pid, *processes.descendants(pid)):
        try:
            os.kill(one, signal.SIGKILL)
        except ProcessLookupError:
            pass


def _configured_cgroup(places: Places, container_id: str) -> str:
    try:
        config = orjson.loads((places.bundle(container_id) / "config.json").read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return ""
    return str(config["linux"]["cgroupsPath"]).strip("/")
