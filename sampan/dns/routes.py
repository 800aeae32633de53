"""Who is asked for which names: stub domains and name servers that the cluster's users set. Pure.

They stand in the ConfigMap kube-system/kube-dns, in the words of upstream's guide to customising
DNS: `stubDomains` is a JSON object of domains and lists of servers, `upstreamNameservers` a JSON
list that takes the place of the host's own servers. A server is an address, with ":port" if it is
not 53.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from typing import Any

from msgspec import Struct, field

NAMESPACE, NAME = "kube-system", "kube-dns"
# Each server is asked once and waited for; more would take longer than clients wait.
MAX_SERVERS = 3
_PORT = 53

Server = tuple[str, int]
"""Address and port; 0 for the usual one."""


class Routes(Struct, frozen=True):
    stubs: Mapping[str, tuple[Server, ...]] = field(default_factory=dict)
    """Domain in lower case, without last dot -> servers; the longest that fits counts."""
    upstream: tuple[Server, ...] = ()
    """() leaves the host's own."""

    def servers(self, name: str) -> tuple[Server, ...]:
        """For a name in lower case without last dot; () leaves the host's own."""
        if self.stubs:
            rest = name
            while rest:
                if rest in self.stubs:
                    return self.stubs[rest]
                rest = rest.partition(".")[2]
        return self.upstream


def parse_routes(data: Mapping[str, str], own: Collection[str]) -> Routes:
    """Of a ConfigMap's data. Raises ValueError, which says what is wrong; `own` are addresses of
    this server, which would only ask itself."""
    stubs = _json(data, "stubDomains", dict)
    upstream = _json(data, "upstreamNameservers", list)
    return Routes(
        {
            domain.rstrip(".").lower(): _servers(found, f"stubDomains[{domain}]", own)
            for domain, found in stubs.items()
        },
        _servers(upstream, "upstreamNameservers", own) if upstream else (),
    )


def _json(data: Mapping[str, str], key: str, kind: type) -> Any:
    text = data.get(key)
    if not text:
        return kind()
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{key}: {error}") from None
    if not isinstance(found, kind):
        raise ValueError(f"{key}: not a JSON {'object' if kind is dict else 'list'}")
    return found


def _servers(found: Any, path: str, own: Collection[str]) -> tuple[Server, ...]:
    if not isinstance(found, list) or not found:
        raise ValueError(f"{path}: not a list of servers")
    servers = [_server(item, path) for item in found]
    for host, port in servers:
        # At another port somebody else may listen.
        if host in own and port in (0, _PORT):
            raise ValueError(f"{path}: {host} is this server itself")
    return tuple(servers[:MAX_SERVERS])


def _server(item: Any, path: str) -> Server:
    text = item if isinstance(item, str) else ""
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        number = int(port) if port else 0
        if 0 <= number < 65536:
            return str(ip_address(host)), number
    except ValueError:
        pass
    raise ValueError(f"{path}: {item!r} is not an address of a name server")
