"""What WireGuard devices are told, read back by pyroute2, which kernels understand; and the text of
the same for programs."""

from __future__ import annotations

import base64
import struct
from typing import Any

from pyroute2.netlink.generic.wireguard import wgmsg

from sampan.linux.wireguard import (
    PEERS_A_MESSAGE,
    WireguardDevice,
    WireguardPeer,
    messages,
    text,
)

KEY, ONE, TWO = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2, 3))
DEVICE = WireguardDevice("sx~c", KEY, 51821)
PEERS = [
    WireguardPeer(ONE, ("192.0.2.2", 51821), ("10.244.1.0/24", "fd00:10:244:1::/64")),
    WireguardPeer(TWO, ("2001:db8::2", 51822), ("10.244.2.1/32",)),
]


def heard(payload: bytes) -> dict[str, Any]:
    """A message's attributes, as pyroute2 reads them."""
    head = struct.pack("=IHHII", 16 + len(payload), 42, 0, 1, 0)
    message = wgmsg(head + payload)
    message.decode()
    assert (message["cmd"], message["version"]) == (1, 1)
    return dict(message["attrs"])


def said(key: Any) -> str:
    """A key that was heard, in base64."""
    return (key if isinstance(key, bytes) else key["value"]).decode()


def test_the_kernel_is_told_key_port_and_peers() -> None:
    (message,) = messages(42, 7, DEVICE, PEERS)
    assert message.kind == 42
    found = heard(message.payload)
    assert (found["WGDEVICE_A_IFINDEX"], found["WGDEVICE_A_LISTEN_PORT"]) == (7, 51821)
    assert said(found["WGDEVICE_A_PRIVATE_KEY"]) == KEY
    # WGDEVICE_F_REPLACE_PEERS
    assert found["WGDEVICE_A_FLAGS"] == 1
    peers = [dict(item["attrs"]) for item in found["WGDEVICE_A_PEERS"]]
    assert [said(peer["WGPEER_A_PUBLIC_KEY"]) for peer in peers] == [ONE, TWO]
    # WGPEER_F_REPLACE_ALLOWEDIPS
    assert [peer["WGPEER_A_FLAGS"] for peer in peers] == [2, 2]
    ends = [peer["WGPEER_A_ENDPOINT"] for peer in peers]
    assert [(end["addr"], end["port"]) for end in ends] == [peer.endpoint for peer in PEERS]
    networks = [[item["addr"] for item in peer["WGPEER_A_ALLOWEDIPS"]] for peer in peers]
    assert networks == [list(peer.networks) for peer in PEERS]


def test_many_peers_are_told_in_pieces_the_first_of_which_replaces() -> None:
    keys = [base64.b64encode(bytes([number]) * 32).decode() for number in range(101)]
    assert len(keys) == PEERS_A_MESSAGE + 1
    many = [WireguardPeer(key, ("192.0.2.2", 1), ("10.244.1.0/24",)) for key in keys]
    first, second = (heard(message.payload) for message in messages(42, 7, DEVICE, many))
    assert len(first["WGDEVICE_A_PEERS"]) == PEERS_A_MESSAGE
    assert len(second["WGDEVICE_A_PEERS"]) == 1
    assert "WGDEVICE_A_FLAGS" not in second
    (only,) = messages(42, 7, DEVICE, [])
    assert heard(only.payload)["WGDEVICE_A_FLAGS"] == 1


def test_a_program_is_told_the_same_in_text() -> None:
    one, two = "02" * 32, "03" * 32
    assert text(DEVICE, PEERS) == (
        f"set=1\nprivate_key={'01' * 32}\nlisten_port=51821\nreplace_peers=true\n"
        f"public_key={one}\nendpoint=192.0.2.2:51821\nreplace_allowed_ips=true\n"
        "allowed_ip=10.244.1.0/24\nallowed_ip=fd00:10:244:1::/64\n"
        f"public_key={two}\nendpoint=[2001:db8::2]:51822\nreplace_allowed_ips=true\n"
        "allowed_ip=10.244.2.1/32\n\n"
    )
