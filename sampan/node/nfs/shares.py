"""Shares mounted on this node, and bound into the pods that use them.

No task of its own: pods' workers call `publish` and `release`. A share is mounted once below
DATA/plugins/kubernetes.io/nfs, whoever uses it: the client behind FUSE is a process, and one is
enough. What a pod uses its directory tells (volumes/kubernetes.io~nfs/NAME.share), so an agent that
starts again undoes what one before it did; the last user takes the mount away.

A server that is silent holds up the pods of its share, by a lock per share, and a thread or two of
the `THREADS` that nobody but the shares uses.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from sampan.linux import mounts
from sampan.linux.namespaces import home_namespace

from ..volumes.kernel import Kernel
from ..volumes.source import VolumeError

T = TypeVar("T")

KIND = "volumes/kubernetes.io~nfs"
FOLDER = "plugins/kubernetes.io/nfs"
KERNEL_TYPES = ("nfs4", "nfs")
VERSIONS = ("4.2", "4.1", "4.0", "3")
CONNECT_S = 30.0
"""How long a server may take to answer before its volume fails, and is tried again."""
LOOK_S = 2.0
THREADS = 32


class Shares:
    """Of one node."""

    def __init__(self, data: Path, run: Path, kernel: Kernel) -> None:
        self._run_folder = run
        self._pods = data / "pods"
        self._folder = data / FOLDER
        self._kernel = kernel
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="nfs")
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def publish(
        self, uid: str, name: str, source: Mapping[str, Any], options: Sequence[str]
    ) -> Path:
        """Where the pod's volume is. Raises VolumeError and OSError."""
        target = self._pods / uid / KIND / name
        if source.get("readOnly"):
            options = [*options, "ro"]
        share = self._share(source, options)
        async with self._alone(share.name):
            if share not in self._kernel.mounted() or await self._is_orphaned(share):
                await self._mount(share, source, options)
            await self._run(self._bind, share, target)
        return target

    async def _run(self, call: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(call, *arguments))

    async def _is_orphaned(self, share: Path) -> bool:
        """Has the process that served the mount died? A server that is silent is another matter:
        who waits for it waits in a thread."""
        try:
            async with asyncio.timeout(LOOK_S):
                await self._run(os.stat, share)
        except TimeoutError:
            return False
        except OSError as error:
            return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        return False

    def _alone(self, share: str) -> asyncio.Lock:
        return self._turns.setdefault(share, asyncio.Lock())

    def _bind(self, share: Path, target: Path) -> None:
        """The note comes first: what it tells of is undone with the pod."""
        target.parent.mkdir(parents=True, exist_ok=True)
        target.with_name(f"{target.name}.share").write_text(share.name)
        target.mkdir(exist_ok=True)
        if target not in self._kernel.mounted():
            self._kernel.bind(share, target)

    def _share(self, source: Mapping[str, Any], options: Sequence[str]) -> Path:
        text = "\0".join((source["server"], source["path"], *options))
        return self._folder / sha256(text.encode()).hexdigest()

    async def _mount(self, share: Path, source: Mapping[str, Any], options: Sequence[str]) -> None:
        if share in self._kernel.mounted():
            # Its client has died: nobody can use it any more.
            self._kernel.detach(share)
        await self._run(partial(share.mkdir, parents=True, exist_ok=True))
        server = source["server"]
        host = f"[{server}]" if ":" in server else server
        what = f"{host}:{source['path']}"
        try:
            if has_client():
                await self._run(mount_by_kernel, what, server, share, options)
            else:
                home = home_namespace(self._run_folder)
                await mount_by_fuse(what, share, options, home)
        except OSError as error:
            given = f"-o {','.join(options)} " if options else ""
            raise VolumeError(
                "mount failed: exit status 32\nMounting command: mount\n"
                f"Mounting arguments: -t nfs {given}{what} {share}\n"
                f"Output: mount.nfs: {error.strerror or error}\n"
            ) from error

    async def release(self, uid: str) -> None:
        """Undo what the pod has. Raises OSError."""
        for note in sorted((self._pods / uid / KIND).glob("*.share")):
            share = note.read_text()
            async with self._alone(share):
                await self._run(self._release, note, share)

    def _release(self, note: Path, share: str) -> None:
        self._clear(note.with_suffix(""))
        note.unlink()
        # Nothing stands in a note that was being written when the power went.
        if share and share not in self._used():
            self._clear(self._folder / share)

    def _clear(self, point: Path) -> None:
        """Nothing but an empty directory is ever removed. Raises OSError."""
        for mounted in self._kernel.mounted():
            if mounted == point:
                self._kernel.detach(point)
        with contextlib.suppress(FileNotFoundError):
            point.rmdir()

    def _used(self) -> set[str]:
        return {note.read_text() for note in self._pods.glob(f"*/{KIND}/*.share")}


def has_client() -> bool:
    """Does the kernel know nfs, or can it learn it?"""
    known = Path("/proc/filesystems").read_text().split()
    if not known or not set(KERNEL_TYPES).isdisjoint(known):
        return bool(known)
    release = os.uname().release
    return any(Path(f"/lib/modules/{release}/kernel/fs/nfs").glob("nfs.ko*"))


def mount_by_kernel(what: str, host: str, target: Path, options: Iterable[str]) -> None:
    """With the newest version that the server knows, unless one is asked for. Raises OSError."""
    import socket

    address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]
    given = [item for item in options if item not in ("ro", "rw")]
    flags = mounts.MS_RDONLY if "ro" in options else 0
    asked = [item for item in given if item.partition("=")[0] in ("vers", "nfsvers")]
    trouble: OSError | None = None
    for version in [""] if asked else VERSIONS:
        chosen = [f"vers={version}"] if version else []
        text = ",".join([*chosen, *given, f"addr={address}"])
        try:
            mounts.mount(what, target, "nfs", flags, text)
            return
        except OSError as error:
            trouble = error
    assert trouble is not None
    raise trouble


async def mount_by_fuse(what: str, target: Path, options: Iterable[str], home: int = -1) -> None:
    """Start a client, which lives in the mount namespace `home`, and mount what it serves. Raises
    OSError with the server's words."""
    host, _, path = what[1:].partition("]:") if what.startswith("[") else what.partition(":")
    fd = os.open("/dev/fuse", os.O_RDWR)
    try:
        given = ",".join(options).replace("nfsvers=", "vers=")
        command = (str(fd), str(home), host, path, given)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "sampan.node.nfs", *command,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
            pass_fds=(fd, home) if home >= 0 else (fd,),
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(CONNECT_S):
                said = (await process.stdout.readline()).decode(errors="replace").strip()
            if said != "ready":
                raise OSError(111, said or "the client has ended")
            kinds = f"fd={fd},rootmode={stat.S_IFDIR:o},user_id=0,group_id=0"
            flags = mounts.MS_NOSUID | mounts.MS_NODEV
            flags |= mounts.MS_RDONLY if "ro" in options else 0
            mounts.mount(
                what, target, "fuse.nfs", flags,
                f"{kinds},allow_other,default_permissions",
            )  # fmt: skip
            process.stdin.write(b"\n")
            await process.stdin.drain()
        except TimeoutError:
            await _end(process)
            raise OSError(110, "Connection timed out") from None
        except BaseException:
            await _end(process)
            raise
    finally:
        os.close(fd)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
