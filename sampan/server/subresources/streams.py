"""exec, attach and portforward: the client's connection spliced to one with the node.

The server opens TLS to the node and sends the request on with its upgrade headers. Only when the
node answers 101 are the two connections joined, byte for byte, whatever the protocol (WebSocket or
SPDY). A refusal is passed on and the connection closed: a failed upgrade
never leaves a connection to the node in the client's hands (CVE-2018-1002105), and a redirect is
not followed or passed on (CVE-2020-8559).

The bounds are those of `proxying.splice`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from msgspec.structs import replace

from sampan.api.errors import BadRequest, InternalError, Object
from sampan.api.resources import resource

from ..authn.authenticator import WEBSOCKET_BEARER
from ..exchange import Attributes, Request, Upgrade, Write
from ..listoptions import flag
from ..proxying.splice import Head, Side, join, pass_on
from ..routes import method_not_allowed
from .containers import choose_container, node_of
from .nodes import connect

if TYPE_CHECKING:
    from ..app import Server

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


def log_upgrade(
    server: Server, request: Request, pod: Object, container: str, options: Mapping[str, str]
) -> Upgrade:
    """GET pods/NAME/log by a WebSocket (binary.k8s.io): the node speaks it."""
    path = f"containerLogs/{_path(pod)}/{container}"
    return _upgrade(server, request, pod, path, list(options.items()))


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
    return [(theirs, "1") for ours, theirs in STREAMS.items() if flag(request, ours)]


def _upgrade(
    server: Server, request: Request, pod: Object, path: str, query: list[tuple[str, str]]
) -> Upgrade:
    if not request.upgradable:
        raise BadRequest("Upgrade request required")
    node = node_of(pod)
    target = "/" + quote(path) + (f"?{urlencode(query)}" if query else "")
    head = _head(request.method, target, node, request.headers)

    async def join_node(client: asyncio.Transport, received: bytes) -> None:
        async def dial() -> tuple[asyncio.Transport, Side]:
            return await connect(server, node, Side)

        await join(dial, head, (client, received), _refuse)

    return Upgrade(join_node)


async def _refuse(side: Side, head: Head) -> bytes:
    """The node's own answer, as upstream's server passes it on: clients read its text."""
    if not 400 <= head.status < 600:
        raise InternalError(
            f"Internal error occurred: the node answered {head.status}, which is not permitted"
        )
    return await pass_on(side, head)


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
