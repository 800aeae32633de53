"""NetworkPolicies and pods as the rules need them: selectors compiled, ports and blocks as numbers.

Pure. What makes no sense (it was stored by a server that checked less) allows nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_network

from msgspec import Struct

from sampan.api.errors import Object
from sampan.api.selectors import EVERYTHING, Selector, from_label_selector

from ..endpoints import PROTOCOLS
from ..families import IPV4, Family

Key = tuple[str, str]
Range = tuple[int, int]

LAST_PORT = 65535


class Group(Struct, frozen=True):
    """Pods that a peer means: of one namespace, or (with `namespace` "") of the selected ones."""

    namespace: str
    namespaces: Selector
    pods: Selector

    def __str__(self) -> str:
        where = self.namespace or f"[{self.namespaces}]"
        return f"{where}/[{self.pods}]"


ALL_PODS = Group("", EVERYTHING, EVERYTHING)


class Port(Struct, frozen=True, order=True):
    """Ports `low` to `high`; with a name, whatever number the pod gives that name."""

    protocol: str
    low: int = 0
    high: int = LAST_PORT
    name: str = ""


class Rule(Struct, frozen=True):
    """One rule of one direction. No ports: all traffic. `everyone`: whatever the address."""

    ports: tuple[Port, ...] = ()
    everyone: bool = False
    groups: tuple[Group, ...] = ()
    blocks: tuple[Range, ...] = ()
    """Address ranges, merged and sorted."""

    @property
    def names_anybody(self) -> bool:
        """Does it name ports of whichever pods have addresses that it means?"""
        return bool((self.everyone or self.blocks) and any(port.name for port in self.ports))

    def __str__(self) -> str:
        ports = ",".join(f"{p.protocol}:{p.name}:{p.low}-{p.high}" for p in self.ports)
        peers = "*" if self.everyone else ";".join([*map(str, self.groups), str(self.blocks)])
        return f"{ports} {peers}"


class Policy(Struct, frozen=True):
    """`ingress` and `egress` are None when the policy says nothing about that direction."""

    namespace: str
    pods: Selector
    ingress: tuple[Rule, ...] | None
    egress: tuple[Rule, ...] | None

    def rules(self, direction: str) -> tuple[Rule, ...] | None:
        return self.ingress if direction == "in" else self.egress


class Pod(Struct, frozen=True):
    """A pod with an address of the pod network. `ports`: (name, protocol) and number."""

    namespace: str
    labels: Mapping[str, str]
    ip: str
    local: bool
    ports: tuple[tuple[tuple[str, str], int], ...] = ()

    def number(self, port: Port) -> int:
        """What the pod calls by the port's name; 0 if nothing."""
        return dict(self.ports).get((port.name, port.protocol), 0)


def compile_policy(obj: Object, family: Family = IPV4) -> Policy:
    """What the policy says of one family. Raises BadRequest for a selector that cannot be read."""
    meta, spec = obj["metadata"], obj.get("spec") or {}
    kinds = spec.get("policyTypes") or (
        ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
    )
    namespace = meta["namespace"]

    def compiled(kind: str, peers: str) -> tuple[Rule, ...] | None:
        if kind not in kinds:
            return None
        found = spec.get(kind.lower()) or ()
        rules = (_rule(item, peers, namespace, family) for item in found)
        return tuple(item for item in rules if item is not None)

    return Policy(
        namespace,
        from_label_selector(spec.get("podSelector") or {}),
        compiled("Ingress", "from"),
        compiled("Egress", "to"),
    )


def _rule(rule: Object, peers: str, namespace: str, family: Family) -> Rule | None:
    ports = tuple(port for item in rule.get("ports") or () if (port := _port(item)) is not None)
    if rule.get("ports") and not ports:
        return None
    wanted = rule.get(peers) or ()
    if not wanted:
        return Rule(ports, everyone=True)
    groups: dict[Group, None] = {}
    blocks: list[Range] = []
    for peer in wanted:
        if peer.get("ipBlock") is not None:
            blocks += _block(peer["ipBlock"], family)
            continue
        group = _group(peer, namespace)
        if group is not None:
            groups[group] = None
    return Rule(ports, groups=tuple(groups), blocks=merge(blocks))


def _group(peer: Object, namespace: str) -> Group | None:
    pods, namespaces = peer.get("podSelector"), peer.get("namespaceSelector")
    chosen = EVERYTHING if pods is None else from_label_selector(pods)
    if namespaces is not None:
        return Group("", from_label_selector(namespaces), chosen)
    return None if pods is None else Group(namespace, EVERYTHING, chosen)


def _port(item: Object) -> Port | None:
    protocol = PROTOCOLS.get(item.get("protocol") or "TCP")
    number = item.get("port")
    if protocol is None:
        return None
    if number is None:
        return Port(protocol)
    if isinstance(number, str):
        return Port(protocol, 0, 0, number)
    end = item.get("endPort") or number
    return Port(protocol, number, end) if 0 < number <= end <= LAST_PORT else None


def _block(block: Object, family: Family) -> Iterable[Range]:
    """The block without its exceptions. Blocks of the other family mean nobody of this one."""
    whole = _range(block.get("cidr"), family)
    if whole is None:
        return
    low, end = whole
    holes = [hole for text in block.get("except") or () if (hole := _range(text, family))]
    for first, last in merge(holes):
        if last < low or first > end:
            continue
        if first > low:
            yield low, first - 1
        low = last + 1
    if low <= end:
        yield low, end


def _range(text: object, family: Family) -> Range | None:
    try:
        network = ip_network(text, strict=False) if isinstance(text, str) else None
    except ValueError:
        return None
    if network is None or not isinstance(network.network_address, family.address):
        return None
    return int(network.network_address), int(network.broadcast_address)


def merge(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """The same numbers as ranges that neither overlap nor touch: a set of intervals takes no
    others."""
    out: list[Range] = []
    for low, high in sorted(ranges):
        if out and low <= out[-1][1] + 1:
            out[-1] = out[-1][0], max(out[-1][1], high)
        else:
            out.append((low, high))
    return tuple(out)


def block_text(low: int, high: int, family: Family = IPV4) -> str:
    """A range of addresses as nft reads it."""
    first, last = family.address(low), family.address(high)
    if low == high:
        return str(first)
    if low == 0 and high == 2**first.max_prefixlen - 1:
        return f"{first}/0"
    return f"{first}-{last}"


def pod_facts(obj: Object, node_name: str, ip: str = "", family: Family = IPV4) -> Pod | None:
    """None for a pod that policies do not reach: it shares the node's address, is over, or has no
    address of the family yet. `ip` is what its node is about to give it, before the status says
    so."""
    spec, status = obj["spec"], obj.get("status") or {}
    known = [ip, status.get("podIP"), *(item.get("ip") for item in status.get("podIPs") or ())]
    if spec.get("hostNetwork") or is_finished(obj):
        return None
    address = next(filter(None, map(family.parse, known)), "")
    if not address:
        return None
    meta = obj["metadata"]
    return Pod(
        meta["namespace"],
        meta.get("labels") or {},
        address,
        spec.get("nodeName") == node_name,
        tuple(_named_ports(spec)),
    )


def is_finished(pod: Object) -> bool:
    """Is it over, so that its address may be another's?"""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _named_ports(spec: Object) -> Iterable[tuple[tuple[str, str], int]]:
    containers: Sequence[Object] = [
        *(spec.get("containers") or ()), *(spec.get("initContainers") or ()),
    ]  # fmt: skip
    for container in containers:
        for port in container.get("ports") or ():
            protocol = PROTOCOLS.get(port.get("protocol") or "TCP")
            if port.get("name") and protocol:
                yield (port["name"], protocol), port["containerPort"]
