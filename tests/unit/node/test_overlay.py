"""Which machines have which pods, from Node objects; the kernel's half is in tests/system."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

from sampan.node.overlay import UNDERLAY, VIA, Peer, device_name, network_number, peers_of


def node(name: str, share: str, **annotations: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "annotations": annotations}, "spec": {"podCIDR": share}}


FIRST = node("a", "10.244.0.0/24", **{UNDERLAY: "192.0.2.1"})
BESIDE = node("a-2", "10.244.1.0/24", **{VIA: "a"})
FAR = node("b", "10.244.2.0/24", **{UNDERLAY: "192.0.2.2"})
BESIDE_FAR = node("b-2", "10.244.3.0/24", **{VIA: "b"})


def test_nodes_of_another_machine_are_reached_by_its_first() -> None:
    share = IPv4Network
    nodes = [FIRST, BESIDE, FAR, BESIDE_FAR]
    assert peers_of(nodes, "a") == {
        "b": Peer(share("10.244.2.0/24"), "10.244.2.1", "192.0.2.2"),
        "b-2": Peer(share("10.244.3.0/24"), "10.244.2.1", "192.0.2.2"),
    }
    assert set(peers_of(nodes, "b")) == {"a", "a-2"}


def test_nodes_that_make_no_sense_are_left_out() -> None:
    nodes = [
        FIRST,
        node("silent", "10.244.4.0/24"),
        node("new", "", **{UNDERLAY: "192.0.2.4"}),
        node("odd", "10.244.5.0/24", **{UNDERLAY: "somewhere"}),
        node("lost", "10.244.6.0/24", **{VIA: "nobody"}),
        {"metadata": {"name": "bare"}, "spec": {}},
    ]
    assert peers_of(nodes, "a") == {}


def test_names_and_numbers_fit_the_kernel() -> None:
    assert device_name("default") == "sx-default"
    assert len(device_name("a" * 16)) <= 15
    assert 0 < network_number(b"ca") < 1 << 24
    assert network_number(b"ca") != network_number(b"another")
