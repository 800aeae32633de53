"""Services and their endpoints into what the kernel must know. Pure: objects in, text parts out.

One service becomes elements of two maps (cluster address and port, node port), each naming a chain
of that service, and the chain rewrites the destination to one of its endpoints. A service never
touches another's parts, so a change costs what it changes. Every word that goes into a rule has
been through a parser here (addresses, numbers) or a pattern (names): objects cannot smuggle rules.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from sampan.api.errors import Object

SERVICE_LABEL = "kubernetes.io/service-name"
_FOREIGN_PROXY_LABEL = "service.kubernetes.io/service-proxy-name"
_NAME = re.compile(r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")
_PROTOCOLS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}
# The kernel takes chain names of up to 127 characters; the longest service name needs more.
_CHAIN_CHARACTERS = 120

# Up to this many endpoints get a rule each; more share a map. A map would be quicker to evaluate
# from some ten on, but the kernel takes time for a new one that grows with the number of maps in
# the table: ten thousand services with three endpoints each took 48 s to load, and now 2.
_RULE_EACH = 8
# One seed for all rules of a chain, or each would divide the clients in its own way; and the same
# one after the table was made anew, so that clients stay where they were.
_SEED = 0x5A4D

REFUSE = "goto refuse"
DROP = "drop"
# Connections with this mark leave with the node's own address, so that answers come back this way.
# It is upstream's bit, and nothing else of the packet's mark is touched.
MASQUERADE_MARK = 0x4000


@dataclass(frozen=True, slots=True)
class Scope:
    """The node that the rules are for."""

    node_name: str
    pod_network: IPv4Network
    """Addresses of the pods on this node."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What one service puts into the cluster's table."""

    services: Mapping[str, str]
    """"ADDRESS . PROTOCOL . PORT" -> verdict."""
    nodeports: Mapping[str, str]
    """"PROTOCOL . PORT" -> verdict."""
    chains: Mapping[str, Sequence[str]]
    """Chain name -> its rules."""
    hairpins: frozenset[str]
    """Addresses of endpoints on this node: one may reach itself through its service."""
    datagrams: frozenset[tuple[str, int]] = frozenset()
    """(address, port) of the endpoints of UDP ports, whose flows outlive them."""


NOTHING = Rules({}, {}, {}, frozenset())


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    ip: str
    port: int
    local: bool = False


def rules_of(service: Object, slices: Iterable[Object], scope: Scope) -> Rules:
    """The rules of one service, given its EndpointSlices; NOTHING for one that is not proxied."""
    address = _cluster_address(service)
    if address is None:
        return NOTHING
    slices = [item for item in slices if item.get("addressType", "IPv4") == "IPv4"]
    draft = _Draft(service, address, scope)
    for port in service["spec"].get("ports") or ():
        protocol = _PROTOCOLS.get(port.get("protocol", "TCP"))
        if protocol is not None and _NAME.match(port.get("name") or "a"):
            draft.add_port(port, protocol, endpoints_of(slices, port, scope))
    return draft.rules()


def _cluster_address(service: Object) -> str | None:
    """Its IPv4 cluster address; None when this proxy has nothing to do with the service."""
    meta, spec = service["metadata"], service.get("spec") or {}
    if spec.get("type") == "ExternalName" or _FOREIGN_PROXY_LABEL in (meta.get("labels") or {}):
        return None
    if not _NAME.match(meta["name"]) or not _NAME.match(meta["namespace"]):
        return None
    for candidate in spec.get("clusterIPs") or [spec.get("clusterIP")]:
        address = ipv4(candidate)
        if address:
            return address
    return None


def ipv4(text: Any) -> str:
    """`text` as an IPv4 address in canonical form, "" if it is none."""
    try:
        return str(IPv4Address(text)) if isinstance(text, str) else ""
    except ValueError:
        return ""


def endpoints_of(slices: Iterable[Object], port: Object, scope: Scope) -> list[Endpoint]:
    """Where connections to a service port go: the ready endpoints, or, where none is, those that
    still serve while they terminate (KEP-1669). Sorted, each once."""
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
            endpoint = Endpoint(address, number, entry.get("nodeName") == scope.node_name)
            conditions = entry.get("conditions") or {}
            if conditions.get("ready") is not False:
                ready.add(endpoint)
            elif conditions.get("serving") and conditions.get("terminating"):
                leaving.add(endpoint)
    return sorted(ready or leaving)


def _slice_port(item: Object, port: Object) -> int | None:
    """The number behind the service port in this slice; ports meet by name and protocol."""
    for candidate in item.get("ports") or ():
        if (candidate.get("name") or "") == (port.get("name") or "") and (
            candidate.get("protocol") or "TCP"
        ) == port.get("protocol", "TCP"):
            return _port_number(candidate.get("port"))
    return None


def _port_number(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 < value < 65536 else None


class _Draft:
    """Gathers the rules of one service, port by port."""

    def __init__(self, service: Object, address: str, scope: Scope) -> None:
        spec = service["spec"]
        self._name = f"{service['metadata']['namespace']}/{service['metadata']['name']}"
        self._address = address
        self._scope = scope
        self._by_client = spec.get("sessionAffinity") == "ClientIP"
        self._inside_local = spec.get("internalTrafficPolicy") == "Local"
        self._outside_local = spec.get("externalTrafficPolicy") == "Local"
        self._balancers = _balancer_addresses(service)
        self._sources = _source_ranges(spec)
        self._services: dict[str, str] = {}
        self._nodeports: dict[str, str] = {}
        self._chains: dict[str, Sequence[str]] = {}
        self._hairpins: set[str] = set()
        self._datagrams: set[tuple[str, int]] = set()

    def rules(self) -> Rules:
        return Rules(
            services=self._services,
            nodeports=self._nodeports,
            chains=self._chains,
            hairpins=frozenset(self._hairpins),
            datagrams=frozenset(self._datagrams),
        )

    def add_port(self, port: Object, protocol: str, endpoints: list[Endpoint]) -> None:
        number = _port_number(port.get("port"))
        if number is None:
            return
        suffix = f"{self._name}/{protocol}/{port.get('name') or number}"
        self._hairpins.update(
            item.ip for item in endpoints if IPv4Address(item.ip) in self._scope.pod_network
        )
        if protocol == "udp":
            self._datagrams.update((item.ip, item.port) for item in endpoints)
        inside = self._chain("svc-", suffix, protocol, endpoints, local=self._inside_local)
        self._services[f"{self._address} . {protocol} . {number}"] = inside
        node_port = _port_number(port.get("nodePort"))
        if node_port is None and not self._balancers:
            return
        outside = self._outside_chain(suffix, protocol, endpoints)
        if node_port is not None:
            self._nodeports[f"{protocol} . {node_port}"] = outside
        if self._balancers:
            guarded = self._guarded_chain(suffix, outside)
            for address in self._balancers:
                self._services[f"{address} . {protocol} . {number}"] = guarded

    def _chain(
        self, prefix: str, suffix: str, protocol: str, endpoints: list[Endpoint], *, local: bool
    ) -> str:
        """The verdict that leads to the endpoints; makes the chain unless there are none."""
        if not endpoints:
            return REFUSE
        if local:
            endpoints = [item for item in endpoints if item.local]
            if not endpoints:
                return DROP
        name = chain_name(prefix, suffix)
        self._chains[name] = destination_rules(protocol, endpoints, by_client=self._by_client)
        return f"goto {name}"

    def _outside_chain(self, suffix: str, protocol: str, endpoints: list[Endpoint]) -> str:
        """As `_chain`, for what comes from outside the cluster. Unless the policy is Local (which
        keeps the client's address), it leaves with the node's address."""
        if self._outside_local:
            return self._chain("ext-", suffix, protocol, endpoints, local=True)
        all_endpoints = self._chain("all-", suffix, protocol, endpoints, local=False)
        if all_endpoints == REFUSE:
            return REFUSE
        name = chain_name("ext-", suffix)
        self._chains[name] = (
            f"meta mark set meta mark | {MASQUERADE_MARK:#x}",
            all_endpoints,
        )
        return f"goto {name}"

    def _guarded_chain(self, suffix: str, outside: str) -> str:
        """loadBalancerSourceRanges: others are dropped, as upstream does."""
        if not self._sources:
            return outside
        name = chain_name("lb-", suffix)
        self._chains[name] = (f"ip saddr != {{ {', '.join(self._sources)} }} drop", outside)
        return f"goto {name}"


def _balancer_addresses(service: Object) -> list[str]:
    if service["spec"].get("type") != "LoadBalancer":
        return []
    entries = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    found = (ipv4(item.get("ip")) for item in entries if item.get("ipMode", "VIP") == "VIP")
    return [address for address in found if address]


def _source_ranges(spec: Object) -> list[str]:
    out = []
    for text in spec.get("loadBalancerSourceRanges") or ():
        try:
            network = IPv4Network(text.strip(), strict=False)
        except ValueError:
            continue
        # Everybody: nothing to guard.
        if network.prefixlen == 0:
            return []
        out.append(str(network))
    return out


def chain_name(prefix: str, suffix: str) -> str:
    """Readable where it fits; else cut, with a digest that keeps it unique."""
    name = prefix + suffix
    if len(name) <= _CHAIN_CHARACTERS:
        return name
    return f"{name[: _CHAIN_CHARACTERS - 17]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def destination_rules(
    protocol: str, endpoints: Sequence[Endpoint], *, by_client: bool
) -> tuple[str, ...]:
    """Rewrite the destination to one of the endpoints.

    Chance picks it, as upstream; with session affinity the client's address does, so that it comes
    back to the same endpoint for as long as the set of endpoints stays.
    """
    start = f"meta l4proto {protocol}"
    last = endpoints[-1]
    direct = f"{start} dnat ip to {last.ip}:{last.port}"
    count = len(endpoints)
    if count > _RULE_EACH:
        choice = (
            f"jhash ip saddr mod {count} seed {_SEED:#x}"
            if by_client
            else f"numgen random mod {count}"
        )
        table = ", ".join(f"{n} : {item.ip} . {item.port}" for n, item in enumerate(endpoints))
        return (f"{start} dnat ip to {choice} map {{ {table} }}",)
    out = []
    for number, item in enumerate(endpoints[:-1]):
        # A fresh draw among those that are left, or always the same one among all.
        chosen = (
            f"jhash ip saddr mod {count} seed {_SEED:#x} == {number}"
            if by_client
            else f"numgen random mod {count - number} == 0"
        )
        out.append(f"{start} {chosen} dnat ip to {item.ip}:{item.port}")
    return (*out, direct)
