"""conmon(8): the small process that watches one container, and outlives the agent.

It writes the log and the exit code, holds the container's input and terminal, and lets clients
attach. The agent starts it, reads one line from its sync pipe (the container's pid, or why there
is none), and from then on meets it only through files.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import orjson
from msgspec import Struct

from ..linux import processes
from .interface import ContainerSpec, RuntimeFailure
from .places import Places

# A container that takes longer than this to be made has a stuck runtime or storage behind it;
# upstream's kubelet waits as long for its runtime.
CREATE_TIMEOUT_S = 120.0
# The sync line holds an error text at most.
_SYNC_LINE_BYTES = 64 * 1024

_RESIZE, _REOPEN_LOG = 1, 2


class Monitored(Struct, frozen=True):
    """A container that exists: its first process, and the monitor's."""

    pid: int
    conmon_pid: int


def conmon_command(places: Places, spec: ContainerSpec, log_size_max: int) -> list[str]:
    """The command line; pure. `log_size_max` 0 leaves rotation to the caller."""
    bundle = places.bundle(spec.id)
    command = [
        places.conmon,
        "--api-version=1",
        "--cid",
        spec.id,
        "--cuuid",
        spec.id,
        "--name",
        spec.id,
        "--bundle",
        str(bundle),
        "--runtime",
        places.crun,
        f"--runtime-arg=--root={places.crun_root}",
        "--container-pidfile",
        str(bundle / "pid"),
        "--conmon-pidfile",
        str(bundle / "conmon.pid"),
        "--exit-dir",
        str(places.exits),
        "--log-path",
        f"k8s-file:{spec.log_path}" if spec.log_path != Path() else "off",
        # The attach socket stands in the bundle, opened by descriptor: no limit on its path.
        "--full-attach",
        # A crash of the machine may cost the last lines of a log, as everywhere.
        "--no-sync-log",
    ]
    if log_size_max:
        command += ["--log-size-max", str(log_size_max)]
    if spec.tty:
        command.append("--terminal")
    if spec.stdin:
        command.append("--stdin")
        if not spec.stdin_once:
            command.append("--leave-stdin-open")
    return command


async def create(places: Places, spec: ContainerSpec, log_size_max: int = 0) -> Monitored:
    """Start conmon, which has crun make the container. Raises RuntimeFailure with crun's text."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reader, False)
    try:
        child = processes.spawn(
            conmon_command(places, spec, log_size_max),
            env={**os.environ, "_OCI_SYNCPIPE": str(writer)},
            keep=(writer,),
            cwd=places.bundle(spec.id),
        )
    except OSError as error:
        os.close(reader)
        raise RuntimeFailure(f"cannot start {places.conmon}: {error.strerror}") from error
    finally:
        os.close(writer)
    try:
        async with asyncio.timeout(CREATE_TIMEOUT_S):
            line = await _read_line(reader)
            # The first process of conmon ends once its monitor runs.
            code = await child.wait()
        monitor = read_pid(places.bundle(spec.id) / "conmon.pid")
        return Monitored(_answer(line, code), monitor)
    except BaseException as error:
        # Also when nobody waits any more: it would make a container that nobody knows.
        child.kill()
        await child.wait()
        # Its monitor ends when there is nothing to watch, and nobody else waits for it.
        processes.reap_orphan(read_pid(places.bundle(spec.id) / "conmon.pid"))
        if isinstance(error, TimeoutError):
            text = "the container runtime did not answer in time"
            raise RuntimeFailure(text) from None
        raise
    finally:
        os.close(reader)


def _answer(line: bytes, code: int) -> int:
    """The container's first process, by what conmon has said before it ended with `code`."""
    if not line:
        raise RuntimeFailure(f"conmon ended with code {code} before it made the container")
    answer = orjson.loads(line)
    pid = int(answer.get("data", answer.get("pid", -1)))
    if pid <= 0:
        raise RuntimeFailure(create_error(str(answer.get("message", ""))))
    return pid


def create_error(text: str) -> str:
    """crun's error lines, as a pod's status shows them."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    text = "; ".join(line.removeprefix("error: ") for line in lines) or "unknown error"
    return f"OCI runtime create failed: {text}"


async def _read_line(fd: int) -> bytes:
    data = b""
    while not data.endswith(b"\n") and len(data) < _SYNC_LINE_BYTES:
        try:
            chunk = os.read(fd, _SYNC_LINE_BYTES)
        except BlockingIOError:
            await processes.wait_readable(fd)
            continue
        if not chunk:
            break
        data += chunk
    return data


def read_pid(path: Path) -> int:
    """0 when the file is not there (yet)."""
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return 0


def resize(bundle: Path, columns: int, rows: int) -> None:
    """Tell the monitor the size of the container's terminal."""
    _control(bundle, f"{_RESIZE} {rows} {columns}\n")


def reopen_log(bundle: Path) -> None:
    """Have the monitor open its log file anew, after a rotation moved it away."""
    _control(bundle, f"{_REOPEN_LOG} 0 0\n")


def _control(bundle: Path, message: str) -> None:
    try:
        fd = os.open(bundle / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        # No monitor listens any more: the container has ended.
        return
    try:
        os.write(fd, message.encode())
    except OSError:
        pass
    finally:
        os.close(fd)
