"""Connections from the API server to node agents: TLS, both sides known to the cluster's CA.

The agent's certificate must be for the node's name, so a node that takes another's address cannot
answer for it. Dialling is given up after `DIAL_S`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from sampan.api.errors import InternalError, Object
from sampan.api.resources import resource

if TYPE_CHECKING:
    from ..app import Server

Protocol = TypeVar("Protocol", bound=asyncio.BaseProtocol)

DIAL_S = 10.0
DEFAULT_PORT = 10250
# Upstream's order of preference, of those a cluster without DNS for its nodes can use.
ADDRESS_TYPES = ("InternalIP", "ExternalIP", "Hostname")


class NodeAddress(NamedTuple):
    name: str
    host: str
    port: int


tunnels: WeakKeyDictionary[Server, dict[str, Callable[[], socket.socket]]] = WeakKeyDictionary()
"""By node: gives a socket whose other end is the agent's server (`server.tunnels`)."""
_contexts: WeakKeyDictionary[Server, ssl.SSLContext] = WeakKeyDictionary()


def address_of(node: Object) -> NodeAddress:
    """Where the agent of `node` listens. Raises InternalError when the node does not say."""
    name = node["metadata"]["name"]
    status = node.get("status") or {}
    known = {item["type"]: item["address"] for item in reversed(status.get("addresses") or ())}
    host = next((known[kind] for kind in ADDRESS_TYPES if kind in known), "")
    if not host:
        raise InternalError(
            f"Internal error occurred: no preferred addresses found for node {name}"
        )
    endpoints = status.get("daemonEndpoints") or {}
    port = (endpoints.get("kubeletEndpoint") or {}).get("Port") or DEFAULT_PORT
    return NodeAddress(name, host, port)


async def connect(
    server: Server, node_name: str, make: Callable[[], Protocol], *, insecure: bool = False
) -> tuple[asyncio.Transport, Protocol]:
    """A TLS connection to a node's agent. Raises NotFound (no such node) and InternalError."""
    node = server.get_object(resource("nodes"), "", node_name)
    address = address_of(node)
    loop = asyncio.get_running_loop()
    context = unchecked_context(server) if insecure else node_context(server)
    try:
        async with asyncio.timeout(DIAL_S):
            # A node that can call us may not be one that we can call.
            tunnel = tunnels.get(server, {}).get(node_name)
            if tunnel is not None:
                return await loop.create_connection(
                    make, sock=tunnel(), ssl=context, server_hostname=address.name
                )
            return await loop.create_connection(
                make, address.host, address.port, ssl=context, server_hostname=address.name
            )
    except (OSError, TimeoutError, ssl.SSLError) as error:
        why = str(error) or "timed out"
        raise InternalError(
            f"Internal error occurred: error dialing backend: dial tcp"
            f" {address.host}:{address.port}: {why}"
        ) from error


def renew_context(server: Server) -> None:
    """The files of the client certificate are new: connections to come read them."""
    _contexts.pop(server, None)


def unchecked_context(server: Server) -> ssl.SSLContext:
    """For who asked for it (insecureSkipTLSVerifyBackend): we say who we are, the node need not."""
    config = server.config
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(config.node_client_cert, config.node_client_key)
    return context


def node_context(server: Server) -> ssl.SSLContext:
    """Made at the first connection and kept: reading certificates takes milliseconds."""
    context = _contexts.get(server)
    if context is None:
        config = server.config
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(config.ca_cert))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(config.node_client_cert, config.node_client_key)
        _contexts[server] = context
    return context
