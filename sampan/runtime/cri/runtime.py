"""`Runtime` over CRI: pods' sandboxes, and containers in them.

Containers are made, started, inspected and removed by CRI. Their first processes are watched by
pidfds, so no exit is missed; only then is the server asked, every `LOOK_S`, until it knows too.
Signals go to them the same way, as CRI knows but its own way to stop. Further commands (`exec`) are
started by crun in containerd's bundle, which gives them the streams that CRI gives only over HTTP.
Not here: user namespaces, which its API has no word for; who wants one is refused.

A sandbox is made with its pod's first container and goes with its last.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec import Struct, field, structs

from sampan.aio.grpc import NOT_FOUND, RpcError

from ...linux import cgroups, processes
from .. import limits
from ..containers import Containers
from ..interface import (
    Container,
    ContainerSpec,
    ExecStreams,
    RuntimeFailure,
    State,
)
from ..places import Places
from ..verbs.create import limits_of
from . import schemas
from .containerd import NAMESPACE, Containerd
from .images import CriImages
from .messages import FLAGS, IMAGE, KEPT, LOG, POD_UID, container_config, sandbox_config

log = logging.getLogger("sampan.runtime.cri")

STATES = {schemas.CREATED: State.CREATED, schemas.RUNNING: State.RUNNING}
# containerd notes an exit within milliseconds of the process's end.
EXIT_S = 10.0
READY = 0
LOOK_S = 0.01
# As containerd has them of a container whose end it has not seen.
LOST_EXIT_CODE = 255
UNKNOWN = "Unknown"


class CriPlaces(Places, frozen=True):
    """Where containerd's shims keep what `exec` needs."""

    @property
    def crun_root(self) -> Path:
        return self.run / "crun" / NAMESPACE

    def bundle(self, container_id: str) -> Path:
        return self.run / "state/io.containerd.runtime.v2.task" / NAMESPACE / container_id


class Entry(Struct):
    container: Container
    sandbox: str
    cgroup: str
    pidfd: int | None = None
    stdin: bool = False
    tty: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    removal: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def group(self) -> str:
        return f"{self.cgroup}/{self.container.id}"


class CriRuntime(Containers[Entry]):
    """Of one node, over the containerd that is its own."""

    def __init__(self, server: Containerd, run: Path, cgroup_root: str, pause: bytes) -> None:
        """`pause` is the archive of an image whose process does nothing."""
        super().__init__(CriPlaces(run, run / "containerd", cgroup_root))
        self._server = server
        self.images = CriImages(server)
        self._pause = pause
        self._sandboxes: dict[str, asyncio.Future[str]] = {}
        self._attempts: dict[str, int] = {}
        """Of the pods whose sandbox is not their first."""
        self._making: Counter[str] = Counter()
        """Containers that are being made, by pod."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening = asyncio.Lock()
        self._is_open = False

    @property
    def version(self) -> str:
        """As kubelet has it in a Node's status."""
        return f"containerd://{self._server.version}"

    async def open(self) -> None:
        async with self._opening:
            if self._is_open:
                return
            await self._server.open(self._pause)
            await self.images.refresh()
            try:
                await self._adopt()
            except RpcError as error:
                raise RuntimeFailure(str(error)) from error
            self._is_open = True

    async def _adopt(self) -> None:
        """What an earlier agent left. A sandbox that does not run any more is of before a reboot:
        its containers are shown as they ended, and it goes with the last of them."""
        stopped = set()
        for item in (await self._server.call("ListPodSandbox"))["items"]:
            if item["state"] == READY:
                found = asyncio.get_running_loop().create_future()
                found.set_result(item["id"])
                self._sandboxes[item["labels"].get(POD_UID, "")] = found
            else:
                stopped.add(item["id"])
                uid, attempt = item["labels"].get(POD_UID, ""), item["metadata"]["attempt"] + 1
                self._attempts[uid] = max(self._attempts.get(uid, 0), attempt)
        for item in (await self._server.call("ListContainers"))["containers"]:
            container, pid = await self._look(item["id"])
            if item["pod_sandbox_id"] in stopped:
                container = structs.replace(container, rebooted=True)
            kept = container.annotations.get(KEPT, "")
            flags = container.annotations.get(FLAGS, "").split()
            entry = Entry(
                container,
                item["pod_sandbox_id"],
                kept,
                stdin="stdin" in flags,
                tty="tty" in flags,
            )
            self._entries[item["id"]] = entry
            if container.state == State.EXITED:
                self._ended(entry)
            elif container.state == State.RUNNING:
                self._watch(entry, pid)
        used = {entry.sandbox for entry in self._entries.values()}
        for uid, found in tuple(self._sandboxes.items()):
            if found.result() not in used:
                # Its agent was killed before it made the first container there.
                stopped.add(found.result())
                del self._sandboxes[uid]
        for sandbox in stopped - used:
            await self._remove_sandbox(sandbox)
        limits.sweep(self._places.cgroup_root, {entry.cgroup for entry in self._entries.values()})

    async def _look(self, container_id: str) -> tuple[Container, int]:
        """A container as the server has it, with all its annotations, and its process."""
        answer = await self._server.call("ContainerStatus", container_id=container_id, verbose=True)
        status = answer["status"] or {}
        info = json.loads(answer["info"].get("info") or "{}")
        pid = int(info.get("pid") or 0)
        notes = status["annotations"]
        container = Container(
            id=container_id,
            image=notes.get(IMAGE) or status["image_ref"],
            state=STATES.get(status["state"], State.EXITED),
            pid=pid,
            created_at=status["created_at"] / 1e9,
            started_at=max(status["started_at"], 0) / 1e9,
            finished_at=max(status["finished_at"], 0) / 1e9,
            exit_code=status["exit_code"],
            oom_killed=status["reason"] == "OOMKilled",
            annotations=notes,
            log_path=Path(notes.get(LOG, "")),
            user=_user_of(pid),
            runtime="containerd",
            reason=UNKNOWN if status["reason"] == UNKNOWN else "",
        )
        return container, pid

    # Containers

    async def create(self, spec: ContainerSpec) -> Container:
        root = self._places.cgroup_root
        group = f"{root}/{spec.cgroup_parent}" if spec.cgroup_parent else root
        uid = spec.annotations.get(POD_UID, "")
        self._making[uid] += 1
        try:
            entry = await self._create(spec, group)
        except RuntimeFailure:
            if self._making[uid] == 1:
                with suppress(RuntimeFailure):
                    await self._leave_unused(uid, group)
            raise
        finally:
            self._making[uid] -= 1
            if not self._making[uid]:
                del self._making[uid]
        self._entries[entry.container.id] = entry
        return entry.container

    async def _leave_unused(self, uid: str, group: str) -> None:
        """The sandbox goes when no container could be made in it: its pod may be deleted before
        one is, and then nobody would look for it."""
        found = self._sandboxes.get(uid)
        if found is None or not found.done() or found.cancelled() or found.exception():
            return
        sandbox = found.result()
        if all(entry.sandbox != sandbox for entry in self._entries.values()):
            del self._sandboxes[uid]
            await self._remove_sandbox(sandbox)
            (self._server.pods / uid).unlink(missing_ok=True)
            cgroups.prune(group)

    async def _create(self, spec: ContainerSpec, group: str) -> Entry:
        try:
            if spec.group is not None:
                cgroups.create(group, limits_of(spec.group))
            sandbox = await self._sandbox(spec, group)
            answer = await self._server.call(
                "CreateContainer",
                pod_sandbox_id=sandbox,
                config=container_config(spec, group, self._with_process(spec.share_pid_with)),
                sandbox_config=sandbox_config(spec, group),
            )
            container, _ = await self._look(answer["container_id"])
        except RpcError as error:
            raise RuntimeFailure(error.message) from error
        except OSError as error:
            raise RuntimeFailure(f"failed to create container: {error}") from error
        return Entry(container, sandbox, group, stdin=spec.stdin, tty=spec.tty)

    def _with_process(self, pid: int) -> str:
        """The container whose first process it is; "" for none. Raises RuntimeFailure."""
        if pid <= 0:
            return ""
        for entry in self._entries.values():
            if entry.container.pid == pid and entry.pidfd is not None:
                return entry.container.id
        raise RuntimeFailure("the process whose namespace the container shares has ended")

    async def _sandbox(self, spec: ContainerSpec, group: str) -> str:
        """The pod's, made by whoever comes first."""
        uid = spec.annotations.get(POD_UID, "")
        found = self._sandboxes.get(uid)
        if found is None:
            found = asyncio.ensure_future(self._make_sandbox(spec, uid, group))
            self._sandboxes[uid] = found
            found.add_done_callback(lambda done: self._forget_failed(uid, done))
        return await asyncio.shield(found)

    async def _make_sandbox(self, spec: ContainerSpec, uid: str, group: str) -> str:
        if spec.network_namespace:
            (self._server.pods / uid).write_text(spec.network_namespace)
        config = sandbox_config(spec, group, self._attempts.get(uid, 0))
        sandbox: str = (await self._server.call("RunPodSandbox", config=config))["pod_sandbox_id"]
        return sandbox

    def _forget_failed(self, uid: str, made: asyncio.Future[str]) -> None:
        if made.cancelled() or made.exception() is not None:
            self._sandboxes.pop(uid, None)

    async def start(self, container_id: str) -> Container:
        entry = self._find(container_id)
        try:
            await self._server.call("StartContainer", container_id=container_id)
            container, pid = await self._look(container_id)
        except RpcError as error:
            container, _ = await self._look(container_id)
            entry.container = container
            if container.state == State.EXITED:
                self._ended(entry)
            raise RuntimeFailure(error.message) from error
        entry.container = container
        if container.state == State.EXITED:
            self._ended(entry)
        else:
            self._watch(entry, pid)
        return entry.container

    def _watch(self, entry: Entry, pid: int) -> None:
        """Be told when the process ends."""
        entry.pidfd = processes.open_pidfd(pid, processes.start_ticks(pid)) if pid else None
        if entry.pidfd is None:
            self._spawn(self._note_exit(entry))
        else:
            asyncio.get_running_loop().add_reader(entry.pidfd, self._process_ended, entry)

    def _process_ended(self, entry: Entry) -> None:
        self._unwatch(entry)
        self._spawn(self._note_exit(entry))

    def _unwatch(self, entry: Entry) -> None:
        if entry.pidfd is not None:
            asyncio.get_running_loop().remove_reader(entry.pidfd)
            os.close(entry.pidfd)
            entry.pidfd = None

    async def _note_exit(self, entry: Entry) -> None:
        """Until the server has the exit code too, or for `EXIT_S`: whatever it says then, the
        process has ended."""
        deadline = time.monotonic() + EXIT_S
        while True:
            try:
                container, _ = await self._look(entry.container.id)
                known = True
            except RpcError as error:
                container, known = entry.container, error.code != NOT_FOUND
                if known:
                    log.warning("container %s: %s", container.id[:12], error)
            if container.state == State.EXITED:
                break
            if not known or time.monotonic() > deadline:
                log.warning("the server does not know how %s ended", container.id[:12])
                container = _lost(container)
                break
            await asyncio.sleep(LOOK_S)
        if self._entries.get(container.id) is not entry:
            # Deleted meanwhile: nobody waits to hear of it.
            return
        entry.container = container
        self._ended(entry)

    def _ended(self, entry: Entry) -> None:
        entry.ended.set()
        self._tell(entry)

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _delete(self, entry: Entry) -> None:
        container_id = entry.container.id
        self._unwatch(entry)
        try:
            # It kills what still runs.
            await self._server.call("RemoveContainer", container_id=container_id)
        except RpcError as error:
            if error.code != NOT_FOUND:
                raise RuntimeFailure(error.message) from error
        self._entries.pop(container_id, None)
        self._exited.pop(container_id, None)
        entry.ended.set()
        if not any(other.sandbox == entry.sandbox for other in self._entries.values()):
            await self._leave_sandbox(entry)

    async def _leave_sandbox(self, entry: Entry) -> None:
        """It goes with its last container; after a reboot its pod has another one by then."""
        uid = entry.container.annotations.get(POD_UID, "")
        if not entry.container.rebooted:
            self._sandboxes.pop(uid, None)
        await self._remove_sandbox(entry.sandbox)
        if uid not in self._sandboxes:
            self._attempts.pop(uid, None)
            (self._server.pods / uid).unlink(missing_ok=True)
            cgroups.prune(entry.cgroup)

    async def _remove_sandbox(self, sandbox: str) -> None:
        try:
            await self._server.call("StopPodSandbox", pod_sandbox_id=sandbox)
            await self._server.call("RemovePodSandbox", pod_sandbox_id=sandbox)
        except RpcError as error:
            if error.code != NOT_FOUND:
                raise RuntimeFailure(error.message) from error

    async def attach(self, container_id: str) -> ExecStreams:
        # The HTTP client takes long to import, and few attach.
        from .streams import open_attach

        entry = self._find_running(container_id)

        async def wait() -> int:
            await entry.ended.wait()
            return entry.container.exit_code

        streams = {"stdin": entry.stdin, "tty": entry.tty, "stdout": True, "stderr": not entry.tty}
        try:
            answer = await self._server.call("Attach", container_id=container_id, **streams)
        except RpcError as error:
            raise RuntimeFailure(error.message) from error
        return await open_attach(answer["url"], wait)

    def reopen_log(self, container_id: str) -> None:
        self._spawn(self._reopen_log(container_id))

    async def _reopen_log(self, container_id: str) -> None:
        try:
            await self._server.call("ReopenContainerLog", container_id=container_id)
        except RpcError as error:
            log.warning("container %s: log: %s", container_id[:12], error)

    # Groups

    def upper(self, container_id: str) -> Path:
        rootfs = str(self._places.bundle(container_id) / "rootfs")
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, target, _, options, *_ = line.split()
            if target == rootfs:
                for option in options.split(","):
                    if option.startswith("upperdir="):
                        return Path(option.removeprefix("upperdir="))
        return Path("/nonexistent")

    async def purge(self, grace_s: float) -> None:
        """Stop and delete every container, and end the server; its images stay."""
        await self._delete_all(grace_s)
        await self.close()
        await self._server.end()
        await limits.remove_all(self._places.cgroup_root)

    async def close(self) -> None:
        for entry in self._entries.values():
            self._unwatch(entry)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._entries.clear()
        self._sandboxes.clear()
        self._is_open = False
        self._server.close()


def _lost(container: Container) -> Container:
    """What has ended, nobody knows how."""
    now = time.time()
    return structs.replace(
        container,
        state=State.EXITED,
        pid=0,
        exit_code=LOST_EXIT_CODE,
        finished_at=now,
        reason=UNKNOWN,
    )


def _user_of(pid: int) -> Sequence[int]:
    """uid, gid and the other groups of a process; () for one that is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines() if pid else []
    except OSError:
        return ()
    rows = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
    if "Uid" not in rows:
        return ()
    gid = int(rows["Gid"][1])
    return (
        int(rows["Uid"][1]),
        gid,
        *(int(group) for group in rows["Groups"] if int(group) != gid),
    )
