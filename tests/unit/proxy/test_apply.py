"""Transactions: what a change says, and that changes end where a fresh table does."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.proxy.apply import Table
from sampan.proxy.rules import NOTHING, Rules


class Kernel:
    """What nft would hold after our scripts; refuses what nft refuses."""

    def __init__(self) -> None:
        self.chains: dict[str, list[str]] = {}
        self.elements: dict[str, dict[str, str]] = {}

    def apply(self, script: str) -> None:
        for line in script.splitlines():
            words = line.split(" ", 5)
            verb, what, name = words[0], words[1], words[4] if len(words) > 4 else ""
            rest = words[5] if len(words) > 5 else ""
            assert words[2:4] == ["ip", "sampan-test"], line
            getattr(self, f"{verb}_{what}")(name, rest)

    def add_table(self, name: str, rest: str) -> None:
        pass

    def delete_table(self, name: str, rest: str) -> None:
        self.__init__()  # type: ignore[misc]

    def add_chain(self, name: str, rest: str) -> None:
        self.chains.setdefault(name, [])

    def flush_chain(self, name: str, rest: str) -> None:
        self.chains[name].clear()

    def delete_chain(self, name: str, rest: str) -> None:
        used = [v for part in self.elements.values() for v in part.values()]
        used += [rule for rules in self.chains.values() for rule in rules]
        assert f"goto {name}" not in used, f"{name} is in use"
        assert not self.chains.pop(name), f"{name} has rules"

    def add_rule(self, name: str, rest: str) -> None:
        target = re.fullmatch(r"goto (\S+)", rest)
        assert target is None or target[1] in self.chains, rest
        self.chains[name].append(rest)

    def add_map(self, name: str, rest: str) -> None:
        self.elements.setdefault(name, {})

    add_set = add_map

    def add_element(self, name: str, rest: str) -> None:
        for item in rest.strip("{} ").split(", "):
            key, _, verdict = item.partition(" : ")
            assert key not in self.elements[name], f"{key} exists"
            assert not verdict.startswith("goto") or verdict[5:] in self.chains, verdict
            self.elements[name][key] = verdict

    def delete_element(self, name: str, rest: str) -> None:
        for key in rest.strip("{} ").split(", "):
            del self.elements[name][key]

    def state(self) -> tuple[Any, Any]:
        return self.chains, self.elements


def rules(number: int, version: int, shared: bool) -> Rules:
    chain = f"svc-{number}"
    services = {f"10.96.0.{number} . tcp . 80": f"goto {chain}"}
    if version % 3 == 0:
        services = {f"10.96.0.{number} . tcp . 80": "goto refuse"}
    if shared:
        services["203.0.113.1 . tcp . 80"] = f"goto {chain}" if version % 3 else "goto refuse"
    return Rules(
        services=services,
        nodeports={f"tcp . {30000 + number}": "drop"} if version % 2 else {},
        chains={chain: (f"dnat to {version}",)} if version % 3 else {},
        hairpins=frozenset({f"10.244.0.{version}", "10.244.0.1"} if version % 3 else ()),
    )


CHANGES = st.lists(
    st.dictionaries(
        st.integers(0, 4),
        st.one_of(st.none(), st.tuples(st.integers(0, 6), st.booleans())),
        max_size=4,
    ),
    max_size=8,
)


@settings(max_examples=200, deadline=None)
@given(CHANGES)
def test_changes_end_where_a_fresh_table_does(changes: list[dict[int, Any]]) -> None:
    table, kernel = Table("test", "10.96.0.0/12"), Kernel()
    kernel.apply(table.whole())
    for change in changes:
        kernel.apply(
            table.change(
                {
                    ("ns", str(number)): NOTHING if value is None else rules(number, *value)
                    for number, value in change.items()
                }
            )
        )
    kernel.apply(table.change({}))
    assert not table.has_stale_chains
    fresh = Kernel()
    fresh.apply(table.whole())
    assert kernel.state() == fresh.state()


def test_a_change_touches_only_what_it_changes() -> None:
    table = Table("test")
    table.change({("ns", str(number)): rules(number, 1, False) for number in range(100)})
    script = table.change({("ns", "7"): rules(7, 5, False)})
    assert script.splitlines() == [
        "add chain ip sampan-test svc-7",
        "flush chain ip sampan-test svc-7",
        "add rule ip sampan-test svc-7 dnat to 5",
        "add element ip sampan-test hairpins { 10.244.0.5 . 10.244.0.5 }",
    ]
    assert table.change({("ns", "7"): rules(7, 5, False)}) == ""


def test_an_address_two_services_claim_goes_to_the_next_when_the_first_leaves() -> None:
    table = Table("test")
    table.change({("ns", "1"): rules(1, 1, True)})
    table.change({("ns", "2"): rules(2, 1, True)})
    assert "203.0.113.1 . tcp . 80" not in table.rules["ns", "2"].services
    script = table.change({("ns", "1"): NOTHING})
    assert "203.0.113.1 . tcp . 80 : goto svc-2" in script


def test_who_comes_second_is_told_of() -> None:
    table = Table("test")
    table.change({("ns", "1"): rules(1, 1, True)})
    assert not table.lost
    table.change({("ns", "2"): rules(2, 1, True)})
    assert table.lost == {("ns", "2"): ("ns", "1")}
    # A plain service's address counts as much.
    plain = Rules({}, {}, {}, frozenset(), plain={"203.0.113.1 . tcp . 80": ("10.244.0.9 . 80",)})
    table.lost.clear()
    table.change({("ns", "3"): plain})
    assert table.lost == {("ns", "3"): ("ns", "1")}
    script = table.change({("ns", "1"): NOTHING, ("ns", "2"): NOTHING})
    assert "add element ip sampan-test plain { 203.0.113.1 . tcp . 80 }" in script
