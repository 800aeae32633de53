"""The way between machines in a real kernel: namespaces on a wire, both families over either."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sampan.aio.tasks import Supervisor
from sampan.client.api import Client
from sampan.client.informer import Informers
from sampan.linux import netns
from sampan.linux.namespaces import CLONE_NEWNET, setns
from sampan.linux.netlink import Netlink
from sampan.linux.rtnetlink import Veth, Vxlan, new_veth
from sampan.node.overlay import PORT, UNDERLAY, Overlay
from sampan.node.plumbing import pod_mac
from tests.kit.feed import Feed
from tests.kit.wire import until
from tests.system.test_network import run

pytestmark = pytest.mark.root

WIRE = {4: "192.0.2.{}", 6: "2001:db8::{}"}
SHARES = ("10.244.{}.0/24", "fd00:10:244:{}::/64")
GATEWAYS = ("10.244.{}.1", "fd00:10:244:{}::1")


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[list[int]]:
    """Two machines' namespaces, with addresses of both families on the wire between them."""
    home = netns.open_own()
    with ExitStack() as stack:
        stack.callback(os.close, home)
        stack.callback(setns, home, CLONE_NEWNET)
        made = []
        for number in (1, 2):
            path = tmp_path / f"net{number}"
            made.append(netns.create(path, home))
            stack.callback(netns.remove, path)
            stack.callback(os.close, made[-1])
        ends = (bytes.fromhex("0a0000000001"), bytes.fromhex("0a0000000002"))
        with netns.inside(made[0], home), Netlink() as route:
            route.request(new_veth(Veth("wire", ends[0], "wire", ends[1], made[1], 1500)))
        for number, namespace in enumerate(made, 1):
            with netns.inside(namespace, home):
                for family in WIRE.values():
                    bits = 64 if ":" in family else 24
                    run(f"ip address add {family.format(number)}/{bits} dev wire nodad")
                run("ip link set wire up")
        yield made


def node(number: int, family: int) -> dict[str, Any]:
    meta = {"name": f"n{number}", "annotations": {UNDERLAY: WIRE[family].format(number)}}
    shares = [share.format(number) for share in SHARES]
    return {"metadata": meta, "spec": {"podCIDR": shares[0], "podCIDRs": shares}}


def make_overlay(informers: Informers, number: int, family: int, folder: Path) -> Overlay:
    own = (GATEWAYS[0].format(number), GATEWAYS[1].format(number))
    device = Vxlan("sx-test", pod_mac(own[0]), 7, WIRE[family].format(number), PORT, 0)
    return Overlay(informers, f"n{number}", own, device, folder)


async def ask(way: tuple[int, int], address: str) -> str:
    """Which address `way`'s second namespace sees of its first, asked at `address`."""
    loop = asyncio.get_running_loop()
    kind = socket.AF_INET6 if ":" in address else socket.AF_INET
    setns(way[1], CLONE_NEWNET)
    with socket.socket(kind, socket.SOCK_DGRAM) as server:
        setns(way[0], CLONE_NEWNET)
        with socket.socket(kind, socket.SOCK_DGRAM) as client:
            server.setblocking(False)
            server.bind((address, 7))
            client.sendto(b"?", (address, 7))
            async with asyncio.timeout(2):
                _, seen = await loop.sock_recvfrom(server, 10)
            return str(seen[0])


def routes() -> set[str]:
    """Networks that leave by the overlay."""
    found = []
    for family in ("-4", "-6"):
        found += json.loads(run(f"ip -j {family} route show dev sx-test"))
    return {str(route["dst"]) for route in found}


@pytest.mark.parametrize("family", [4, 6])
async def test_both_families_cross_a_wire_of_either(
    wire: list[int], tmp_path: Path, family: int
) -> None:
    feed, supervisor = Feed(), Supervisor()
    informers, overlays = Informers(Client(feed), supervisor), []
    try:
        for number, namespace in enumerate(wire, 1):
            await feed.put(f"/api/v1/nodes/n{number}", node(number, family))
            # Its thread is born in the namespace that this one is in.
            setns(namespace, CLONE_NEWNET)
            folder = tmp_path / str(number)
            folder.mkdir()
            overlays.append(make_overlay(informers, number, family, folder))
            supervisor.start(f"overlay {number}", overlays[-1].run)
            async with asyncio.timeout(5):
                await overlays[-1].ready.wait()
        setns(wire[0], CLONE_NEWNET)
        await until(lambda: len(routes()) == 5)
        for own, far in zip(GATEWAYS, GATEWAYS, strict=True):
            assert await ask((wire[0], wire[1]), far.format(2)) == own.format(1)
            assert await ask((wire[1], wire[0]), far.format(1)) == own.format(2)
        await feed.remove("/api/v1/nodes/n2")
        setns(wire[0], CLONE_NEWNET)
        # The kernel's own route to the device's address of IPv6 stays.
        await until(lambda: routes() == {GATEWAYS[1].format(1)})
    finally:
        await supervisor.stop()
