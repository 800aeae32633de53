"""The cluster's table: which rules are in the kernel, and the script that makes them others.

A `Table` remembers the rules of each service as last planned. `change` gives the nft transaction
from there to the new ones, `whole` the one that makes everything anew. Both are text; the caller
applies them in order, and asks for `whole` after a failure. Nothing here talks to the kernel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from types import MappingProxyType

from msgspec.structs import replace

from sampan.linux.nft import element_lines, remove_table

from .families import IPV4, Family
from .rules import KINDS, MASQUERADE_MARK, NOTHING, SLOTS, Rules, elements

Key = tuple[str, str]


class Table:
    """The rules of one cluster on one node, in one family. `service_cidr`: addresses there that no
    service has are refused instead of leaving by the default route ("" lets them go)."""

    def __init__(self, cluster: str, service_cidr: str = "", family: Family = IPV4) -> None:
        self.name = f"sampan-{cluster}"
        self.family = family
        self._table = f"{family.word} {self.name}"
        self._service_cidr = service_cidr
        self._ranges: tuple[str, ...] = ()
        self._rules: dict[Key, Rules] = {}
        self._hairpins: Counter[str] = Counter()
        self._owners: dict[str, dict[str, Key]] = {kind: {} for kind in _OWNED}
        self._contested: dict[Key, Rules] = {}
        self._told: dict[Key, Key] = {}
        self.lost: dict[Key, Key] = {}
        """Who wants something that another service has, and which, since the caller emptied it."""
        self._stale: set[str] = set()
        self._stale_sets: set[str] = set()

    @property
    def rules(self) -> Mapping[Key, Rules]:
        """The rules of each service that has any, without what another service owns."""
        return MappingProxyType(self._rules)

    @property
    def contested(self) -> Set[Key]:
        """Services that did not get all they want: the next change may give it to them."""
        return self._contested.keys()

    @property
    def has_stale_chains(self) -> bool:
        """Chains nothing leads to any more wait for the next `change`: a kernel before 6.2 refuses
        to delete a chain in the very transaction that deletes the element leading to it."""
        return bool(self._stale or self._stale_sets)

    def refuse(self, ranges: Iterable[str]) -> bool:
        """More networks like `service_cidr`. True when they are others than before: the frame is
        made with `whole` alone, and so few are they, and seldom."""
        before, self._ranges = self._ranges, tuple(ranges)
        return self._ranges != before

    def remove(self) -> str:
        return remove_table(self.family.word, self.name)

    def whole(self) -> str:
        """Everything anew, in one transaction: connections see the old rules or the new ones."""
        self._stale.clear()
        self._stale_sets.clear()
        lines = [self.remove().rstrip("\n"), *self._frame()]
        for rules in self._rules.values():
            lines += self._declare(rules.sets)
            for name in rules.chains:
                lines.append(f"add chain {self._table} {name}")
            for name, body in rules.chains.items():
                lines += self._fill(name, body)
        every = [elements(rules) for rules in self._rules.values()]
        for kind in KINDS:
            texts = (
                _element(key, value)
                for found in every
                for key, value in found.get(kind, _NO_ELEMENTS).items()
            )
            lines += self._elements("add", kind, texts)
        lines += self._elements("add", "hairpins", (f"{ip} . {ip}" for ip in self._hairpins))
        return "\n".join(lines) + "\n"

    def change(self, wanted: Mapping[Key, Rules]) -> str:
        """From the rules of these services as they are to `wanted`; "" when nothing differs."""
        wanted = {**self._contested, **wanted}
        chains = [f"delete chain {self._table} {name}" for name in sorted(self._stale)]
        chains += [f"delete set {self._table} {name}" for name in sorted(self._stale_sets)]
        removals: dict[str, list[str]] = {kind: [] for kind in KINDS}
        additions: dict[str, list[str]] = {kind: [] for kind in KINDS}
        emptied: set[str] = set()
        unused: set[str] = set()
        before = {key: self._rules.pop(key, NOTHING) for key in wanted}
        for key, new in self._claim(before, wanted).items():
            old = before[key]
            if new != NOTHING:
                self._rules[key] = new
            chains += self._declare({k: v for k, v in new.sets.items() if k not in old.sets})
            unused |= old.sets.keys() - new.sets.keys()
            fresh = [name for name in new.chains if name not in old.chains]
            chains += [f"add chain {self._table} {name}" for name in fresh]
            for name, body in new.chains.items():
                if old.chains.get(name) != body:
                    chains += self._fill(name, body)
            emptied |= old.chains.keys() - new.chains.keys()
            was, now = elements(old), elements(new)
            for kind in was.keys() | now.keys():
                gone, added = _difference(was.get(kind, _NO_ELEMENTS), now.get(kind, _NO_ELEMENTS))
                removals[kind] += gone
                additions[kind] += added
        chains += [f"flush chain {self._table} {name}" for name in sorted(emptied)]
        self._stale, self._stale_sets = emptied, unused
        removals["hairpins"], additions["hairpins"] = self._count_hairpins(before)
        lines = chains
        for verb, parts in (("delete", removals), ("add", additions)):
            for kind, texts in parts.items():
                lines += self._elements(verb, kind, texts)
        return "\n".join(lines) + "\n" if lines else ""

    def _claim(self, before: Mapping[Key, Rules], wanted: Mapping[Key, Rules]) -> dict[Key, Rules]:
        """`wanted` without the elements that other services own; those who lose are asked again
        at the next change. Two Services can name one load balancer address and port."""
        self._contested = {}
        for key, old in before.items():
            for kind, owners in self._owners.items():
                for element in _owned(old, kind) - _owned(wanted[key], kind):
                    owners.pop(element, None)
        granted = {}
        for key, new in wanted.items():
            lost: set[str] = set()
            for kind, owners in self._owners.items():
                for element in _owned(new, kind):
                    if owners.setdefault(element, key) != key:
                        lost.add(element)
                        if self._told.get(key) != owners[element]:
                            self._told[key] = self.lost[key] = owners[element]
            granted[key] = new
            if not lost:
                self._told.pop(key, None)
            else:
                self._contested[key] = new
                granted[key] = replace(
                    new,
                    services={k: v for k, v in new.services.items() if k not in lost},
                    nodeports={k: v for k, v in new.nodeports.items() if k not in lost},
                    plain={k: v for k, v in new.plain.items() if k not in lost},
                )
        return granted

    def _count_hairpins(self, before: Mapping[Key, Rules]) -> tuple[list[str], list[str]]:
        """(gone, new). Services share endpoints: an address leaves with the last that has it."""
        touched: dict[str, bool] = {}
        for key, old in before.items():
            new = self._rules.get(key, NOTHING)
            for ip in old.hairpins ^ new.hairpins:
                touched.setdefault(ip, self._hairpins[ip] > 0)
                self._hairpins[ip] += 1 if ip in new.hairpins else -1
        gone = [f"{ip} . {ip}" for ip, had in touched.items() if had and not self._hairpins[ip]]
        new_ones = [f"{ip} . {ip}" for ip, had in touched.items() if self._hairpins[ip] and not had]
        for ip in touched:
            if not self._hairpins[ip]:
                del self._hairpins[ip]
        return gone, new_ones

    def _fill(self, chain: str, rules: Iterable[str]) -> Iterator[str]:
        yield f"add chain {self._table} {chain}"
        yield f"flush chain {self._table} {chain}"
        for rule in rules:
            yield f"add rule {self._table} {chain} {rule}"

    def _declare(self, sets: Mapping[str, str]) -> Iterator[str]:
        for name, what in sets.items():
            yield f"add set {self._table} {name} {what}"

    def _elements(self, verb: str, kind: str, texts: Iterable[str]) -> Iterator[str]:
        return element_lines(verb, self._table, kind, texts)

    def _frame(self) -> Iterator[str]:
        """What does not depend on services. Chains of type nat see the first packet of each
        connection alone; that one costs a few lookups in hash maps."""
        table, word = self._table, self.family.word
        bit = f"{MASQUERADE_MARK:#x}"
        port = "inet_proto . inet_service"
        key = f"{self.family.kind} . {port}"
        target = f"{word} daddr . meta l4proto . th dport"
        yield f"add table {table}"
        yield f"add map {table} services {{ type {key} : verdict; }}"
        yield f"add map {table} nodeports {{ type {port} : verdict; }}"
        yield f"add set {table} plain {{ type {key}; }}"
        yield f"add set {table} hairpins {{ type {self.family.kind} . {self.family.kind}; }}"
        yield f"add chain {table} refuse"
        yield f"add rule {table} refuse meta l4proto tcp reject with tcp reset"
        yield f"add rule {table} refuse reject with {self.family.refusal} type port-unreachable"
        yield from self._plain_frame(key, target)
        yield f"add chain {table} route"
        yield f"add rule {table} route {target} @plain goto plain"
        yield f"add rule {table} route {target} vmap @services"
        # Loopback addresses have listeners of our own (`loopback`).
        yield (
            f"add rule {table} route fib daddr type local {word} daddr != {self.family.loopback}"
            " meta l4proto . th dport vmap @nodeports"
        )
        for network in filter(None, (self._service_cidr, *self._ranges)):
            yield f"add rule {table} route {word} daddr {network} goto refuse"
        for hook in ("prerouting", "output"):
            yield f"add chain {table} {hook} {{ type nat hook {hook} priority -100; }}"
            yield f"add rule {table} {hook} goto route"
        yield f"add chain {table} postrouting {{ type nat hook postrouting priority 100; }}"
        yield f"add rule {table} postrouting meta mark & {bit} == {bit} masquerade"
        yield f"add rule {table} postrouting {word} saddr . {word} daddr @hairpins masquerade"

    def _plain_frame(self, key: str, target: str) -> Iterator[str]:
        """A plain service's class says among how many slots chance is to choose; without one it
        has one endpoint, or none."""
        table, word = self._table, self.family.word
        for number in range(SLOTS):
            slot = f"slot-{number}"
            data = f"{self.family.kind} . inet_service"
            yield f"add map {table} {slot} {{ type {key} : {data}; }}"
            yield f"add chain {table} {slot}"
            yield (
                f"add rule {table} {slot} meta l4proto {{ tcp, udp, sctp }}"
                f" dnat {word} to {target} map @{slot}"
            )
        yield f"add chain {table} plain"
        for count in range(2, SLOTS + 1):
            choices = ", ".join(f"{number} : goto slot-{number}" for number in range(count))
            yield f"add set {table} class-{count} {{ type {key}; }}"
            yield f"add chain {table} pick-{count}"
            yield f"add rule {table} pick-{count} numgen random mod {count} vmap {{ {choices} }}"
            yield f"add rule {table} plain {target} @class-{count} goto pick-{count}"
        yield f"add rule {table} plain jump slot-0"
        yield f"add rule {table} plain goto refuse"


_NO_ELEMENTS: Mapping[str, str] = MappingProxyType({})
# What two services can both want: an address with its port, or a port of the node.
_OWNED = ("addresses", "nodeports")


def _owned(rules: Rules, kind: str) -> set[str]:
    if kind == "nodeports":
        return {*rules.nodeports}
    return rules.services.keys() | rules.plain.keys()


def _element(key: str, value: str) -> str:
    return f"{key} : {value}" if value else key


def _difference(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """(keys to delete, elements to add); a value that changed is both."""
    gone = [key for key, value in old.items() if new.get(key) != value]
    added = [_element(key, value) for key, value in new.items() if old.get(key) != value]
    return gone, added
