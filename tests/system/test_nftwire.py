"""Small transactions sent as messages leave in the kernel what `nft` would have."""

from __future__ import annotations

import subprocess

import pytest

from sampan.linux.nft import apply_blocking, find, remove_table
from sampan.linux.nftwire import NotKnown, Refused, apply_messages, compile_script, has_nat
from tests.system.test_network import node  # noqa: F401

pytestmark = pytest.mark.root

FRAME = """
add table {0} wire
add map {0} wire services {{ type {1}_addr . inet_proto . inet_service : verdict; }}
add map {0} wire nodeports {{ type inet_proto . inet_service : verdict; }}
add map {0} wire slot-0 {{ type {1}_addr . inet_proto . inet_service : {1}_addr . inet_service; }}
add set {0} wire plain {{ type {1}_addr . inet_proto . inet_service; }}
add set {0} wire pairs {{ type {1}_addr . {1}_addr; }}
add chain {0} wire refuse
add chain {0} wire stale
add set {0} wire old {{ type {1}_addr; }}
add rule {0} wire stale drop
"""
CHANGE = """
add set {0} wire of-a {{ type {1}_addr; flags dynamic, timeout; timeout 30s; }}
add set {0} wire peers {{ type {1}_addr; }}
add chain {0} wire a
flush chain {0} wire stale
delete chain {0} wire stale
delete set {0} wire old
add rule {0} wire a meta l4proto tcp numgen random mod 3 == 0 dnat {0} to {3}:80
add rule {0} wire a meta l4proto udp dnat {0} to {3}:80
add rule {0} wire a meta l4proto sctp dnat {0} to numgen random mod 2 map {{ {6} }}
add rule {0} wire a update @of-a {{ {0} saddr }}
add rule {0} wire a {0} saddr @of-a goto refuse
add rule {0} wire a {0} daddr @peers accept
add rule {0} wire a numgen random mod 2 == 0 goto refuse
add rule {0} wire a meta mark set meta mark | 0x4000
add rule {0} wire a {0} saddr {4} meta mark set meta mark | 0x4000
add rule {0} wire a {0} saddr {5} goto refuse
add rule {0} wire a fib saddr type local meta mark set meta mark | 0x4000
add rule {0} wire a fib saddr type local jump refuse
add rule {0} wire a drop
add element {0} wire services {{ {2} . tcp . 443 : goto a, {2} . udp . 53 : drop }}
add element {0} wire nodeports {{ tcp . 30000 : goto a }}
add element {0} wire slot-0 {{ {2} . tcp . 443 : {2} . 8443 }}
add element {0} wire plain {{ {2} . tcp . 443 }}
add element {0} wire peers {{ {2} }}
add element {0} wire pairs {{ {2} . {2} }}
delete element {0} wire pairs {{ {2} . {2} }}
delete element {0} wire nodeports {{ tcp . 30000 }}
"""
WORDS = {
    "ip": (
        "ip",
        "ipv4",
        "10.0.0.1",
        "10.0.0.1",
        "127.0.0.0/8",
        "10.244.8.0/21",
        "0 : 10.0.0.1 . 80, 1 : 10.0.0.2 . 81",
    ),
    "ip6": (
        "ip6",
        "ipv6",
        "fd00::1",
        "[fd00::1]",
        "::1/128",
        "fd00:1::/64",
        "0 : fd00::1 . 80, 1 : fd00::2 . 81",
    ),
}


def listed() -> str:
    done = subprocess.run([find("nft"), "list", "ruleset"], capture_output=True, check=True)
    return done.stdout.decode()


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_messages_do_what_nft_does(node: int, family: str) -> None:  # noqa: F811
    frame, change = (text.strip().format(*WORDS[family]) + "\n" for text in (FRAME, CHANGE))
    apply_blocking(frame)
    apply_blocking(change)
    expected = listed()
    apply_blocking(remove_table(family, "wire"))
    apply_blocking(frame)
    apply_messages(compile_script(change))
    assert listed() == expected
    assert "drop" in expected
    # All of it or nothing, and the kernel's own word for why.
    both = f"add chain {family} wire b\ndelete chain {family} wire none\n"
    with pytest.raises(Refused, match="No such file"):
        apply_messages(compile_script(both))
    assert listed() == expected
    apply_blocking(remove_table(family, "wire"))


def test_a_probe_leaves_nothing(node: int) -> None:  # noqa: F811
    before = listed()
    assert has_nat("ip")
    assert has_nat("ip6")
    assert listed() == before


@pytest.mark.parametrize(
    "line",
    [
        "flush ruleset",
        "add table ip x",
        "add chain ip x hook { type nat hook output priority 0; }",
        "add rule ip x y ip saddr != { 10.0.0.1 } drop",
        "add rule ip x y goto a b",
        "add rule ip x y dnat ip to fd00::1:80",
        "add set ip x y { type ipv4_addr; flags interval; }",
        "add element ip x y { 10.0.0.0-10.0.0.9 }",
        "add element ip x y { tcp . 80-90 : goto z }",
        "",
    ],
)
def test_other_words_are_left_to_nft(line: str) -> None:
    with pytest.raises(NotKnown):
        compile_script(f"{line}\n")
