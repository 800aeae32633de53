"""Child processes by pidfd: no child watcher, no thread per child, no signal handler.

`spawn` starts a program by vfork, which costs the same however large this process is. A child's
end is awaited on its pidfd in the event loop.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from .libc import check, libc

# What is kept of a program's error output: enough for any message, too little to hurt.
OUTPUT_LIMIT_BYTES = 64 * 1024


_PR_SET_CHILD_SUBREAPER = 36

# Children that somebody awaits.
_started: set[int] = set()


class Child:
    """A started program. Use `wait`, or `kill` and `wait`; both are safe to repeat."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid
        try:
            self._pidfd = os.pidfd_open(process.pid)
        except BaseException:
            # No descriptor is to be had: nobody could wait for it.
            process.kill()
            process.wait()
            raise
        _started.add(process.pid)

    async def wait(self) -> int:
        """The exit code, 128+n for signal n."""
        if self._pidfd >= 0:
            await wait_readable(self._pidfd)
        return self._reap()

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self._pidfd >= 0:
            send_signal(self._pidfd, number)

    def _reap(self) -> int:
        code = self._process.wait()
        _started.discard(self.pid)
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        return code if code >= 0 else 128 - code


def spawn(
    args: Sequence[str],
    *,
    stdio: tuple[int, int, int] = (subprocess.DEVNULL,) * 3,
    env: Mapping[str, str] | None = None,
    keep: Sequence[int] = (),
    cwd: Path | None = None,
) -> Child:
    """Start a program that inherits `stdio` and the descriptors in `keep`, and no other.

    Raises FileNotFoundError (or another OSError) when it cannot be started.
    """
    # The caller gives absolute paths or a PATH lookup of one name; no shell is involved.
    process = subprocess.Popen(
        args,
        stdin=stdio[0],
        stdout=stdio[1],
        stderr=stdio[2],
        env=env,
        pass_fds=keep,
        cwd=cwd,
        # Its own session: a terminal's interrupt must not reach a container's monitor.
        start_new_session=True,
    )
    return Child(process)


class Completed(Struct, frozen=True):
    code: int
    error: str
    """The first `OUTPUT_LIMIT_BYTES` of standard error."""


async def run(args: Sequence[str], *, timeout_s: float) -> Completed:
    """Run a program to its end without input or output. Raises TimeoutError after killing it."""
    # A memory file instead of a pipe: nothing to pump, and it cannot fill up.
    errors = os.memfd_create("stderr", os.MFD_CLOEXEC)
    try:
        child = spawn(args, stdio=(subprocess.DEVNULL, subprocess.DEVNULL, errors))
        try:
            async with asyncio.timeout(timeout_s):
                code = await child.wait()
        except BaseException:
            child.kill()
            child._reap()
            raise
        return Completed(code, _read_all(errors))
    finally:
        os.close(errors)


def _read_all(fd: int) -> str:
    return os.pread(fd, OUTPUT_LIMIT_BYTES, 0).decode(errors="replace").strip()


async def wait_readable(*fds: int) -> None:
    """Until one of the descriptors can be read (a pidfd: until its process has ended)."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    for fd in fds:
        loop.add_reader(fd, wake)
    try:
        await ready
    finally:
        for fd in fds:
            loop.remove_reader(fd)


async def wait_writable(fd: int) -> None:
    """Until the descriptor takes bytes again, or its reader has gone."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(fd, wake)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


def become_subreaper(*, wanted: bool = True) -> None:
    """Orphans below this process come to it instead of to init, or no longer; see `reap_orphans`.

    A process namespace only ends when every process in it has been reaped, and not every
    machine's init is quick about those it did not start.
    """
    check(libc.prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0))


def reap_orphans(name: str) -> None:
    """Reap children of this name that nobody here started, each as soon as it has ended: who comes
    as an orphan may have a moment to live. It is the name of a program that ends by itself."""
    for pid in _children(os.getpid()):
        if pid not in _started and _command(pid) == name:
            _reap_once_ended(pid)


def reap_orphan(pid: int) -> None:
    """Reap process `pid` once it has ended, if it has come to this process as an orphan."""
    if pid not in _started and _parent(pid) == os.getpid():
        _reap_once_ended(pid)


# By process, of orphans that live.
_orphans: dict[int, int] = {}


def _reap_once_ended(pid: int) -> None:
    if pid in _orphans:
        return
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        # Gone, or no descriptor is to be had.
        reap(pid)
        return
    if has_ended(pidfd):
        os.close(pidfd)
        reap(pid)
        return
    _orphans[pid] = pidfd
    asyncio.get_running_loop().add_reader(pidfd, _orphan_ended, pid)


def _orphan_ended(pid: int) -> None:
    pidfd = _orphans.pop(pid)
    asyncio.get_running_loop().remove_reader(pidfd)
    os.close(pidfd)
    reap(pid)


def reap(pid: int) -> None:
    """Take the exit status of a child that has ended; one that is not ours is fine."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def open_pidfd(pid: int, started: int) -> int | None:
    """A pidfd for the process that has `pid` and started at `started`; None when it is gone.

    The start time (clock ticks since boot) tells it from a later process with the same number.
    """
    try:
        fd = os.pidfd_open(pid)
    except (ProcessLookupError, OSError):
        return None
    if start_ticks(pid) != started:
        os.close(fd)
        return None
    return fd


def has_ended(pidfd: int) -> bool:
    """Whether the process behind a pidfd has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def send_signal(pidfd: int, number: int) -> None:
    """Signal by pidfd; a process that has ended is fine."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 when there is none."""
    return _stat(pid, 19)


def _parent(pid: int) -> int:
    """The process's parent; 0 when there is none."""
    return _stat(pid, 1)


def _stat(pid: int, field: int) -> int:
    """A number of proc_pid_stat(5), counted from the state; 0 when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # The command name stands in brackets and may hold anything, brackets too.
    return int(stat[stat.rindex(b")") + 2 :].split(b" ")[field])


def descendants(pid: int) -> Sequence[int]:
    """All processes below `pid`, parents first."""
    found: list[int] = []
    queue = [pid]
    while queue:
        children = _children(queue.pop())
        found.extend(children)
        queue.extend(children)
    return found


def _children(pid: int) -> Sequence[int]:
    found: list[int] = []
    for task in _listdir(f"/proc/{pid}/task"):
        try:
            text = Path(f"/proc/{pid}/task/{task}/children").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found.extend(int(word) for word in text.split())
    return found


def _listdir(path: str) -> Sequence[str]:
    try:
        return os.listdir(path)
    except (FileNotFoundError, ProcessLookupError):
        return ()


def boot_id() -> str:
    """Changes with every boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
