"""A container's own streams, by the HTTP server that CRI's Attach names.

Its WebSocket protocol (v4.channel.k8s.io) has no way to end the input alone: it ends with the
session. Nothing is buffered here but what the HTTP client holds back.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import aiohttp

from ..interface import RuntimeFailure

PROTOCOL = "v4.channel.k8s.io"
STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)


class AttachStreams:
    """`ExecStreams` of a running container; `wait` is given by who made it."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        socket: aiohttp.ClientWebSocketResponse,
        wait: Callable[[], Awaitable[int]],
    ) -> None:
        self._session = session
        self._socket = socket
        self._wait = wait
        self._sending: set[asyncio.Task[None]] = set()

    async def read(self) -> tuple[int, bytes] | None:
        while True:
            message = await self._socket.receive()
            if message.type is not aiohttp.WSMsgType.BINARY:
                await self._close()
                return None
            channel, data = message.data[0], message.data[1:]
            if channel in (STDOUT, STDERR) and data:
                return channel, data

    async def write(self, data: bytes) -> None:
        """Dropped when the container no longer reads."""
        await self._send(bytes((STDIN,)) + data)

    async def close_stdin(self) -> None:
        """Cannot be said; see above."""

    def resize(self, columns: int, rows: int) -> None:
        text = json.dumps({"Width": columns, "Height": rows}).encode()
        task = asyncio.ensure_future(self._send(bytes((RESIZE,)) + text))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, data: bytes) -> None:
        try:
            await self._socket.send_bytes(data)
        except (aiohttp.ClientError, OSError):
            pass

    async def wait(self) -> int:
        """The container's exit code."""
        return await self._wait()

    async def kill(self) -> None:
        """Leave; the container runs on."""
        await self._close()

    async def _close(self) -> None:
        await self._socket.close()
        await self._session.close()


async def open_attach(url: str, wait: Callable[[], Awaitable[int]]) -> AttachStreams:
    """Raises RuntimeFailure."""
    session = aiohttp.ClientSession()
    try:
        socket = await session.ws_connect(url, protocols=(PROTOCOL,), max_msg_size=0)
    except (aiohttp.ClientError, OSError) as error:
        await session.close()
        raise RuntimeFailure(f"cannot attach: {error}") from error
    return AttachStreams(session, socket, wait)
