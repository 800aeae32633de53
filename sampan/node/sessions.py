"""exec and attach over WebSocket: the channels of a remote command.

Protocols v5.channel.k8s.io and v4.channel.k8s.io (KEP-4006): each message begins with its channel's
number: 0 stdin, 1 stdout, 2 stderr, 3 the Status at the end, 4 terminal sizes as JSON; in v5, 255
followed by a channel closes that channel. Back-pressure: output is read from the command only as
fast as the client takes it, input from the client only as fast as the command does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from sampan.api.errors import Object
from sampan.runtime.interface import ExecStreams, RuntimeFailure

if TYPE_CHECKING:
    from aiohttp import web

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
PROTOCOLS = (V5, V4)
# One message from the client; kubectl sends 32 KiB.
MESSAGE_MAX = 4 << 20


@dataclass(frozen=True, slots=True)
class Asked:
    """Which streams the client wants."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Asked:
        """Upstream's parameter names towards a node, and those of its API."""

        def has(*names: str) -> bool:
            return any(query.get(name) in ("1", "true") for name in names)

        tty = has("tty")
        return cls(
            stdin=has("input", "stdin"),
            stdout=has("output", "stdout"),
            # A terminal has one output.
            stderr=has("error", "stderr") and not tty,
            tty=tty,
        )


async def serve_session(
    request: web.Request,
    asked: Asked,
    begin: Callable[[], Awaitable[ExecStreams]],
    *,
    attached: bool = False,
) -> web.StreamResponse:
    """Run one session to its end.

    A command ends when its client goes. A container that a client has `attached` to does not, and
    the end of its streams is no failure, whatever its exit code.
    """
    from aiohttp import web

    if not (asked.stdin or asked.stdout or asked.stderr):
        return web.Response(status=400, text="you must specify at least 1 of stdin, stdout, stderr")
    socket = web.WebSocketResponse(
        protocols=PROTOCOLS, max_msg_size=MESSAGE_MAX, compress=False, autoping=True
    )
    if not socket.can_prepare(request).ok:
        return web.Response(status=400, text="Upgrade request required")
    await socket.prepare(request)
    try:
        streams = await begin()
    except RuntimeFailure as error:
        await _finish(socket, _failure(str(error)))
        return socket
    done = False
    tasks = [
        asyncio.create_task(_pump_out(socket, streams, asked)),
        asyncio.create_task(_pump_in(socket, streams, asked)),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            code = await streams.wait()
            done = True
            await _finish(socket, _status(0 if attached else code))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not done and not attached:
            with suppress(RuntimeFailure):
                await streams.kill()
    return socket


async def _pump_out(socket: web.WebSocketResponse, streams: ExecStreams, asked: Asked) -> None:
    wanted = {STDOUT: asked.stdout, STDERR: asked.stderr}
    while (chunk := await streams.read()) is not None:
        channel, data = chunk
        if wanted.get(channel) and data:
            await socket.send_bytes(bytes((channel,)) + data)


async def _pump_in(socket: web.WebSocketResponse, streams: ExecStreams, asked: Asked) -> None:
    """Until the client closes the connection."""
    from aiohttp import WSMsgType

    open_stdin = asked.stdin
    async for message in socket:
        if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
            continue
        data = message.data if isinstance(message.data, bytes) else message.data.encode()
        if not data:
            continue
        channel, payload = data[0], data[1:]
        if channel == STDIN and open_stdin and payload:
            with suppress(OSError, RuntimeFailure):
                # A command that has closed its input misses nothing it wanted.
                await streams.write(payload)
        elif channel == CLOSE and payload[:1] == bytes((STDIN,)) and open_stdin:
            open_stdin = False
            await streams.close_stdin()
        elif channel == RESIZE:
            _resize(streams, payload)


def _resize(streams: ExecStreams, payload: bytes) -> None:
    try:
        size = json.loads(payload)
        streams.resize(int(size["Width"]), int(size["Height"]))
    except (ValueError, KeyError, TypeError):
        return


async def _finish(socket: web.WebSocketResponse, status: Object) -> None:
    with suppress(ConnectionError):
        await socket.send_bytes(bytes((ERROR,)) + orjson.dumps(status))
        await socket.close()


def _status(code: int) -> Object:
    """metav1.Status of an exit code, as k8s.io/client-go remotecommand reads it."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def _failure(text: str) -> Any:
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"error executing command in container: {text}",
        "reason": "InternalError",
        "details": {"causes": [{"message": text}]},
        "code": 500,
    }
