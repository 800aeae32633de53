"""Which machines have which pods, from Node objects; the kernel's half is in tests/system."""

from __future__ import annotations

import base64
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sampan.linux import wireguard
from sampan.linux.wireguard import WireguardDevice, WireguardPeer
from sampan.node.overlay import (
    SEEN,
    UNDERLAY,
    VIA,
    WIREGUARD,
    WIREGUARD_PORT,
    device_name,
    network_number,
    peers_of,
    port_in,
    secure_name,
)
from sampan.node.overlaysettings import OverlaySettings, read_overlay_settings
from sampan.node.plumbing import overlaid_mtu
from sampan.node.ways import Own, Peer, Way
from sampan.node.wireguard import WireguardEnd, machines


def node(name: str, *shares: str, **annotations: str) -> dict[str, Any]:
    spec = {"podCIDR": shares[0], "podCIDRs": list(shares)}
    return {"metadata": {"name": name, "annotations": annotations}, "spec": spec}


def way(share: str, gateway: str) -> Way:
    return Way(ip_network(share), gateway)


OWN = "192.0.2.1"


FIRST = node("a", "10.244.0.0/24", **{UNDERLAY: "192.0.2.1"})
BESIDE = node("a-2", "10.244.1.0/24", **{VIA: "a"})
FAR = node("b", "10.244.2.0/24", **{UNDERLAY: "192.0.2.2"})
BESIDE_FAR = node("b-2", "10.244.3.0/24", **{VIA: "b"})


def test_nodes_of_another_machine_are_reached_by_its_first() -> None:
    nodes = [FIRST, BESIDE, FAR, BESIDE_FAR]
    assert peers_of(nodes, "a", OWN) == {
        "b": Peer((way("10.244.2.0/24", "10.244.2.1"),), "192.0.2.2"),
        "b-2": Peer((way("10.244.3.0/24", "10.244.2.1"),), "192.0.2.2"),
    }
    assert set(peers_of(nodes, "b", OWN)) == {"a", "a-2"}


def test_a_share_of_each_family_has_a_gateway_of_its_own() -> None:
    far = node("b", "10.244.2.0/24", "fd00:1:0:2::/64", **{UNDERLAY: "192.0.2.2"})
    behind = node("b-2", "fd00:1:0:3::/64", "10.244.3.0/24", **{VIA: "b"})
    # Its machine's first has no address of IPv6 to send that share to.
    odd = node("c-2", "10.244.5.0/24", "fd00:1:0:5::/64", **{VIA: "c"})
    half = node("c", "10.244.4.0/24", **{UNDERLAY: "192.0.2.3"})
    found = peers_of([FIRST, far, behind, odd, half], "a", OWN)
    four, six = way("10.244.2.0/24", "10.244.2.1"), way("fd00:1:0:2::/64", "fd00:1:0:2::1")
    assert found["b"] == Peer((four, six), "192.0.2.2")
    four, six = way("10.244.3.0/24", "10.244.2.1"), way("fd00:1:0:3::/64", "fd00:1:0:2::1")
    assert found["b-2"].ways == (four, six)
    assert found["b-2"].mac == found["b"].mac
    assert found["c-2"].ways == (way("10.244.5.0/24", "10.244.4.1"),)


def test_machines_that_have_keys_are_one_peer_each() -> None:
    """With what all their nodes have; keys that are none are as if there were none."""
    key, odd = base64.b64encode(bytes(32)).decode(), base64.b64encode(bytes(31)).decode()
    far = node("b", "10.244.2.0/24", "fd00:1:0:2::/64",
               **{UNDERLAY: "192.0.2.2", WIREGUARD: key})  # fmt: skip
    plain = node("c", "10.244.4.0/24", **{UNDERLAY: "192.0.2.3", WIREGUARD: odd})
    found = peers_of([FIRST, far, BESIDE_FAR, plain], "a", OWN)
    assert {name: peer.key for name, peer in found.items()} == {"b": key, "b-2": key, "c": ""}
    both, four = Own({4: "10.244.0.1", 6: "fd00::1"}), Own({4: "10.244.0.1", 6: ""})
    shares = ("10.244.2.0/24", "10.244.2.1/32", "10.244.3.0/24")
    (peer,) = machines(four, [found["b"], found["b-2"]], 51820)
    assert peer == WireguardPeer(key, ("192.0.2.2", 51820), shares)
    elsewhere = {**far, "metadata": {**far["metadata"], "annotations": {
        **far["metadata"]["annotations"], WIREGUARD_PORT: "51000"}}}  # fmt: skip
    said = peers_of([FIRST, elsewhere], "a", OWN)
    assert machines(four, said.values(), 51820)[0].endpoint == ("192.0.2.2", 51000)
    assert [port_in(text) for text in ("51000", "", "70000", "-1", "²")] == [51000, 0, 0, 0, 0]
    (peer,) = machines(both, [found["b"]], 51820)
    assert {"fd00:1:0:2::/64", "fd00:1:0:2::1/128"} < set(peer.networks)
    assert secure_name(device_name("a" * 12)) == "sx~" + "a" * 12


def test_machines_carry_packets_in_one_family() -> None:
    """A device of VXLAN has one local address, and sends to those of its family alone."""
    other = node("b", "10.244.2.0/24", **{UNDERLAY: "2001:db8::2"})
    assert peers_of([FIRST, other], "a", OWN) == {}
    assert set(peers_of([FIRST, other], "a", "2001:db8::1")) == {"b"}


def test_room_is_left_for_what_carries() -> None:
    assert overlaid_mtu(1500, "") == 1500
    assert overlaid_mtu(1500, "192.0.2.1") == 1440
    assert overlaid_mtu(1500, "2001:db8::1") == 1420
    # A device with less has no IPv6 (RFC 8200): what carries is sent in pieces then.
    assert overlaid_mtu(1300, "192.0.2.1") == 1280


def test_nodes_that_make_no_sense_are_left_out() -> None:
    nodes = [
        FIRST,
        node("silent", "10.244.4.0/24"),
        node("new", "", **{UNDERLAY: "192.0.2.4"}),
        node("odd", "10.244.5.0/24", **{UNDERLAY: "somewhere"}),
        node("lost", "10.244.6.0/24", **{VIA: "nobody"}),
        {"metadata": {"name": "bare"}, "spec": {}},
    ]
    assert peers_of(nodes, "a", OWN) == {}


def test_names_and_numbers_fit_the_kernel() -> None:
    assert device_name("default") == "sx-default"
    assert len(device_name("a" * 16)) <= 15
    assert 0 < network_number(b"ca") < 1 << 24
    assert network_number(b"ca") != network_number(b"another")


def test_wireguard_can_be_switched_off_and_heard_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "overlay.yaml"
    assert read_overlay_settings(path) == OverlaySettings(True, 0)
    for text, wanted in (
        ("wireguard: off", OverlaySettings(False)),
        ('wireguard: "off"', OverlaySettings(False)),
        ("wireguard: auto\nwireguardPort: 51000", OverlaySettings(True, 51000)),
    ):
        path.write_text(text)
        assert read_overlay_settings(path) == wanted
    for text, why in (
        ("wireguard: sometimes", "neither auto nor off"),
        ("wireguardPort: 70000", "is no port"),
        ("wireguardPort: yes", "is no port"),
        ("encryption: off", "unknown: encryption"),
        ("[", "overlay.yaml"),
        ("", "not a mapping"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=why):
            read_overlay_settings(path)


def test_machines_behind_nats_of_their_own_have_a_third_between() -> None:
    keys = [base64.b64encode(bytes([number]) * 32).decode() for number in range(4)]
    at = "192.168.1.2"  # Of both, each in its own network.
    home = node("a", "10.244.1.0/24", **{UNDERLAY: at, WIREGUARD: keys[0], SEEN: "192.0.2.11"})
    away = node("b", "10.244.2.0/24", **{UNDERLAY: at, WIREGUARD: keys[1], SEEN: "192.0.2.12"})
    beside = node("b-2", "10.244.3.0/24", **{VIA: "b"})
    other = node("c", "10.244.4.0/24", **{UNDERLAY: "192.0.2.3", WIREGUARD: keys[2]})
    said = {UNDERLAY: "192.0.2.1", WIREGUARD: keys[3], WIREGUARD_PORT: "51000"}
    server = node("d", "10.244.0.0/24", **said)
    server["metadata"]["labels"] = {"node-role.kubernetes.io/control-plane": ""}
    nodes = [home, away, beside, other, server]

    def ends(own: str, *which: Any) -> dict[str, tuple[str, str, int]]:
        found = peers_of(which or nodes, own, at)
        return {name: (peer.key, peer.underlay, peer.port) for name, peer in found.items()}

    passed_on, direct = (keys[3], "192.0.2.1", 51000), (keys[2], "192.0.2.3", 0)
    assert ends("a") == {"b": passed_on, "b-2": passed_on, "c": direct, "d": passed_on}
    assert ends("b")["a"] == passed_on
    assert ends("d")["b"] == (keys[1], at, 0)
    # Where the server's machine has no key, another that all can call.
    assert ends("a", home, away, other)["b"] == direct
    # Nobody is between, or they are at one place.
    assert ends("a", home, away)["b"] == (keys[1], at, 0)
    home["metadata"]["annotations"][SEEN] = "192.0.2.12"
    assert ends("a")["b"] == (keys[1], at, 0)


class Route:
    """A kernel with the device, and no routes."""

    def link(self, name: str) -> Any:
        return SimpleNamespace(index=7)

    def links(self) -> list[Any]:
        return []

    def default_route_device(self) -> int:
        return 0

    def request(self, *messages: Any) -> None: ...

    def routes(self, index: int, family: int = 0) -> list[tuple[str, int]]:
        return []


def test_peers_of_a_record_that_cannot_be_read_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device outlives its agent, and so would a peer that nobody remembers: it would be heard
    for ever with the addresses of a machine that has gone."""
    told: list[tuple[list[str], Any]] = []

    def configure(index: int, device: Any, peers: Any, gone: Any = ()) -> None:
        told.append(([peer.key for peer in peers], gone))
        if told[-1][0] == ["killed"]:
            raise OSError

    monkeypatch.setattr(wireguard, "configure", configure)
    monkeypatch.setattr("sampan.node.wireguard.rtnetlink.set_route", lambda *_, **__: None)
    route, record = cast(Any, Route()), tmp_path / "wireguard"

    def end() -> WireguardEnd:
        device = WireguardDevice("sx~c", "", 1)
        return WireguardEnd(Own({4: "10.244.0.1", 6: ""}), device, "192.0.2.1", record, port=1)

    def peers(key: str) -> dict[str, Peer]:
        return {"b": Peer((way("10.244.2.0/24", "10.244.2.1"),), "192.0.2.2", key)}

    first = end()
    first.open(route)
    first.apply(route, {}, peers("one"))
    again = end()
    again.open(route)
    with pytest.raises(OSError):
        again.apply(route, {}, peers("killed"))
    end().open(route)
    record.write_bytes(b"[{")
    end().open(route)
    assert told == [
        ([], None), (["one"], []), ([], ()), (["killed"], ["one"]), ([], None), ([], None),
    ]  # fmt: skip
