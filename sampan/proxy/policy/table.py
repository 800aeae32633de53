"""The policies' table: what is in the kernel, and the scripts that make it something else. Pure.

The table is there while there are policies. Its chain stands where packets are forwarded, after
services have been translated: what the node itself sends to its pods (probes) does not pass there,
nor does what pods send to the node, and both are always allowed (as the API reference has it). Of a
connection the first packet is looked at alone; what was open before its rules is judged by `flows`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sampan.linux.nft import element_lines, remove_table

from ..families import IPV4, Family
from .classes import Class
from .flows import REFUSED
from .index import DIRECTIONS, State


class PolicyTable:
    """The rules of one cluster on one node."""

    def __init__(self, cluster: str, family: Family = IPV4) -> None:
        self.name = f"sampan-{cluster}.policy"
        self.family = family
        self._table = f"{family.word} {self.name}"
        self._state = State()
        self.marks = True
        """Can the kernel mark connections (CONFIG_NF_CONNTRACK_MARK)?"""

    @property
    def state(self) -> State:
        """What was last asked for."""
        return self._state

    def remove(self) -> str:
        self._state = State()
        return remove_table(self.family.word, self.name)

    def whole(self, state: State) -> str:
        """Everything anew, in one transaction."""
        lines = [remove_table(self.family.word, self.name).rstrip("\n"), *self._frame()]
        for item in state.classes.values():
            lines += self._make(item)
        lines += self._targets(State(), state)
        self._state = state
        return "\n".join(lines) + "\n"

    def change(self, state: State) -> list[str]:
        """Transactions from what is there to `state`, to be applied in order. The first makes the
        difference; the others remove classes nobody is of any more: a kernel before 6.2 refuses to
        delete a chain in the very transaction that deletes what led to it."""
        old, self._state = self._state, state
        lines: list[str] = []
        for name, item in state.classes.items():
            before = old.classes.get(name)
            lines += self._make(item) if before is None else self._renew(before, item)
        lines += self._targets(old, state)
        scripts = [lines, *self._sweep([old.classes[name] for name in old.classes.keys()
                                        - state.classes.keys()])]  # fmt: skip
        return ["\n".join(script) + "\n" for script in scripts if script]

    def _make(self, item: Class) -> Iterator[str]:
        table = self._table
        for name, ips in item.pods.items():
            yield f"add set {table} {name} {{ type {self.family.kind}; }}"
            yield from self._elements("add", name, ips)
        for name in item.blocks:
            yield f"add set {table} {name} {{ type {self.family.kind}; flags interval; }}"
            yield from self._elements("add", name, item.block_elements(name))
        if item.segments:
            key = "inet_proto . inet_service : verdict"
            yield f"add map {table} {item.port_map} {{ type {key}; flags interval; }}"
        for chain, rules in item.chains.items():
            yield f"add chain {table} {chain}"
            for rule in rules:
                yield f"add rule {table} {chain} {rule}"
        yield from self._elements("add", item.port_map, item.elements())

    def _renew(self, before: Class, item: Class) -> Iterator[str]:
        for name, ips in item.pods.items():
            had = before.pods[name]
            if had is not ips:
                yield from self._elements("delete", name, had - ips)
                yield from self._elements("add", name, ips - had)

    def _sweep(self, gone: Iterable[Class]) -> tuple[list[str], list[str]]:
        emptied, deleted = [], []
        for item in gone:
            if item.segments:
                emptied.append(f"flush map {self._table} {item.port_map}")
            emptied += [f"flush chain {self._table} {chain}" for chain in item.chains]
            deleted += [f"delete chain {self._table} {chain}" for chain in item.chains]
            if item.segments:
                deleted.append(f"delete map {self._table} {item.port_map}")
            deleted += [f"delete set {self._table} {name}" for name in (*item.pods, *item.blocks)]
        return emptied, deleted

    def _targets(self, old: State, new: State) -> Iterator[str]:
        removed: dict[str, list[str]] = {}
        added: dict[str, list[str]] = {}
        for direction in DIRECTIONS:
            had, has = old.targets[direction], new.targets[direction]
            removed[direction] = [ip for ip, name in had.items() if has.get(ip) != name]
            added[direction] = [
                f"{ip} : jump {name}" for ip, name in has.items() if had.get(ip) != name
            ]
        had_own, has_own = _selves(old.targets), _selves(new.targets)
        removed["selves"] = [f"{ip} . {ip}" for ip in had_own - has_own]
        added["selves"] = [f"{ip} . {ip}" for ip in has_own - had_own]
        for verb, parts in (("delete", removed), ("add", added)):
            for name, elements in parts.items():
                yield from self._elements(verb, name, elements)

    def _elements(self, verb: str, name: str, elements: Iterable[str]) -> Iterator[str]:
        return element_lines(verb, self._table, name, sorted(elements))

    def _frame(self) -> Iterator[str]:
        table, word, kind = self._table, self.family.word, self.family.kind
        yield f"add table {table}"
        for direction in DIRECTIONS:
            yield f"add map {table} {direction} {{ type {self.family.kind} : verdict; }}"
        yield f"add set {table} selves {{ type {kind} . {kind}; }}"
        yield f"add chain {table} forward {{ type filter hook forward priority 0; }}"
        rule = f"add rule {table} forward"
        if self.marks:
            # Begun under other rules (`flows`).
            yield f"{rule} ct mark & {REFUSED:#x} == {REFUSED:#x} drop"
        yield f"{rule} ct state established,related accept"
        # A pod cannot be cut off from itself, also not through a service.
        yield f"{rule} {word} saddr . {word} daddr @selves accept"
        yield f"{rule} {word} saddr vmap @out"
        yield f"{rule} {word} daddr vmap @in"


def _selves(targets: Mapping[str, Mapping[str, str]]) -> set[str]:
    return {ip for direction in DIRECTIONS for ip in targets[direction]}
