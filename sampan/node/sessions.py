"""exec and attach: a session between a client's channels and a command's streams.

Back-pressure: output is read from the command only as fast as the client takes it, input from the
client only as fast as the command does. A client that goes ends its command.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec import Struct

from sampan.api.errors import Object
from sampan.runtime.interface import ExecStreams, RuntimeFailure

from .channels import (
    CLOSE,
    ERROR,
    MESSAGE_MAX,
    PING_S,
    RESIZE,
    SPDY_PROTOCOLS,
    STDERR,
    STDIN,
    STDOUT,
    V1,
    WEBSOCKET_PROTOCOLS,
    Channels,
    SpdyChannels,
    WebSocketChannels,
)
from .takeover import choose_protocol, take_over, wants_spdy

if TYPE_CHECKING:
    from aiohttp import web

Begin = Callable[[], Awaitable[ExecStreams]]
# A terminal is at most this wide or high: <linux/tty.h> has 16 bits for each.
SIZE_MAX = 65535


class Asked(Struct, frozen=True):
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

    @property
    def names(self) -> list[str]:
        """The streams a SPDY client opens for it, and "tty"."""
        all_four = ("stdin", "stdout", "stderr", "tty")
        return [name for name in all_four if getattr(self, name)]


async def serve_session(
    request: web.Request, asked: Asked, begin: Begin, *, attached: bool = False
) -> web.StreamResponse:
    """Run one session to its end, over WebSocket or SPDY as the client asks.

    A command ends when its client goes. A container that a client has `attached` to does not, and
    the end of its streams is no failure, whatever its exit code.
    """
    from aiohttp import web

    if not (asked.stdin or asked.stdout or asked.stderr):
        return web.Response(status=400, text="you must specify at least 1 of stdin, stdout, stderr")
    if wants_spdy(request):
        return await _serve_spdy(request, asked, begin, attached)
    return await _serve_websocket(request, asked, begin, attached)


async def _serve_spdy(
    request: web.Request, asked: Asked, begin: Begin, attached: bool
) -> web.StreamResponse:
    from aiohttp import web

    protocol = choose_protocol(request, SPDY_PROTOCOLS)
    if protocol is None:
        accepted = {"X-Accepted-Stream-Protocol-Versions": ",".join(SPDY_PROTOCOLS)}
        text = "unable to upgrade: unable to negotiate protocol"
        return web.Response(status=403, text=text, headers=accepted)
    channels = SpdyChannels(take_over(request, protocol), protocol)
    try:
        if await channels.open(asked.names):
            await run_session(channels, asked, begin, attached=attached)
    finally:
        await channels.close()
    # Never sent: the connection is no longer aiohttp's.
    return web.Response()


async def _serve_websocket(
    request: web.Request, asked: Asked, begin: Begin, attached: bool
) -> web.StreamResponse:
    from aiohttp import web

    socket = web.WebSocketResponse(
        protocols=WEBSOCKET_PROTOCOLS, max_msg_size=MESSAGE_MAX, compress=False, autoping=True
    )
    if not socket.can_prepare(request).ok:
        return web.Response(status=400, text="Upgrade request required")
    await socket.prepare(request)
    channels = WebSocketChannels(socket, socket.ws_protocol or V1)
    # Upstream's sign that the connection is made: an empty message on the lowest output.
    first = STDOUT if asked.stdout else STDERR if asked.stderr else ERROR
    with suppress(ConnectionError):
        await channels.send(first, b"")
    await run_session(channels, asked, begin, attached=attached)
    return socket


async def run_session(
    channels: Channels, asked: Asked, begin: Begin, *, attached: bool = False
) -> None:
    """From the first byte to the exit code."""
    try:
        streams = await begin()
    except RuntimeFailure as error:
        await channels.finish(_failure(str(error)))
        return
    done = False
    tasks = [
        asyncio.create_task(_pump_out(channels, streams, asked)),
        asyncio.create_task(_pump_in(channels, streams, asked)),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done() and tasks[0].exception() is None:
            code = await streams.wait()
            done = True
            await channels.finish(_status(0 if attached else code))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not done or attached:
            with suppress(RuntimeFailure):
                await streams.kill()


async def _pump_out(channels: Channels, streams: ExecStreams, asked: Asked) -> None:
    wanted = {STDOUT: asked.stdout, STDERR: asked.stderr}
    while (chunk := await streams.read()) is not None:
        channel, data = chunk
        if wanted.get(channel) and data:
            await channels.send(channel, data)


async def _pump_in(channels: Channels, streams: ExecStreams, asked: Asked) -> None:
    """Until the client closes the connection."""
    open_stdin = asked.stdin
    while (message := await channels.receive()) is not None:
        channel, payload = message
        if channel == STDIN and open_stdin and payload:
            with suppress(OSError, RuntimeFailure):
                # A command that has closed its input misses nothing it wanted.
                await _write(channels, streams, payload)
        elif channel == CLOSE and open_stdin:
            open_stdin = False
            await streams.close_stdin()
        elif channel == RESIZE:
            _resize(streams, payload)


async def _write(channels: Channels, streams: ExecStreams, data: bytes) -> None:
    """A client whose input is not taken is not read either, and may leave unnoticed unless it is
    written to now and then."""
    writing = asyncio.ensure_future(streams.write(data))
    try:
        while not (await asyncio.wait((writing,), timeout=PING_S))[0]:
            await channels.probe()
        await writing
    finally:
        writing.cancel()


def _resize(streams: ExecStreams, payload: bytes) -> None:
    try:
        size = json.loads(payload)
        columns, rows = int(size["Width"]), int(size["Height"])
        if 0 <= columns <= SIZE_MAX and 0 <= rows <= SIZE_MAX:
            streams.resize(columns, rows)
    except (ValueError, KeyError, TypeError, OSError):
        return


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


def _failure(text: str) -> Object:
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"error executing command in container: {text}",
        "reason": "InternalError",
        "details": {"causes": [{"message": text}]},
        "code": 500,
    }
