"""The bytes of a running session: exec by pipes, exec by terminal, attach by conmon's socket.

Nothing is buffered here: `read` takes from the kernel only when called, so a slow client slows
the program down and costs no memory.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import socket
import struct
import termios
from collections.abc import Awaitable, Callable
from pathlib import Path

from ..linux import processes
from . import conmon
from .interface import ExecStreams

STDOUT, STDERR = 1, 2
# A shell's code for a command that is not there; the text on the error stream says more.
CANNOT_RUN = 127
# And for a signal, by which it is more.
KILLED = 128
_READ_BYTES = 32 * 1024
# conmon sends at most 8 KiB and one byte per packet, and reads as much.
_PACKET_BYTES = 32 * 1024
_STDIN_PACKET_BYTES = 8 * 1024
# How often a tree of processes is gone through, when it forks while it is killed.
_KILL_ROUNDS = 10
_REAP_S = 1.0


class _Session:
    """A crun exec child, and the end of what it runs."""

    def __init__(self, child: processes.Child, files: tuple[Path, Path]) -> None:
        """`files` are the process's specification and where crun writes its pid; both go."""
        self._child = child
        self._files = files
        self._waiting = asyncio.create_task(self._await_end())

    async def wait(self) -> int:
        """The exit code; 128+n for a signal n."""
        return await asyncio.shield(self._waiting)

    async def _await_end(self) -> int:
        code = await self._child.wait()
        if code and not _exists(self._files[1]):
            code = CANNOT_RUN
            # crun leaves the process it could not turn into the command to whoever comes, and no
            # container ends before that is reaped.
            processes.reap_orphans("crun")
        elif code > KILLED:
            # If it was crun that was killed, the command has come to us.
            processes.reap_orphan(conmon.read_pid(self._files[1]))
        for path in self._files:
            _unlink(path)
        self._ended()
        return code

    def _ended(self) -> None:
        """The command has ended: nobody reads input any more."""

    async def kill(self) -> None:
        """End the command with everything it still runs, and close the streams."""
        if not self._waiting.done():
            for _ in range(_KILL_ROUNDS):
                tree = processes.descendants(self._child.pid)
                if not tree:
                    break
                for pid in tree:
                    _kill(pid)
                await asyncio.sleep(0)
            # crun ends by itself once it has reaped its child; killed before that, it would
            # leave the child to the container's first process, which may not know to reap.
            try:
                async with asyncio.timeout(_REAP_S):
                    await self.wait()
            except TimeoutError:
                self._child.kill()
                await self.wait()
        self.close()

    def close(self) -> None:
        raise NotImplementedError


def _exists(path: Path) -> bool:
    return path.exists()


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class PipeStreams(_Session):
    """Output and error apart. Output that background processes write after the command's own
    end is not waited for."""

    def __init__(
        self, child: processes.Child, files: tuple[Path, Path], pipes: tuple[int, int, int]
    ) -> None:
        """`pipes` are our ends of input (-1 for none), output and error output."""
        super().__init__(child, files)
        self._stdin = pipes[0]
        self._writers = 0
        self._outputs = {pipes[1]: STDOUT, pipes[2]: STDERR}
        for fd in pipes:
            if fd >= 0:
                os.set_blocking(fd, False)

    async def read(self) -> tuple[int, bytes] | None:
        while self._outputs:
            # Look whether it has ended before looking for output: what comes after is late.
            ended = self._waiting.done()
            found = self._read_ready()
            if found is not None:
                return found
            if ended:
                self._close_outputs()
            elif self._outputs:
                await self._wait_for_more()
        return None

    def _read_ready(self) -> tuple[int, bytes] | None:
        for fd, channel in list(self._outputs.items()):
            try:
                data = os.read(fd, _READ_BYTES)
            except BlockingIOError:
                continue
            if data:
                return channel, data
            del self._outputs[fd]
            os.close(fd)
        return None

    async def _wait_for_more(self) -> None:
        readable = asyncio.ensure_future(processes.wait_readable(*self._outputs))
        try:
            await asyncio.wait((readable, self._waiting), return_when=asyncio.FIRST_COMPLETED)
        finally:
            readable.cancel()
            await asyncio.gather(readable, return_exceptions=True)

    async def write(self, data: bytes) -> None:
        """Input for the command; dropped when it no longer reads."""
        self._writers += 1
        try:
            reached = await _write_all(lambda: self._stdin, data)
        finally:
            self._writers -= 1
        if not reached:
            self._close_stdin()

    async def close_stdin(self) -> None:
        self._close_stdin()

    def _ended(self) -> None:
        # One who is writing finds out by himself, and must not find another file there.
        if not self._writers:
            self._close_stdin()

    def _close_stdin(self) -> None:
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def resize(self, columns: int, rows: int) -> None:
        """Pipes have no size."""

    def _close_outputs(self) -> None:
        for fd in self._outputs:
            os.close(fd)
        self._outputs.clear()

    def close(self) -> None:
        self._close_outputs()
        self._close_stdin()


class TerminalStreams(_Session):
    """One stream both ways, through a pseudo-terminal of the container."""

    def __init__(
        self, child: processes.Child, files: tuple[Path, Path], terminal: int, error: bytes
    ) -> None:
        super().__init__(child, files)
        self._terminal = terminal
        self._error = error
        if terminal >= 0:
            os.set_blocking(terminal, False)

    async def read(self) -> tuple[int, bytes] | None:
        if self._error:
            text, self._error = self._error, b""
            return STDERR, text
        while self._terminal >= 0:
            try:
                data = os.read(self._terminal, _READ_BYTES)
            except BlockingIOError:
                await processes.wait_readable(self._terminal)
                continue
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                # EIO: the last process has closed its side.
                data = b""
            if data:
                return STDOUT, data
            self.close()
        return None

    async def write(self, data: bytes) -> None:
        if self._terminal >= 0:
            await _write_all(lambda: self._terminal, data)

    async def close_stdin(self) -> None:
        """A terminal's input ends with its end-of-file character."""
        await self.write(b"\x04")

    def resize(self, columns: int, rows: int) -> None:
        if self._terminal >= 0:
            size = struct.pack("HHHH", rows, columns, 0, 0)
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)

    def close(self) -> None:
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1


class AttachStreams:
    """A container's own streams, through conmon's socket of packets (first byte: the stream)."""

    def __init__(self, bundle: Path, wait: Callable[[], Awaitable[int]]) -> None:
        self._bundle = bundle
        self._wait = wait
        self._socket: socket.socket | None = _connect(bundle)
        self._ended: asyncio.Future[int] | None = None

    async def read(self) -> tuple[int, bytes] | None:
        while self._socket is not None:
            try:
                packet = self._socket.recv(_PACKET_BYTES)
            except BlockingIOError:
                await processes.wait_readable(self._socket.fileno())
                continue
            except ConnectionError:
                packet = b""
            if not packet:
                self._close()
            # conmon: 2 is output, 3 is error output, 1 its own messages.
            elif packet[0] in (2, 3):
                return packet[0] - 1, packet[1:]
        return None

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view and self._socket is not None:
            try:
                sent = self._socket.send(view[:_STDIN_PACKET_BYTES])
            except BlockingIOError:
                await processes.wait_writable(self._socket.fileno())
            except ConnectionError:
                return
            else:
                view = view[sent:]

    async def close_stdin(self) -> None:
        """conmon closes the container's input, when that was asked to end with its client."""
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass

    def resize(self, columns: int, rows: int) -> None:
        conmon.resize(self._bundle, columns, rows)

    async def wait(self) -> int:
        return await self._wait()

    async def kill(self) -> None:
        """Detach: the container lives on."""
        self._close()

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _connect(bundle: Path) -> socket.socket:
    directory = os.open(bundle, os.O_PATH | os.O_CLOEXEC)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        # By descriptor: a bundle's path may be longer than a socket's address.
        connection.connect(f"/proc/self/fd/{directory}/attach")
        connection.setblocking(False)
    except OSError:
        connection.close()
        raise
    finally:
        os.close(directory)
    return connection


async def _write_all(descriptor: Callable[[], int], data: bytes) -> bool:
    """False when nobody reads any more. The descriptor may be closed (-1) meanwhile."""
    view = memoryview(data)
    while view:
        fd = descriptor()
        if fd < 0:
            return False
        try:
            sent = os.write(fd, view)
        except BlockingIOError:
            await processes.wait_writable(fd)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            return False
        else:
            view = view[sent:]
    return True


async def collect(streams: ExecStreams, limit: int) -> tuple[bytes, int]:
    """Run a session to its end: the first `limit` bytes of all its output, and the exit code.

    More output is read and dropped, so that the command can end (CVE-2022-1708).
    """
    kept = bytearray()
    while (piece := await streams.read()) is not None:
        kept += piece[1][: limit - len(kept)]
    return bytes(kept), await streams.wait()
