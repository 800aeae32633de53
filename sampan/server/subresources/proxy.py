"""pods/proxy, services/proxy and nodes/proxy: any request, passed on to what the name stands for.

Names are NAME, NAME:PORT or SCHEME:NAME:PORT. After upstream's ResourceLocation of each kind. What
only this machine can reach is never a target: loopback and link-local addresses are refused.
"""

from __future__ import annotations

import random
import ssl
from functools import cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

from msgspec.structs import replace

from sampan.api import fields
from sampan.api.errors import BadRequest, Object, ServiceUnavailable
from sampan.api.resources import resource

from ..exchange import Attributes, Request, Response, Stream, Upgrade, Write
from ..proxying.relay import relay
from ..proxying.target import Target
from ..routes import method_not_allowed
from .nodes import address_of, node_context

if TYPE_CHECKING:
    from ..app import Server

METHODS = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"))
PROXIED = "sampan-proxied"
"""Tells a node that the request is a user's own, to whom it opens no sessions in pods: the right to
nodes/proxy is none to pods/exec."""
PORTS = {"http": 80, "https": 443}


async def handle(
    server: Server, request: Request, attributes: Attributes
) -> Response | Stream | Upgrade:
    """Every method of .../NAME/proxy and what is below it."""
    if request.method not in METHODS or attributes.resource is None:
        raise method_not_allowed()
    plural = attributes.resource.plural
    scheme, name, port = split_name(attributes.name, plural.removesuffix("s"))
    locate = {"pods": _pod, "services": _service, "nodes": _node}[plural]
    target = locate(server, attributes.namespace, (scheme, name, port))
    options = {key: list(values) for key, values in request.query.items()}
    found = server.get_object(attributes.resource, attributes.namespace, name)
    for check in (server.admission.admit, server.admission.validate):
        await check(Write(attributes, "CONNECT", options, found))
    prefix, path = split_path(request.path)
    return await relay(request, replace(target, path=path, prefix=prefix))


def split_name(text: str, kind: str) -> tuple[str, str, str]:
    """(scheme, name, port) of a proxied name. Raises BadRequest in upstream's words."""
    parts = text.split(":")
    scheme, name, port = {1: ("", text, ""), 2: ("", *parts), 3: tuple(parts)}.get(
        len(parts), ("", "", "")
    )
    bad = not name or (len(parts) == 2 and not port) or scheme not in ("", "http", "https")
    if bad:
        raise BadRequest(f"invalid {kind} request {fields.quote(text)}")
    return scheme, name, port


def split_path(path: str) -> tuple[str, str]:
    """What comes before the backend's path, and that path: ".../nodes/n/proxy" and "/x"."""
    parts = path.split("/")
    at = 6 if parts[3] == "nodes" else 8
    return "/".join(parts[:at]), "".join(f"/{part}" for part in parts[at:])


def _pod(server: Server, namespace: str, asked: tuple[str, str, str]) -> Target:
    scheme, name, port = asked
    pod = server.get_object(resource("pods"), namespace, name)
    if not port:
        ports = (item.get("ports") for item in pod["spec"]["containers"])
        port = next((str(found[0]["containerPort"]) for found in ports if found), "")
    addresses = (pod.get("status") or {}).get("podIPs") or ()
    host = addresses[0].get("ip", "") if addresses else ""
    if not is_reachable(host):
        raise BadRequest("address not allowed")
    return _target(scheme, host, port)


def _service(server: Server, namespace: str, asked: tuple[str, str, str]) -> Target:
    scheme, name, port = asked
    if port.isascii() and port.isdigit():
        service = server.get_object(resource("services"), namespace, name)
        port = _port_name(service, int(port))
    endpoints = server.get_object(resource("endpoints"), namespace, name)
    nobody = f"no endpoints available for service {fields.quote(name)}"
    subsets = list(endpoints.get("subsets") or ())
    random.shuffle(subsets)
    for subset in subsets:
        for item in subset.get("ports") or ():
            if item.get("name", "") != port:
                continue
            addresses = list(subset.get("addresses") or ())
            random.shuffle(addresses)
            for address in addresses:
                if _is_of_its_pod(server, namespace, address):
                    return _target(scheme, address["ip"], str(item["port"]))
    raise ServiceUnavailable(nobody)


def _port_name(service: Object, number: int) -> str:
    for item in service["spec"].get("ports") or ():
        if item["port"] == number:
            return str(item.get("name", ""))
    name = fields.quote(service["metadata"]["name"])
    raise ServiceUnavailable(f"no service port {number} found for service {name}")


def _is_of_its_pod(server: Server, namespace: str, address: Object) -> bool:
    """Endpoints are anybody's to write: only addresses pods really have are gone to."""
    reference = address.get("targetRef") or {}
    if reference.get("kind") != "Pod" or not reference.get("name"):
        return False
    if reference.get("namespace", namespace) != namespace:
        return False
    pod = server.find_object(resource("pods"), namespace, reference["name"])
    addresses = ((pod or {}).get("status") or {}).get("podIPs") or ()
    own = any(item.get("ip") == address.get("ip") for item in addresses)
    return own and is_reachable(address["ip"])


def _node(server: Server, namespace: str, asked: tuple[str, str, str]) -> Target:
    """The node's agent, or another port of the node's."""
    scheme, name, port = asked
    where = address_of(server.get_object(resource("nodes"), "", name))
    if port and port != str(where.port):
        if not is_reachable(where.host):
            raise BadRequest("address not allowed")
        return _target(scheme, where.host, port)
    return Target(
        where.host,
        where.port,
        "",
        tls=node_context(server),
        server_name=where.name,
        headers={PROXIED: "1"},
    )


def _target(scheme: str, host: str, port: str) -> Target:
    if port and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        raise ServiceUnavailable(
            f"error trying to reach service: dial tcp: lookup tcp/{port}: unknown port"
        )
    number = int(port) if port else PORTS[scheme or "http"]
    tls = _trusting() if scheme == "https" else None
    return Target(host, number, "", tls=tls)


def is_reachable(host: str) -> bool:
    """A unicast address that is not this machine's alone."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    # ::ffff:127.0.0.1 is loopback by another name.
    address = getattr(address, "ipv4_mapped", None) or address
    return not (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address.packed == b"\xff\xff\xff\xff"
    )


@cache
def _trusting() -> ssl.SSLContext:
    """Certificates of pods and services are not known to anybody, here as upstream."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
