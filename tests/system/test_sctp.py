"""SCTP through services and policies, in a real kernel.

The packets are made by hand (RFC 9260): so what the kernel does to them is seen also where it has
no sockets of SCTP, as on the machines of the tests.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path
from typing import NamedTuple

import pytest

from sampan.linux import netns
from sampan.node.interface import PodAddress
from tests.system.test_network import CLUSTER_IP, SERVICE, SLICE, endpoint_slice, node, traces
from tests.system.test_policy import QUICKLY_S, Guarded

__all__ = ["node"]

pytestmark = pytest.mark.root

INIT, INIT_ACK = 1, 2
PORT, INNER, CLIENT = 36412, 8132, 40123


class Chunk(NamedTuple):
    """The beginning of an association, or the answer to it."""

    sender: str
    source: int
    destination: int
    kind: int


def checksum(data: bytes) -> int:
    """CRC-32C."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def packet(source: int, destination: int, kind: int, tag: int) -> bytes:
    head = struct.pack(">HHI", source, destination, tag)
    body = struct.pack(">BBHIIHHI", kind, 0, 20, 0x1234, 65536, 1, 1, 7)
    return head + struct.pack("<I", checksum(head + bytes(4) + body)) + body


def read(data: bytes) -> Chunk:
    size = (data[0] & 15) * 4
    body = data[size:]
    source, destination = struct.unpack(">HH", body[:4])
    assert struct.pack("<I", checksum(body[:8] + bytes(4) + body[12:])) == body[8:12]
    return Chunk(socket.inet_ntoa(data[12:16]), source, destination, body[12])


def raw_socket(pod: PodAddress, home: int) -> socket.socket:
    namespace = netns.open_pinned(pod.namespace_path)
    assert namespace is not None
    with netns.inside(namespace, home):
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP)
    sock.setblocking(False)
    return sock


async def hear(sock: socket.socket, wait_s: float = 5.0) -> Chunk:
    async with asyncio.timeout(wait_s):
        return read(await asyncio.get_running_loop().sock_recv(sock, 1000))


async def test_associations_through_services_and_policies(node: int, tmp_path: Path) -> None:
    before = traces(tmp_path)
    bench = Guarded(tmp_path)
    await bench.open()
    try:
        one, two = await bench.pod("one"), await bench.pod("two", app="two")
        item = endpoint_slice(two.ip)
        item["ports"] = [{"name": "s1ap", "port": INNER, "protocol": "SCTP"}]
        ports = [{"name": "s1ap", "port": PORT, "protocol": "SCTP"}]
        async with bench.nft.applies(f"{two.ip} . {INNER}"):
            await bench.feed.put(SLICE, item)
            meta = {"namespace": "ns", "name": "web"}
            await bench.feed.put(
                SERVICE, {"metadata": meta, "spec": {"clusterIP": CLUSTER_IP, "ports": ports}}
            )
        with raw_socket(one, node) as client, raw_socket(two, node) as server:
            await _check_service(client, server, one, two)
            await _check_policy(bench, client, server)
    finally:
        await bench.purge()
    assert traces(tmp_path) == before


async def _check_service(
    client: socket.socket, server: socket.socket, one: PodAddress, two: PodAddress
) -> None:
    client.sendto(packet(CLIENT, PORT, INIT, 0), (CLUSTER_IP, 0))
    assert await hear(server) == Chunk(one.ip, CLIENT, INNER, INIT)
    server.sendto(packet(INNER, CLIENT, INIT_ACK, 0x1234), (one.ip, 0))
    assert await hear(client) == Chunk(CLUSTER_IP, PORT, CLIENT, INIT_ACK)


async def _check_policy(bench: Guarded, client: socket.socket, server: socket.socket) -> None:
    """A port of another protocol is not SCTP's; one of SCTP's is."""

    async def policy(text: str, protocol: str, number: int) -> None:
        port = {"protocol": protocol, "port": number}
        ingress = [{"ports": [port]}]
        chosen = {"matchLabels": {"app": "two"}}
        await bench.policy("some", text, podSelector=chosen, ingress=ingress)

    await policy(f"tcp . {INNER}", "TCP", INNER)
    client.sendto(packet(CLIENT + 1, PORT, INIT, 0), (CLUSTER_IP, 0))
    with pytest.raises(TimeoutError):
        await hear(server, QUICKLY_S)
    await policy(f"sctp . {INNER}", "SCTP", INNER)
    client.sendto(packet(CLIENT + 2, PORT, INIT, 0), (CLUSTER_IP, 0))
    assert (await hear(server)).source == CLIENT + 2
