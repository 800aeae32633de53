"""Which endpoints stand behind a service port. Pure: EndpointSlices in, addresses out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from sampan.api.errors import Object

from .families import Family

PROTOCOLS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}
"""As the API has them -> as nft does."""


class Endpoint(Struct, frozen=True, order=True):
    ip: str
    port: int
    local: bool = False


class Place(Struct, frozen=True):
    """Where the proxy stands. `zone` is "" when the node has none."""

    node: str
    zone: str = ""


class Behind(Struct, frozen=True):
    """Where connections to a service port go, sorted, each once. Of each the ready ones, or, where
    none is, those that still serve while they terminate (KEP-1669)."""

    all: tuple[Endpoint, ...] = ()
    local: tuple[Endpoint, ...] = ()
    """Those of this node: a policy Local looks no further."""

    @property
    def any(self) -> tuple[Endpoint, ...]:
        return tuple(sorted({*self.all, *self.local}))


def endpoints_of(
    slices: Iterable[Object], port: Object, place: Place, family: Family, *, hinted: bool = True
) -> Behind:
    """What stands behind a port of a service, for connections that come to this node. With
    `hinted` the hints of the slices are followed where they are whole."""
    ready: dict[Endpoint, Object] = {}
    leaving: set[Endpoint] = set()
    for item in slices:
        number = _slice_port(item, port)
        if number is None:
            continue
        for entry in item.get("endpoints") or ():
            address = family.parse((entry.get("addresses") or [""])[0])
            if not address:
                continue
            endpoint = Endpoint(address, number, entry.get("nodeName") == place.node)
            conditions = entry.get("conditions") or {}
            if conditions.get("ready") is not False:
                ready[endpoint] = entry
            elif conditions.get("serving") is not False and conditions.get("terminating"):
                leaving.add(endpoint)
    near = _hinted(ready, place) if hinted and ready else None
    return Behind(
        tuple(sorted(near or ready or leaving)),
        tuple(sorted({e for e in ready if e.local} or {e for e in leaving if e.local})),
    )


def _hinted(ready: dict[Endpoint, Object], place: Place) -> Sequence[Endpoint] | None:
    """Those meant for this node, or else for its zone (KEP-3015, KEP-2433); None when hints are
    not on all endpoints, or leave this node with none: then everybody serves everybody."""
    found = {endpoint: entry.get("hints") or {} for endpoint, entry in ready.items()}
    for kind, name in (("forNodes", place.node), ("forZones", place.zone)):
        if name and all(hints.get(kind) for hints in found.values()):
            near = [
                endpoint
                for endpoint, hints in found.items()
                if any(item.get("name") == name for item in hints[kind])
            ]
            if near:
                return near
    return None


def has_zone_hints(item: Object) -> bool:
    """Whether a slice gives any: then it matters in which zone the node is."""
    return any((entry.get("hints") or {}).get("forZones") for entry in item.get("endpoints") or ())


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
