"""Containers by crun under conmon.

The process that uses it lives in the node's mount namespace (linux/namespaces.py). Containers
outlive it: conmon keeps each one's log, exit code and input, and `open` finds them again. State
is on disk in one record per container; what is in memory can be rebuilt from it.

No task runs here. The event loop is woken by inotify (exit files) and by pidfds (a monitor that
died).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from msgspec import structs

from ..linux import cgroups, processes
from . import conmon, limits
from .containers import Containers
from .exits import ExitWatch, read_exit
from .interface import Container, ContainerSpec, ExecStreams, RuntimeFailure
from .places import Places
from .records import Record, read_record
from .roots import remove_tree, unmount_root
from .streams import AttachStreams
from .table import LOST_EXIT_CODE, REBOOT_EXIT_CODE, START_ERROR_EXIT_CODE, Entry, Exit
from .verbs.create import create
from .verbs.delete import delete
from .verbs.kill import kill
from .verbs.start import start

log = logging.getLogger("sampan.runtime")

# A killed process is gone at once unless it is stuck in the kernel (a dead disk).
KILL_TIMEOUT_S = 10.0
REAP_S = 0.1
# conmon writes the exit file and ends within milliseconds of its container.
MONITOR_TIMEOUT_S = 5.0
# crun and conmon at the same time: more only wait for the processors.
CONCURRENCY = 2 * (os.cpu_count() or 1) + 2


class Layers(Protocol):
    """What the runtime needs of an image store."""

    def layers(self, image_id: str) -> Sequence[Path]:
        """Directories of the image's layers, uppermost first. Raises ImageNotFound."""
        ...


class OciRuntime(Containers[Entry]):
    """`Runtime` by crun and conmon, for one node."""

    def __init__(
        self,
        data: Path,
        run: Path,
        images: Layers,
        cgroup_root: str,
        *,
        log_size_max: int = 0,
    ) -> None:
        """`cgroup_root` is the cluster's own cgroup, e.g. "sampan-default"."""
        super().__init__(Places(data, run, cgroup_root))
        self._images = images
        self._log_size_max = log_size_max
        self._creating: dict[str, str] = {}
        self._watch = ExitWatch(self._places.exits, self._read_exit)
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._opening = asyncio.Lock()
        self._is_open = False

    @property
    def version(self) -> str:
        """As a Node's status has it: Debian's."""
        return "crun://1.8.1"

    async def open(self) -> None:
        """Find the containers that are there. What is half made or half deleted is removed.

        A runtime that is open stays as it is.
        """
        async with self._opening:
            if not self._is_open:
                await self._open()
                self._is_open = True

    async def _open(self) -> None:
        processes.become_subreaper()
        places = self._places
        for directory in (places.exits, places.crun_root, places.bundles, places.containers):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._watch.open()
        boot = processes.boot_id()
        for path in sorted(places.containers.iterdir()):
            record = read_record(places.record(path.name))
            if record is None:
                await delete(places, path.name, "")
            else:
                self._adopt(record, boot)
        for path in places.bundles.iterdir():
            if path.name not in self._entries:
                await delete(places, path.name, "")
        for path in places.exits.iterdir():
            if path.name not in self._entries:
                path.unlink(missing_ok=True)
        limits.sweep(places.cgroup_root, self._groups())

    def _groups(self) -> set[str]:
        """Those above the containers."""
        return {entry.record.cgroup.rpartition("/")[0] for entry in self._entries.values()}

    def _adopt(self, record: Record, boot: str) -> None:
        places = self._places
        entry = Entry(record)
        self._entries[record.id] = entry
        if record.boot_id != boot:
            entry.rebooted = True
            self._finish(entry, self._exit_by_reboot(record))
            # What /run still holds is of the boot before.
            unmount_root(places.rootfs(record.id))
            remove_tree(places.bundle(record.id))
            remove_tree(places.crun_root / record.id)
            return
        if record.failure:
            self._finish(entry, Exit(START_ERROR_EXIT_CODE, record.created_at))
            return
        if not record.started_at and not self._waits_for_start(record.id):
            entry.record = structs.replace(record, started_at=record.created_at)
        self._hold(entry)

    def _exit_by_reboot(self, record: Record) -> Exit:
        """As containerd has it: it ended when we first saw that it had, and stays so for the next
        agent. /run knows of no exit of before, but the pod's status may."""
        path = self._places.exit_file(record.id)
        found = read_exit(path, "")
        if found is not None:
            return found
        code = START_ERROR_EXIT_CODE if record.failure else REBOOT_EXIT_CODE
        path.write_text(str(code))
        return Exit(code, path.stat().st_mtime)

    def _waits_for_start(self, container_id: str) -> bool:
        return (self._places.crun_root / container_id / "exec.fifo").exists()

    def _hold(self, entry: Entry) -> None:
        """Open the processes of a container, and be told when its monitor ends."""
        entry.open_processes()
        self._read_exit(entry.record.id)
        if entry.exit is not None:
            return
        if entry.conmon_pidfd is None:
            self._monitor_ended(entry)
        else:
            loop = asyncio.get_running_loop()
            loop.add_reader(entry.conmon_pidfd, self._monitor_ended, entry)

    def _monitor_ended(self, entry: Entry) -> None:
        if entry.conmon_pidfd is not None:
            asyncio.get_running_loop().remove_reader(entry.conmon_pidfd)
        processes.reap(entry.record.conmon_pid)
        self._read_exit(entry.record.id)
        if entry.exit is not None:
            return
        # Nobody reads its output or would write its exit code any more: it ends now.
        log.warning("the monitor of container %s died", entry.record.id[:12])
        kill(entry.pidfd, signal.SIGKILL)
        processes.reap_orphan(entry.record.pid)
        self._finish(entry, Exit(LOST_EXIT_CODE, time.time()))

    def _read_exit(self, container_id: str) -> None:
        entry = self._entries.get(container_id)
        if entry is None or entry.exit is not None:
            return
        found = read_exit(self._places.exit_file(container_id), entry.record.cgroup)
        if found is not None:
            self._finish(entry, found)

    def _finish(self, entry: Entry, ended: Exit) -> None:
        entry.exit = ended
        if entry.record.shares_processes:
            cgroups.kill(entry.record.cgroup)
        entry.ended.set()
        if not entry.deleting:
            self._tell(entry)

    async def create(self, spec: ContainerSpec) -> Container:
        """Make the container, with its first process waiting for `start`."""
        if spec.id in self._entries:
            raise RuntimeFailure(f"container {spec.id} exists already")
        layers = self._images.layers(spec.image)
        parent = self._places.cgroup(spec.cgroup_parent, spec.id).rpartition("/")[0]
        self._creating[spec.id] = parent
        try:
            async with self._slots:
                record = await self._create(spec, layers)
        except BaseException:
            del self._creating[spec.id]
            self._prune(f"{parent}/{spec.id}")
            raise
        del self._creating[spec.id]
        entry = Entry(record)
        self._entries[spec.id] = entry
        if not record.failure:
            self._hold(entry)
        return entry.container

    async def _create(self, spec: ContainerSpec, layers: Sequence[Path]) -> Record:
        try:
            return await create(self._places, spec, layers, self._log_size_max)
        except BaseException as error:
            await delete(self._places, spec.id, "")
            if isinstance(error, OSError):
                raise RuntimeFailure(f"failed to create container: {error}") from error
            raise

    async def start(self, container_id: str) -> Container:
        entry = self._find(container_id)
        try:
            async with self._slots:
                entry.record = await start(self._places, entry.record)
        except RuntimeFailure:
            if entry.record.failure and entry.exit is None:
                self._finish(entry, Exit(START_ERROR_EXIT_CODE, time.time()))
            raise
        return entry.container

    async def _delete(self, entry: Entry) -> None:
        container_id = entry.record.id
        entry.deleting = True
        if entry.exit is None:
            await self._end(entry)
        await self._await_monitor(entry)
        async with self._slots:
            await delete(self._places, container_id, entry.record.cgroup)
        self._entries.pop(container_id, None)
        entry.close()
        self._prune(entry.record.cgroup)

    def _prune(self, cgroup: str) -> None:
        """Remove the pod's cgroup with its last container, and those above it, if empty."""
        parent = cgroup.rpartition("/")[0]
        used = {*self._groups(), *self._creating.values()}
        if parent and parent != self._places.cgroup_root and parent not in used:
            cgroups.prune(parent)

    async def _end(self, entry: Entry) -> None:
        if not entry.record.failure:
            kill(entry.pidfd, signal.SIGKILL)
            deadline = time.monotonic() + KILL_TIMEOUT_S
            while not await _within(entry.ended, REAP_S):
                # A process of the container may have come to us as an orphan.
                processes.reap_orphans("crun")
                if time.monotonic() > deadline:
                    raise RuntimeFailure(f"container {entry.record.id} does not end after SIGKILL")

    async def _await_monitor(self, entry: Entry) -> None:
        """The monitor may still be writing into the bundle that is to be removed."""
        if entry.conmon_pidfd is None:
            return
        asyncio.get_running_loop().remove_reader(entry.conmon_pidfd)
        try:
            async with asyncio.timeout(MONITOR_TIMEOUT_S):
                await processes.wait_readable(entry.conmon_pidfd)
        except TimeoutError:
            kill(entry.conmon_pidfd, signal.SIGKILL)
        processes.reap(entry.record.conmon_pid)

    async def attach(self, container_id: str) -> ExecStreams:
        entry = self._find_running(container_id)

        async def wait() -> int:
            await entry.ended.wait()
            return entry.exit.code if entry.exit is not None else LOST_EXIT_CODE

        try:
            return AttachStreams(self._places.bundle(container_id), wait)
        except OSError as error:
            raise RuntimeFailure(f"cannot attach: {error.strerror}") from error

    def reopen_log(self, container_id: str) -> None:
        """After a rotation moved the log file away: go on in a new one."""
        conmon.reopen_log(self._places.bundle(container_id))

    def upper(self, container_id: str) -> Path:
        return self._places.upper(container_id)

    async def purge(self, grace_s: float) -> None:
        """Stop and delete every container, and remove the cluster's cgroups."""
        await self._delete_all(grace_s)
        await limits.remove_all(self._places.cgroup_root)

    async def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        processes.become_subreaper(wanted=False)
        self._watch.close()
        loop = asyncio.get_running_loop()
        for entry in self._entries.values():
            if entry.conmon_pidfd is not None:
                loop.remove_reader(entry.conmon_pidfd)
            entry.close()
        self._entries.clear()


async def _within(event: asyncio.Event, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
