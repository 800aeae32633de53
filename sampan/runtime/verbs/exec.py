"""exec: a further process in a running container, with pipes or a terminal of its own."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import orjson

from ...linux import processes
from ..bundle import exec_process
from ..interface import RuntimeFailure
from ..places import Places
from ..streams import PipeStreams, TerminalStreams

# crun hands the terminal over before it runs the command.
TERMINAL_TIMEOUT_S = 30.0


async def exec_(
    places: Places, container_id: str, args: Sequence[str], *, tty: bool, stdin: bool
) -> PipeStreams | TerminalStreams:
    """Start the command. That it cannot run shows as crun's text and code 127. Raises
    RuntimeFailure."""
    bundle = places.bundle(container_id)
    name = f"exec-{secrets.token_hex(8)}"
    spec = bundle / f"{name}.json"
    try:
        config = orjson.loads((bundle / "config.json").read_bytes())
        spec.write_bytes(orjson.dumps(exec_process(config, args, tty=tty)))
    except OSError as error:
        # The container has just been deleted, or its disk is full.
        _unlink(spec)
        raise RuntimeFailure(f"cannot exec: {error.strerror}") from error
    try:
        # crun writes the pid once the command runs: without one, the exit code is crun's own.
        files = (spec, bundle / f"{name}.pid")
        command = ["exec", "--process", str(spec), "--pid-file", str(files[1])]
        if tty:
            return await _with_terminal(places, container_id, command, files)
        return _with_pipes(places, container_id, command, files, stdin=stdin)
    except BaseException:
        _unlink(spec)
        raise


def _with_pipes(
    places: Places,
    container_id: str,
    command: Sequence[str],
    files: tuple[Path, Path],
    *,
    stdin: bool,
) -> PipeStreams:
    fds: list[int] = []
    try:
        out_read, out_write = os.pipe2(os.O_CLOEXEC)
        fds += [out_read, out_write]
        err_read, err_write = os.pipe2(os.O_CLOEXEC)
        fds += [err_read, err_write]
        in_read, in_write = subprocess.DEVNULL, -1
        if stdin:
            in_read, in_write = os.pipe2(os.O_CLOEXEC)
            fds += [in_read, in_write]
        child = processes.spawn(
            places.crun_command(*command, container_id), stdio=(in_read, out_write, err_write)
        )
    except OSError as error:
        for fd in fds:
            os.close(fd)
        raise RuntimeFailure(f"cannot start {places.crun}: {error.strerror}") from error
    for fd in (out_write, err_write, in_read if stdin else -1):
        if fd >= 0:
            os.close(fd)
    return PipeStreams(child, files, (in_write, out_read, err_read))


async def _with_terminal(
    places: Places, container_id: str, command: Sequence[str], files: tuple[Path, Path]
) -> TerminalStreams:
    """crun makes the terminal inside the container and sends its other end over a socket."""
    path = files[0].with_suffix(".tty")
    directory = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    errors = os.memfd_create("stderr", os.MFD_CLOEXEC)
    try:
        listener.setblocking(False)
        # Bound by descriptor: a bundle's path may be longer than a socket's address.
        listener.bind(f"/proc/self/fd/{directory}/{path.name}")
        listener.listen(1)
        child = processes.spawn(
            places.crun_command(*command, "--tty", "--console-socket", str(path), container_id),
            stdio=(subprocess.DEVNULL, subprocess.DEVNULL, errors),
        )
        try:
            terminal = await _receive_terminal(listener, child)
        except BaseException:
            child.kill()
            await child.wait()
            raise
        if terminal is None:
            text = os.pread(errors, processes.OUTPUT_LIMIT_BYTES, 0)
            return TerminalStreams(child, files, -1, text)
        return TerminalStreams(child, files, terminal, b"")
    except OSError as error:
        raise RuntimeFailure(f"cannot make a terminal: {error.strerror}") from error
    finally:
        listener.close()
        os.close(errors)
        _unlink(path)
        os.close(directory)


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


async def _receive_terminal(listener: socket.socket, child: processes.Child) -> int | None:
    """The terminal's descriptor; None when crun ended without sending one."""
    loop = asyncio.get_running_loop()
    ended = asyncio.ensure_future(child.wait())
    accepted = asyncio.ensure_future(loop.sock_accept(listener))
    try:
        async with asyncio.timeout(TERMINAL_TIMEOUT_S):
            await asyncio.wait((ended, accepted), return_when=asyncio.FIRST_COMPLETED)
            if not accepted.done():
                return None
            connection, _ = await accepted
            with connection:
                await processes.wait_readable(connection.fileno())
                _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
                return fds[0] if fds else None
    except TimeoutError:
        raise RuntimeFailure("the container runtime gave no terminal") from None
    finally:
        for task in (ended, accepted):
            task.cancel()
        await asyncio.gather(ended, accepted, return_exceptions=True)
