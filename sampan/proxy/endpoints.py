"""Which endpoints stand behind a service port. Pure: EndpointSlices in, addresses out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from sampan.api.errors import Object


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    ip: str
    port: int
    local: bool = False


@dataclass(frozen=True, slots=True)
class Behind:
    """Where connections to a service port go, sorted, each once. Of each the ready ones, or, where
    none is, those that still serve while they terminate (KEP-1669)."""

    all: tuple[Endpoint, ...] = ()
    local: tuple[Endpoint, ...] = ()
    """Those of this node: a policy Local looks no further."""

    @property
    def any(self) -> tuple[Endpoint, ...]:
        return tuple(sorted({*self.all, *self.local}))


def ipv4(text: Any) -> str:
    """`text` as an IPv4 address in canonical form, "" if it is none."""
    try:
        return str(IPv4Address(text)) if isinstance(text, str) else ""
    except ValueError:
        return ""


def endpoints_of(slices: Iterable[Object], port: Object, node_name: str) -> Behind:
    """What stands behind a port of a service, for connections that come to this node."""
    ready: set[Endpoint] = set()
    leaving: set[Endpoint] = set()
    for item in slices:
        number = _slice_port(item, port)
        if number is None:
            continue
        for entry in item.get("endpoints") or ():
            address = ipv4((entry.get("addresses") or [""])[0])
            if not address:
                continue
            endpoint = Endpoint(address, number, entry.get("nodeName") == node_name)
            conditions = entry.get("conditions") or {}
            if conditions.get("ready") is not False:
                ready.add(endpoint)
            elif conditions.get("serving") and conditions.get("terminating"):
                leaving.add(endpoint)
    return Behind(
        tuple(sorted(ready or leaving)),
        tuple(sorted({e for e in ready if e.local} or {e for e in leaving if e.local})),
    )


def _slice_port(item: Object, port: Object) -> int | None:
    """The number behind the service port in this slice; ports meet by name and protocol."""
    for candidate in item.get("ports") or ():
        if (candidate.get("name") or "") == (port.get("name") or "") and (
            candidate.get("protocol") or "TCP"
        ) == port.get("protocol", "TCP"):
            return port_number(candidate.get("port"))
    return None


def port_number(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 < value < 65536 else None
