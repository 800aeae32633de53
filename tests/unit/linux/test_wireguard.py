"""What WireGuard devices are told, read back by pyroute2, which kernels understand; and the text of
the same for programs."""

from __future__ import annotations

import base64
import struct
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from pyroute2.netlink.generic.wireguard import wgmsg

from sampan.linux import wireguard
from sampan.linux.netlink import Message
from sampan.linux.wireguard import (
    PEERS_A_MESSAGE,
    WireguardDevice,
    WireguardPeer,
    configure,
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
    (message,) = messages((42, 7), DEVICE, PEERS)
    assert message.kind == 42
    found = heard(message.payload)
    assert (found["WGDEVICE_A_IFINDEX"], found["WGDEVICE_A_LISTEN_PORT"]) == (7, 51821)
    assert said(found["WGDEVICE_A_PRIVATE_KEY"]) == KEY
    peers = [dict(item["attrs"]) for item in found["WGDEVICE_A_PEERS"]]
    assert [said(peer["WGPEER_A_PUBLIC_KEY"]) for peer in peers] == [ONE, TWO]
    # WGPEER_F_REPLACE_ALLOWEDIPS
    assert [peer["WGPEER_A_FLAGS"] for peer in peers] == [2, 2]
    assert [peer["WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL"] for peer in peers] == [25, 25]
    ends = [peer["WGPEER_A_ENDPOINT"] for peer in peers]
    assert [(end["addr"], end["port"]) for end in ends] == [peer.endpoint for peer in PEERS]
    networks = [[item["addr"] for item in peer["WGPEER_A_ALLOWEDIPS"]] for peer in peers]
    assert networks == [list(peer.networks) for peer in PEERS]


def test_a_peer_that_is_gone_is_told_before_those_there_are() -> None:
    (message,) = messages((42, 7), DEVICE, PEERS[:1], [TWO])
    gone, there = (dict(item["attrs"]) for item in heard(message.payload)["WGDEVICE_A_PEERS"])
    # WGPEER_F_REMOVE_ME
    assert (said(gone["WGPEER_A_PUBLIC_KEY"]), gone["WGPEER_A_FLAGS"]) == (TWO, 1)
    assert said(there["WGPEER_A_PUBLIC_KEY"]) == ONE


def test_many_peers_are_told_in_pieces() -> None:
    keys = [base64.b64encode(bytes([number]) * 32).decode() for number in range(101)]
    assert len(keys) == PEERS_A_MESSAGE + 1
    many = [WireguardPeer(key, ("192.0.2.2", 1), ("10.244.1.0/24",)) for key in keys]
    first, second = (heard(message.payload) for message in messages((42, 7), DEVICE, many))
    assert len(first["WGDEVICE_A_PEERS"]) == PEERS_A_MESSAGE
    assert len(second["WGDEVICE_A_PEERS"]) == 1
    assert "WGDEVICE_A_LISTEN_PORT" not in second
    # WGDEVICE_F_REPLACE_PEERS, but for those of the first message.
    first, second = (heard(message.payload) for message in messages((42, 7), DEVICE, many, None))
    assert (first["WGDEVICE_A_FLAGS"], second.get("WGDEVICE_A_FLAGS")) == (1, None)
    (only,) = messages((42, 7), DEVICE, [])
    assert heard(only.payload)["WGDEVICE_A_LISTEN_PORT"] == 51821


def test_pieces_are_sent_one_by_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # All that is sent at once has to fit into the socket's buffer.
    sent: list[tuple[Message, ...]] = []

    class Kernel(nullcontext[None]):
        def __enter__(self) -> Any:
            return self

        def request(self, *messages: Message) -> None:
            sent.append(messages)

    monkeypatch.setattr(wireguard, "SOCKETS", tmp_path)
    monkeypatch.setattr(wireguard, "Netlink", lambda _: Kernel())
    monkeypatch.setattr(wireguard, "_family", lambda _: 42)
    configure(7, DEVICE, PEERS[:1] * (2 * PEERS_A_MESSAGE + 1))
    assert [len(batch) for batch in sent] == [1, 1, 1]


def test_a_program_is_told_the_same_in_text() -> None:
    one, two = "02" * 32, "03" * 32
    rest = "persistent_keepalive_interval=25\nreplace_allowed_ips=true\n"
    assert text(DEVICE, PEERS, [KEY]) == (
        f"set=1\nprivate_key={'01' * 32}\nlisten_port=51821\n"
        f"public_key={'01' * 32}\nremove=true\n"
        f"public_key={one}\nendpoint=192.0.2.2:51821\n{rest}"
        "allowed_ip=10.244.1.0/24\nallowed_ip=fd00:10:244:1::/64\n"
        f"public_key={two}\nendpoint=[2001:db8::2]:51822\n{rest}"
        "allowed_ip=10.244.2.1/32\n\n"
    )
    assert text(DEVICE, [], None).endswith("listen_port=51821\nreplace_peers=true\n\n")
