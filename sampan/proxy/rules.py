"""Services and their endpoints into what the kernel must know. Pure: objects in, text parts out.

Most services are plain: cluster addresses with up to eight endpoints, whose elements in a few maps
are all there is of them (`elements`). Whatever else a service wants (node ports, affinity,
policies, more endpoints) makes chains of its own, which elements of two maps name. A service never
touches another's parts, so a change costs what it changes. Every word that goes into a rule has
been through a parser here (addresses, numbers) or a pattern (names): objects cannot smuggle rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from msgspec import Struct, field

from sampan.api.errors import Object

from .destinations import RULE_EACH, Sticky, chain_name, destination_rules
from .endpoints import PROTOCOLS, Behind, Endpoint, Place, endpoints_of, port_number
from .families import IPV4, Family

SERVICE_LABEL = "kubernetes.io/service-name"
# Services with one of these labels are another proxy's, or nobody's (pkg/proxy, ProxyServer.Run).
_FOREIGN_LABELS = frozenset(
    {"service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"}
)
_NAME = re.compile(r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")

# Session affinity: the API's default, and the most it allows.
_STICKY_S, _DAY_S = 10800, 86400

REFUSE = "goto refuse"
DROP = "drop"
# Connections with this mark leave with the node's own address, so that answers come back this way.
# It is upstream's bit, and nothing else of the packet's mark is touched.
MASQUERADE_MARK = 0x4000


class Scope(Struct, frozen=True):
    """The node that the rules are for, in one family."""

    place: Place
    pod_network: IPv4Network | IPv6Network
    """Addresses of the pods on this node."""
    family: Family = IPV4


class Rules(Struct, frozen=True):
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
    sets: Mapping[str, str] = field(default_factory=dict)
    """Set name -> what it is declared to be; packets fill them (session affinity)."""
    plain: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """"ADDRESS . PROTOCOL . PORT" -> "ADDRESS . PORT" of the endpoints, at most `SLOTS`. A key is
    in here or in `services`."""


NOTHING = Rules({}, {}, {}, frozenset())


SLOTS = RULE_EACH
"""The kernel checks all chains there are when one gets a rule (nft_table_validate), but none when a
map gets an address: plain services cost as much among ten thousand as among ten."""
KINDS = (
    "services",
    "nodeports",
    "plain",
    *(f"class-{count}" for count in range(2, SLOTS + 1)),
    *(f"slot-{number}" for number in range(SLOTS)),
)
"""The maps and sets with elements of services."""


def elements(rules: Rules) -> dict[str, dict[str, str]]:
    """Kind -> key -> value ("" in a set) of all that the rules put into maps and sets. A plain
    service is in the class of its number of endpoints, and has an endpoint in as many slots."""
    found: dict[str, dict[str, str]] = {}
    if rules.services:
        found["services"] = {**rules.services}
    if rules.nodeports:
        found["nodeports"] = {**rules.nodeports}
    for key, behind in rules.plain.items():
        found.setdefault("plain", {})[key] = ""
        if len(behind) > 1:
            found.setdefault(f"class-{len(behind)}", {})[key] = ""
        for number, endpoint in enumerate(behind):
            found.setdefault(f"slot-{number}", {})[key] = endpoint
    return found


def rules_of(service: Object, slices: Iterable[Object], scope: Scope) -> Rules:
    """The rules of one service, given its EndpointSlices; NOTHING for one that is not proxied."""
    address = _cluster_address(service, scope.family)
    if address is None:
        return NOTHING
    slices = [item for item in slices if item.get("addressType", "IPv4") == scope.family.name]
    draft = _Draft(service, address, scope)
    for port in service["spec"].get("ports") or ():
        protocol = PROTOCOLS.get(port.get("protocol", "TCP"))
        if protocol is not None and _NAME.match(port.get("name") or "a"):
            draft.add_port(port, protocol, endpoints_of(slices, port, scope.place, scope.family))
    return draft.rules()


def _cluster_address(service: Object, family: Family) -> str | None:
    """Its cluster address of this family; None when this proxy has nothing to do with the
    service."""
    meta, spec = service["metadata"], service.get("spec") or {}
    if spec.get("type") == "ExternalName" or not _FOREIGN_LABELS.isdisjoint(
        meta.get("labels") or ()
    ):
        return None
    if not _NAME.match(meta["name"]) or not _NAME.match(meta["namespace"]):
        return None
    for candidate in spec.get("clusterIPs") or [spec.get("clusterIP")]:
        address = family.parse(candidate)
        if address:
            return address
    return None


class _Draft:
    """Gathers the rules of one service, port by port."""

    def __init__(self, service: Object, address: str, scope: Scope) -> None:
        spec = service["spec"]
        self._name = f"{service['metadata']['namespace']}/{service['metadata']['name']}"
        self._address = address
        self._scope = scope
        self._family = scope.family
        self._sticky = _sticky(spec, scope.family)
        self._inside_local = spec.get("internalTrafficPolicy") == "Local"
        self._outside_local = spec.get("externalTrafficPolicy") == "Local"
        self._balancers = _balancer_addresses(service, scope.family)
        external = (scope.family.parse(text) for text in spec.get("externalIPs") or ())
        self._external = [ip for ip in external if ip]
        self._sources = _source_ranges(spec, scope.family)
        self._services: dict[str, str] = {}
        self._plain: dict[str, tuple[str, ...]] = {}
        self._nodeports: dict[str, str] = {}
        self._chains: dict[str, Sequence[str]] = {}
        self._hairpins: set[str] = set()
        self._datagrams: set[tuple[str, int]] = set()

    def rules(self) -> Rules:
        return Rules(
            services=self._services,
            nodeports=self._nodeports,
            chains={**(self._sticky.chains if self._sticky else {}), **self._chains},
            hairpins=frozenset(self._hairpins),
            datagrams=frozenset(self._datagrams),
            sets=self._sticky.sets if self._sticky else {},
            plain=self._plain,
        )

    def add_port(self, port: Object, protocol: str, behind: Behind) -> None:
        number = port_number(port.get("port"))
        if number is None:
            return
        suffix = f"{self._name}/{protocol}/{port.get('name') or number}"
        self._hairpins.update(item.ip for item in behind.any if self._is_near(item))
        if protocol == "udp":
            self._datagrams.update((item.ip, item.port) for item in behind.any)
        key = f"{self._address} . {protocol} . {number}"
        node_port = port_number(port.get("nodePort"))
        inside_alone = node_port is None and not self._balancers and not self._external
        if inside_alone and self._is_plain(behind):
            self._plain[key] = tuple(f"{item.ip} . {item.port}" for item in behind.all)
            return
        inside = self._chain("svc-", suffix, protocol, behind, local=self._inside_local)
        self._services[key] = inside
        if inside_alone:
            return
        outside = self._outside_chain(suffix, protocol, behind)
        if node_port is not None:
            self._nodeports[f"{protocol} . {node_port}"] = outside
        for address in self._external:
            self._services[f"{address} . {protocol} . {number}"] = outside
        if self._balancers:
            guarded = self._guarded_chain(suffix, outside)
            for address in self._balancers:
                self._services[f"{address} . {protocol} . {number}"] = guarded

    def _is_plain(self, behind: Behind) -> bool:
        return not self._sticky and not self._inside_local and len(behind.all) <= SLOTS

    def _is_near(self, item: Endpoint) -> bool:
        """Is it here? Pods of a CNI plugin have addresses of their own kind; slices that somebody
        writes may not name a node."""
        return item.local or ip_address(item.ip) in self._scope.pod_network

    def _chain(
        self, prefix: str, suffix: str, protocol: str, behind: Behind, *, local: bool
    ) -> str:
        """The verdict that leads to the endpoints; makes the chain unless there are none."""
        endpoints = behind.local if local else behind.all
        if not endpoints:
            return DROP if behind.all else REFUSE
        name = chain_name(prefix, suffix)
        if self._sticky:
            self._chains[name] = self._sticky.rules(suffix, protocol, endpoints)
        else:
            self._chains[name] = destination_rules(protocol, endpoints, self._family)
        return f"goto {name}"

    def _outside_chain(self, suffix: str, protocol: str, behind: Behind) -> str:
        """As `_chain`, for addresses of the outside. With the policy Local connections from
        outside stay on this node and keep the client's address; those of this node and its pods
        reach every endpoint all the same, as upstream has it."""
        everywhere = self._chain("all-", suffix, protocol, behind, local=False)
        if everywhere == REFUSE:
            return REFUSE
        mark = f"meta mark set meta mark | {MASQUERADE_MARK:#x}"
        # Answers come back through this node by themselves from its own pods; others' have to be
        # made to.
        near = all(self._is_near(item) for item in behind.all)
        sender = f"{self._family.word} saddr"
        rules = [everywhere] if near else [mark, everywhere]
        if self._outside_local and behind.local != behind.all:
            rules = [
                f"{sender} {self._scope.pod_network} {everywhere}",
                f"fib saddr type local {mark}",
                f"fib saddr type local {everywhere}",
                self._chain("loc-", suffix, protocol, behind, local=True),
            ]
        name = chain_name("ext-", suffix)
        self._chains[name] = tuple(rules)
        return f"goto {name}"

    def _guarded_chain(self, suffix: str, outside: str) -> str:
        """loadBalancerSourceRanges: others are dropped, as upstream does."""
        if not self._sources:
            return outside
        name = chain_name("lb-", suffix)
        self._chains[name] = (
            f"{self._family.word} saddr != {{ {', '.join(self._sources)} }} drop",
            outside,
        )
        return f"goto {name}"


def _sticky(spec: Object, family: Family) -> Sticky | None:
    if spec.get("sessionAffinity") != "ClientIP":
        return None
    asked = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    seconds = asked if isinstance(asked, int) and 0 < asked <= _DAY_S else _STICKY_S
    return Sticky(seconds, family)


def _balancer_addresses(service: Object, family: Family) -> list[str]:
    if service["spec"].get("type") != "LoadBalancer":
        return []
    entries = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    found = (family.parse(item.get("ip")) for item in entries if item.get("ipMode", "VIP") == "VIP")
    return [address for address in found if address]


def _source_ranges(spec: Object, family: Family) -> list[str]:
    """Those of the family; when all are of the other one nobody of this family is let in."""
    out: list[str] = []
    others = False
    for text in spec.get("loadBalancerSourceRanges") or ():
        try:
            network = ip_network(text.strip(), strict=False)
        except ValueError:
            continue
        if not family.parse(str(network.network_address)):
            others = True
            continue
        # Everybody: nothing to guard.
        if network.prefixlen == 0:
            return []
        out.append(str(network))
    if others and not out:
        return [str(family.address(0))]
    return out
