"""exec, attach and portforward: the client's connection spliced to one with the node.

The server opens TLS to the node and sends the request on with its upgrade headers. Only when the
node answers 101 are the two connections joined, byte for byte, whatever the protocol (WebSocket or
SPDY). Any other answer is turned into an error, and the connection is closed: a failed upgrade
never leaves a connection to the node in the client's hands (CVE-2018-1002105), and a redirect is
not followed or passed on (CVE-2020-8559).

Bounds: what one side does not take stays in its transport's write buffer, and above that buffer's
high-water mark the other side is not read. The node's head is at most `MAX_HEAD_BYTES` and must
come within `HEAD_S`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import orjson

from sampan.api.errors import BadRequest, InternalError, Object, StatusError
from sampan.api.resources import resource

from ..authn.authenticator import WEBSOCKET_BEARER
from ..exchange import Attributes, Request, Upgrade, Write
from ..routes import method_not_allowed
from .containers import choose_container, node_of
from .log import MAX_ERROR_BYTES, error_of
from .nodes import connect

if TYPE_CHECKING:
    from ..app import Server

HEAD_S = 30.0
MAX_HEAD_BYTES = 16 * 1024
TRUE = ("true", "1")
# What of the client's headers the node needs; credentials are not among them.
FORWARDED = (
    "upgrade",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-extensions",
    "x-stream-protocol-version",
    "user-agent",
)
STREAMS = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}
"""Parameter names of the API, and the node's for them."""


async def exec_handle(server: Server, request: Request, attributes: Attributes) -> Upgrade:
    """GET or POST pods/NAME/exec."""
    pod, container = await _target(server, request, attributes)
    query = [("command", part) for part in request.query.get("command") or ()]
    return _upgrade(server, request, pod, f"exec/{_path(pod)}/{container}", query + _flags(request))


async def attach_handle(server: Server, request: Request, attributes: Attributes) -> Upgrade:
    """GET or POST pods/NAME/attach."""
    pod, container = await _target(server, request, attributes)
    return _upgrade(server, request, pod, f"attach/{_path(pod)}/{container}", _flags(request))


async def portforward_handle(server: Server, request: Request, attributes: Attributes) -> Upgrade:
    """GET or POST pods/NAME/portforward."""
    pod = await _connected_pod(server, request, attributes)
    ports = [
        ("port", port) for text in request.query.get("ports") or () for port in text.split(",")
    ]
    for _, port in ports:
        if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise BadRequest(f"invalid port {port!r}")
    return _upgrade(server, request, pod, f"portForward/{_path(pod)}", ports)


async def _target(server: Server, request: Request, attributes: Attributes) -> tuple[Object, str]:
    pod = await _connected_pod(server, request, attributes)
    return pod, choose_container(pod, request.param("container"))


async def _connected_pod(server: Server, request: Request, attributes: Attributes) -> Object:
    """The pod, if the user may connect to it and it runs somewhere."""
    if request.method not in ("GET", "POST"):
        raise method_not_allowed()
    if attributes.verb != "create":
        # A WebSocket is always a GET; reading rights must not be enough to run commands.
        server.authorize(replace(attributes, verb="create"))
    pod = server.get_object(resource("pods"), attributes.namespace, attributes.name)
    options = {name: list(values) for name, values in request.query.items()}
    await server.admission.admit(Write(attributes, "CONNECT", options, pod))
    await server.admission.validate(Write(attributes, "CONNECT", options, pod))
    if not node_of(pod):
        raise BadRequest(f"pod {attributes.name} does not have a host assigned")
    return pod


def _path(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def _flags(request: Request) -> list[tuple[str, str]]:
    return [(theirs, "1") for ours, theirs in STREAMS.items() if request.param(ours) in TRUE]


def _upgrade(
    server: Server, request: Request, pod: Object, path: str, query: list[tuple[str, str]]
) -> Upgrade:
    if not request.upgradable:
        raise BadRequest("Upgrade request required")
    node = node_of(pod)
    target = "/" + quote(path) + (f"?{urlencode(query)}" if query else "")
    head = _head(request.method, target, node, request.headers)

    async def splice(client: asyncio.Transport, received: bytes) -> None:
        await _splice(server, node, head, client, received)

    return Upgrade(splice)


def _head(method: str, target: str, node: str, headers: Mapping[str, str]) -> bytes:
    """The request as the node gets it."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {node}", "Connection: Upgrade"]
    lines += [f"{name}: {headers[name]}" for name in FORWARDED if name in headers]
    protocols = [
        item
        for item in headers.get("sec-websocket-protocol", "").replace(" ", "").split(",")
        if item and not item.startswith(WEBSOCKET_BEARER)
    ]
    if protocols:
        lines.append(f"sec-websocket-protocol: {', '.join(protocols)}")
    if method == "POST":
        lines.append("Content-Length: 0")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class _Side(asyncio.Protocol):
    """One side of a splice: what arrives goes to `other` once there is one."""

    def __init__(self) -> None:
        self.other: asyncio.Transport | None = None
        self.early = bytearray()
        """What arrived before there was another side."""
        self.arrived = asyncio.Event()
        self.lost = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.write(data)
            return
        self.early += data
        self.arrived.set()

    def pause_writing(self) -> None:
        if self.other is not None and not self.other.is_closing():
            self.other.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and not self.other.is_closing():
            self.other.resume_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        # Closing sends what is buffered first, so the other side gets the last bytes.
        if self.other is not None:
            self.other.close()
        self.arrived.set()
        self.lost.set()


async def _splice(
    server: Server, node_name: str, head: bytes, client: asyncio.Transport, received: bytes
) -> None:
    """Join the client's connection with the node, or answer why not. Ends when both are closed."""
    ours = _Side()
    client.set_protocol(ours)
    node: asyncio.Transport | None = None
    try:
        node, theirs = await connect(server, node_name, _Side)
        node.write(head)
        async with asyncio.timeout(HEAD_S):
            status, end = await _read_head(theirs)
        if status != 101:
            raise await _refusal(theirs, status, end)
    except (StatusError, TimeoutError) as error:
        if node is not None:
            node.abort()
        failure = error if isinstance(error, StatusError) else _silent()
        _answer_error(client, failure)
        return
    except BaseException:
        if node is not None:
            node.abort()
        client.abort()
        raise
    try:
        _join(ours, client, theirs, node, received)
        await asyncio.gather(ours.lost.wait(), theirs.lost.wait())
    finally:
        node.abort()
        client.abort()


def _join(
    ours: _Side,
    client: asyncio.Transport,
    theirs: _Side,
    node: asyncio.Transport,
    received: bytes,
) -> None:
    for transport in (client, node):
        # A peer that vanished without a word is noticed in the end.
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    ours.other, theirs.other = node, client
    client.write(bytes(theirs.early))
    theirs.early.clear()
    if received or ours.early:
        node.write(received + bytes(ours.early))
        ours.early.clear()
    # Whoever left before the two were joined closes the other now.
    if theirs.lost.is_set():
        client.close()
    if ours.lost.is_set():
        node.close()
    if not client.is_closing():
        client.resume_reading()


async def _read_head(side: _Side) -> tuple[int, int]:
    """Status code and length of the head of the node's answer, which stays in `early`."""
    while True:
        end = side.early.find(b"\r\n\r\n")
        if end >= 0:
            break
        if side.lost.is_set():
            raise InternalError("Internal error occurred: the node closed the connection")
        if len(side.early) > MAX_HEAD_BYTES:
            raise InternalError("Internal error occurred: bad answer from node: head too large")
        side.arrived.clear()
        await side.arrived.wait()
    parts = bytes(side.early[:end]).split(b"\r\n", 1)[0].split(b" ", 2)
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit():
        raise InternalError("Internal error occurred: bad answer from node: no HTTP")
    return int(parts[1]), end + 4


async def _refusal(side: _Side, status: int, end: int) -> StatusError:
    """The error in a node's answer: its body, as far as its length or its end tells."""
    if not 400 <= status < 600:
        return InternalError(
            f"Internal error occurred: the node answered {status}, which is not permitted"
        )
    wanted = _content_length(bytes(side.early[:end]))
    while not side.lost.is_set() and len(side.early) - end < wanted:
        side.arrived.clear()
        await side.arrived.wait()
    text = bytes(side.early[end : end + min(wanted, MAX_ERROR_BYTES)]).decode(errors="replace")
    return error_of(status, text.strip())


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return min(int(value), MAX_ERROR_BYTES)
    return MAX_ERROR_BYTES


def _silent() -> StatusError:
    return InternalError("Internal error occurred: the node does not answer")


def _answer_error(client: asyncio.Transport, error: StatusError) -> None:
    body = orjson.dumps(error.status_object())
    head = (
        f"HTTP/1.1 {error.code} {error.reason}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    client.write(head.encode("latin-1") + body)
    client.close()
