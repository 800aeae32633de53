"""What one class of pods may do, as sets and chains. Pure.

Pods that the same rules are about share a class: a chain, and the sets it looks into. However many
policies select a pod, its packets meet the same few lookups: is the peer allowed all traffic, and
if not, which segment do protocol and port fall into, and is the peer in that one's sets. Segments
are cut so that no two overlap, because sets of the kernel refuse overlaps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from ipaddress import ip_address
from itertools import pairwise

from msgspec import Struct, field

from ..families import IPV4, Family
from .objects import ALL_PODS, Group, Pod, Port, Range, Rule, block_text, merge

Members = Callable[[Group], Collection[Pod]]

_FIELD = {"in": "saddr", "out": "daddr"}
ACCEPT, DROP = "return", "drop"
# The kernel's names have 127 characters; this many digits keep classes apart.
_DIGITS = 16


class ClassKey(Struct, frozen=True):
    """A direction ("in", "out") and the rules, in a fixed order; names of ports on the pods
    themselves have become numbers."""

    direction: str
    rules: tuple[Rule, ...]

    @property
    def groups(self) -> set[Group]:
        """Those whose members decide what the class contains."""
        found = {group for rule in self.rules for group in rule.groups}
        return found | {ALL_PODS} if any(rule.names_anybody for rule in self.rules) else found


class Class(Struct, frozen=True):
    """`pods`: set name -> addresses, which change as pods come and go. All else never changes: a
    class that differs in it has another name."""

    name: str
    pods: Mapping[str, frozenset[str]]
    blocks: Mapping[str, Sequence[Range]]
    segments: Sequence[tuple[str, Range, str]]
    """(protocol, ports, chain); they do not overlap."""
    chains: Mapping[str, Sequence[str]]
    """Chain -> rules; the class's own chain, which has its name, is the last."""
    family: Family = IPV4

    @property
    def port_map(self) -> str:
        return f"{self.name}-m"

    def elements(self) -> Iterable[str]:
        """What the map of ports holds."""
        for protocol, (low, high), chain in self.segments:
            ports = str(low) if low == high else f"{low}-{high}"
            yield f"{protocol} . {ports} : goto {chain}"

    def block_elements(self, name: str) -> list[str]:
        return [block_text(low, high, self.family) for low, high in self.blocks[name]]


class _Peers(Struct):
    everyone: bool = False
    dynamic: bool = False
    pods: set[str] = field(default_factory=set)
    blocks: list[Range] = field(default_factory=list)

    def add(self, other: _Peers) -> None:
        self.everyone |= other.everyone
        self.dynamic |= other.dynamic
        self.pods |= other.pods
        self.blocks += other.blocks


class _Atom(Struct, frozen=True):
    """One port range of one rule, and who may use it. No port: all traffic."""

    port: Port | None
    peers: _Peers
    label: str


def class_of(key: ClassKey, members: Members, family: Family = IPV4) -> Class:
    """The class's sets and chains, with the members that the groups have now."""
    atoms = [atom for rule in key.rules for atom in _atoms(rule, members)]
    text = key.direction + "|" + "|".join(atom.label for atom in atoms)
    name = f"{key.direction}-{hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]}"
    build = _Builder(name, f"{family.word} {_FIELD[key.direction]}")
    body = build.allow(name, [atom.peers for atom in atoms if atom.port is None])
    chains: dict[frozenset[int], str] = {}
    segments = []
    for protocol, ports, which in _segments(atoms):
        chain = chains.get(which)
        if chain is None:
            chain = chains[which] = f"{name}-{len(chains)}"
            allowed = build.allow(chain, [atoms[number].peers for number in sorted(which)])
            build.chains[chain] = _closed(allowed)
        segments.append((protocol, ports, chain))
    if segments and body != [ACCEPT]:
        body.append(f"meta l4proto . th dport vmap @{name}-m")
    build.chains[name] = _closed(body)
    return Class(name, build.pods, build.blocks, segments, build.chains, family)


class _Builder:
    def __init__(self, name: str, field_name: str) -> None:
        self._name = name
        self._field = field_name
        self.pods: dict[str, frozenset[str]] = {}
        self.blocks: dict[str, Sequence[Range]] = {}
        self.chains: dict[str, Sequence[str]] = {}

    def allow(self, prefix: str, peers: Iterable[_Peers]) -> list[str]:
        """Rules that let these peers through; makes the sets they look into."""
        total = _Peers()
        for item in peers:
            total.add(item)
        if total.everyone:
            return [ACCEPT]
        rules = []
        if total.dynamic:
            self.pods[f"{prefix}-p"] = frozenset(total.pods)
            rules.append(f"{self._field} @{prefix}-p {ACCEPT}")
        if total.blocks:
            self.blocks[f"{prefix}-b"] = merge(total.blocks)
            rules.append(f"{self._field} @{prefix}-b {ACCEPT}")
        return rules


def _closed(rules: list[str]) -> list[str]:
    return rules if rules == [ACCEPT] else [*rules, DROP]


def _atoms(rule: Rule, members: Members) -> Iterable[_Atom]:
    peers = _Peers(rule.everyone, bool(rule.groups), set(), [*rule.blocks])
    for group in rule.groups:
        peers.pods.update(pod.ip for pod in members(group))
    who = str(Rule((), rule.everyone, rule.groups, rule.blocks))
    if not rule.ports:
        yield _Atom(None, peers, f"* {who}")
    for port in rule.ports:
        if port.name:
            yield from _named(port, rule, who, members)
        else:
            yield _Atom(port, peers, f"{port.protocol}:{port.low}-{port.high} {who}")


def _named(port: Port, rule: Rule, who: str, members: Members) -> Iterable[_Atom]:
    """A name in an egress rule means what each of the pods at the other end calls so."""
    numbers: dict[int, set[str]] = {}
    found = [pod for group in rule.groups for pod in members(group)]
    if rule.names_anybody:
        found += [pod for pod in members(ALL_PODS) if rule.everyone or _in_blocks(pod, rule)]
    for pod in found:
        if number := pod.number(port):
            numbers.setdefault(number, set()).add(pod.ip)
    for number, ips in sorted(numbers.items()):
        label = f"{port.protocol}:{port.name}={number} {who}"
        yield _Atom(Port(port.protocol, number, number), _Peers(False, True, ips, []), label)


def _in_blocks(pod: Pod, rule: Rule) -> bool:
    number = int(ip_address(pod.ip))
    return any(low <= number <= high for low, high in rule.blocks)


def _segments(atoms: Sequence[_Atom]) -> Iterable[tuple[str, Range, frozenset[int]]]:
    """Ports cut where any range begins or ends: (protocol, ports, the atoms that cover them)."""
    edges: dict[str, set[int]] = {}
    covering: dict[str, list[tuple[int, int, int]]] = {}
    for number, atom in enumerate(atoms):
        if atom.port is not None:
            port = atom.port
            edges.setdefault(port.protocol, set()).update((port.low, port.high + 1))
            covering.setdefault(port.protocol, []).append((port.low, port.high, number))
    for protocol, cuts in edges.items():
        ordered = sorted(cuts)
        last: tuple[Range, frozenset[int]] | None = None
        for low, after in pairwise(ordered):
            which = frozenset(
                number for first, end, number in covering[protocol] if first <= low <= end
            )
            if last is not None and last[1] == which and last[0][1] + 1 == low:
                last = (last[0][0], after - 1), which
                continue
            if last is not None and last[1]:
                yield protocol, *last
            last = (low, after - 1), which
        if last is not None and last[1]:
            yield protocol, *last
