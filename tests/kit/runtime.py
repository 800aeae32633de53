"""A container runtime, images, a pod network and mounts that exist in memory only."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

from sampan.aio.clock import Clock
from sampan.linux.blockio import Transfers
from sampan.linux.cgroups import Usage
from sampan.node.interface import PodAddress
from sampan.runtime.interface import (
    Container,
    ContainerSpec,
    Credentials,
    ExecStreams,
    Image,
    ImageNotFound,
    Resources,
    RuntimeFailure,
    State,
)
from tests.kit.clock import FakeClock

BUSYBOX = Image(
    id="sha256:" + "b" * 64,
    tags=("docker.io/library/busybox:latest",),
    digests=(),
    size_bytes=4_000_000,
    entrypoint=(),
    command=("sh",),
    env=("PATH=/bin",),
)


class FakeImages:
    """Knows `busybox`; what is put into `remote` can be pulled, an exception there is raised."""

    def __init__(self) -> None:
        self.here: dict[str, Image] = {"busybox": BUSYBOX}
        self.remote: dict[str, Image | RuntimeFailure] = {}
        self.pulls: list[tuple[str, Credentials | None]] = []

    def find(self, reference: str) -> Image | None:
        by_id = {image.id: image for image in self.here.values()}
        return self.here.get(reference) or by_id.get(reference)

    def list(self) -> Sequence[Image]:
        return tuple({image.id: image for image in self.here.values()}.values())

    async def open_layers(self, image_id: str) -> Sequence[Path]:
        return [Path("/layers") / image_id]

    async def load(self, archive: Path) -> Sequence[Image]:
        raise NotImplementedError

    async def pull(self, reference: str, credentials: Credentials | None = None) -> Image:
        self.pulls.append((reference, credentials))
        await asyncio.sleep(0)
        found = self.remote.get(reference) or ImageNotFound(f"{reference}: not found")
        if isinstance(found, RuntimeFailure):
            raise found
        self.here[reference] = found
        return found

    async def remove(self, reference: str) -> None:
        self.here.pop(reference, None)


class FakeStreams:
    """An exec session that has its output ready."""

    def __init__(self, output: Sequence[tuple[int, bytes]], code: int) -> None:
        self._output = list(output)
        self._code = code
        self.written = bytearray()
        self.stdin_closed = False
        self.killed = False
        self.sizes: list[tuple[int, int]] = []

    async def read(self) -> tuple[int, bytes] | None:
        await asyncio.sleep(0)
        return self._output.pop(0) if self._output else None

    async def write(self, data: bytes) -> None:
        self.written += data

    async def close_stdin(self) -> None:
        self.stdin_closed = True

    def resize(self, columns: int, rows: int) -> None:
        self.sizes.append((columns, rows))

    async def wait(self) -> int:
        return self._code

    async def kill(self) -> None:
        self.killed = True


class FakeRuntime:
    """Containers run until `exit` is called, or a signal that `obeys` reaches them."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or FakeClock()
        self.containers: dict[str, Container] = {}
        self.specs: dict[str, ContainerSpec] = {}
        self.signals: list[tuple[str, int]] = []
        self.obeys: Callable[[int], int | None] = lambda number: 128 + number
        """The exit code with which a container answers a signal; None ignores it."""
        self.create_error = ""
        self.start_error = ""
        self.exec_answer: Callable[[Sequence[str]], tuple[bytes, int]] = lambda args: (b"", 0)
        self.opened = False
        self.usages: dict[str, Usage] = {}
        """By container id, or cgroup parent."""
        self.limits: list[tuple[str, Resources]] = []
        self.classes: dict[str, Resources] = {}
        """Of groups above those of pods."""
        self.pinned: dict[str, str] = {}
        self.written = Path("/nowhere")
        """Holds a folder for what each container wrote."""
        self._exits: asyncio.Queue[Container] = asyncio.Queue()

    async def open(self) -> None:
        self.opened = True

    async def create(self, spec: ContainerSpec) -> Container:
        await asyncio.sleep(0)
        if self.create_error:
            raise RuntimeFailure(self.create_error)
        made = Container(
            id=spec.id,
            image=spec.image,
            state=State.CREATED,
            pid=0,
            created_at=self.clock.now(),
            started_at=0,
            finished_at=0,
            exit_code=0,
            oom_killed=False,
            annotations=dict(spec.annotations),
            log_path=spec.log_path,
        )
        self.containers[spec.id] = made
        self.specs[spec.id] = spec
        return made

    async def start(self, container_id: str) -> Container:
        await asyncio.sleep(0)
        if self.start_error:
            raise RuntimeFailure(self.start_error)
        return self._set(container_id, state=State.RUNNING, started_at=self.clock.now())

    def _set(self, container_id: str, **changes: object) -> Container:
        made = replace(self.containers[container_id], **changes)  # type: ignore[arg-type]
        self.containers[container_id] = made
        return made

    def exit(self, container_id: str, code: int = 0, *, oom: bool = False) -> None:
        """The container's process ends by itself."""
        gone = self._set(
            container_id,
            state=State.EXITED,
            exit_code=code,
            oom_killed=oom,
            finished_at=self.clock.now(),
        )
        self._exits.put_nowait(gone)

    def running(self) -> list[Container]:
        return [item for item in self.containers.values() if item.state == State.RUNNING]

    def only(self) -> Container:
        """The one running container."""
        (one,) = self.running()
        return one

    async def kill(self, container_id: str, signal: int) -> None:
        self.signals.append((container_id, signal))
        found = self.containers.get(container_id)
        if found is None or found.state != State.RUNNING:
            return
        code = 137 if signal == 9 else self.obeys(signal)
        if code is not None:
            self.exit(container_id, code)

    async def delete(self, container_id: str) -> None:
        self.containers.pop(container_id, None)

    async def exec(
        self, container_id: str, args: Sequence[str], *, tty: bool = False, stdin: bool = False
    ) -> ExecStreams:
        output, code = self.exec_answer(args)
        return FakeStreams([(1, output)] if output else [], code)

    async def attach(self, container_id: str) -> ExecStreams:
        return FakeStreams([], 0)

    def reopen_log(self, container_id: str) -> None:
        self.containers[container_id].log_path.touch()

    def get(self, container_id: str) -> Container | None:
        return self.containers.get(container_id)

    def list(self) -> Sequence[Container]:
        return tuple(self.containers.values())

    def usage(self, container_id: str) -> Usage:
        return self.usages.get(container_id, Usage())

    def group_usage(self, cgroup_parent: str) -> Usage:
        return self.usages.get(cgroup_parent, Usage())

    def upper(self, container_id: str) -> Path:
        return self.written / container_id

    def limit(self, container_id: str, resources: Resources) -> None:
        self.limits.append((container_id, resources))

    def pin(self, container_id: str, cpus: str) -> None:
        self.pinned[container_id] = cpus

    def transfers(self, cgroup: str) -> Transfers:
        return Transfers()

    def limit_group(self, cgroup_parent: str, resources: Resources) -> None:
        if "/pod" not in cgroup_parent:
            self.classes[cgroup_parent] = resources
            return
        self.limits.append((cgroup_parent, resources))

    async def exits(self) -> AsyncIterator[Container]:
        while True:
            yield await self._exits.get()

    async def close(self) -> None:
        self.opened = False


class FakeNetwork:
    """Hands out 10.244.0.2, .3, ... and remembers who has which."""

    def __init__(self, folder: Path = Path("/run/fake")) -> None:
        self.given: dict[str, PodAddress] = {}
        self.other_ip = ""
        """Of every pod, where the network gives two as a CNI plugin may."""
        self.error = ""
        self._folder = folder
        self._next = 2

    async def open(self) -> None:
        await asyncio.sleep(0)

    async def attach(self, pod_uid: str) -> PodAddress:
        await asyncio.sleep(0)
        if self.error:
            raise OSError(self.error)
        if pod_uid not in self.given:
            ip = f"10.244.0.{self._next}"
            self.given[pod_uid] = PodAddress(self._folder / pod_uid, ip, self.other_ip)
            self._next += 1
        return self.given[pod_uid]

    async def detach(self, pod_uid: str) -> None:
        self.given.pop(pod_uid, None)

    async def retain(self, pod_uids: set[str]) -> None:
        for uid in self.given.keys() - pod_uids:
            del self.given[uid]

    async def close(self) -> None: ...

    async def purge(self) -> None:
        self.given.clear()


class FakeKernel:
    """Mounts that are only remembered; a bind is a symbolic link when nothing is in its place."""

    def __init__(self) -> None:
        self.points: list[Path] = []
        self.binds: dict[Path, str] = {}
        self.pages: dict[Path, int] = {}
        self.loops: list[Path] = []
        self.devices: list[tuple[Path, str, tuple[str, ...]]] = []

    def mount_device(self, device: Path, target: Path, kind: str, options: Sequence[str]) -> None:
        self.devices.append((device, kind, tuple(options)))
        self.points.append(target)

    def attach_loop(self, file: Path) -> Path:
        if file not in self.loops:
            self.loops.append(file)
        return Path(f"/dev/loop{self.loops.index(file)}")

    def detach_loop(self, file: Path) -> None:
        if file in self.loops:
            self.loops.remove(file)

    def grow_loop(self, file: Path) -> None:
        assert file in self.loops

    def tmpfs(self, target: Path, size_bytes: int, mode: int, gid: int | None = None) -> None:
        self.points.append(target)
        _dress(target, mode, gid)

    def hugetlbfs(self, target: Path, page_bytes: int, mode: int, gid: int | None = None) -> None:
        self.points.append(target)
        _dress(target, mode, gid)
        self.pages[target] = page_bytes

    def bind(self, source: Path, target: Path) -> None:
        self.points.append(target)
        self.binds[target] = os.path.realpath(source)

    def stack(self, layers: Sequence[Path], target: Path) -> None:
        self.points.append(target)

    def mounted(self) -> list[Path]:
        return [*self.points]

    def detach(self, target: Path) -> None:
        self.points.remove(target)

    def pin_ipc(self, target: Path) -> None:
        self.points.append(target)


def _dress(target: Path, mode: int, gid: int | None) -> None:
    os.chown(target, -1, -1 if gid is None else gid)
    target.chmod(mode)
