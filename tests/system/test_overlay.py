"""The way between machines in a real kernel: namespaces on a wire, both families over either."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sampan.aio.tasks import Supervisor
from sampan.client.api import Client
from sampan.client.informer import Informers
from sampan.daemon.wireguardkeys import ensure_wireguard
from sampan.daemon.wiring import read_keys
from sampan.linux import netns
from sampan.linux.namespaces import CLONE_NEWNET, setns
from sampan.linux.netlink import Netlink, ignoring
from sampan.linux.rtnetlink import Veth, Vxlan, delete_link, new_veth
from sampan.node.overlay import PORT, UNDERLAY, Overlay, Place
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


class Machine(NamedTuple):
    number: int
    family: int
    folder: Path


def node(number: int, family: int) -> dict[str, Any]:
    meta = {"name": f"n{number}", "annotations": {UNDERLAY: WIRE[family].format(number)}}
    shares = [share.format(number) for share in SHARES]
    return {"metadata": meta, "spec": {"podCIDR": shares[0], "podCIDRs": shares}}


def make_overlay(feed: Feed, informers: Informers, machine: Machine) -> Overlay:
    number, folder = machine.number, machine.folder
    own = (GATEWAYS[0].format(number), GATEWAYS[1].format(number))
    wire = WIRE[machine.family].format(number)
    device = Vxlan(f"sx-t{number}", pod_mac(own[0]), 7, wire, PORT, 0)

    async def announce(annotations: Mapping[str, str | None]) -> None:
        said = node(number, machine.family)
        said["metadata"]["annotations"] |= {k: v for k, v in annotations.items() if v}
        await feed.put(f"/api/v1/nodes/n{number}", said)

    # One is heard where the cluster says, the other elsewhere.
    port = 51000 if number == 2 else 0
    place = Place(f"n{number}", own, folder, read_keys(folder), port)
    return Overlay(informers, place, device, announce)


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
            async with asyncio.timeout(5):
                _, seen = await loop.sock_recvfrom(server, 10)
            return str(seen[0])


def routes(device: str) -> set[str]:
    """Networks that leave by a device."""
    found = []
    for family in ("-4", "-6"):
        found += json.loads(run(f"ip -j {family} route show dev {device}"))
    return {str(route["dst"]) for route in found}


def counted(device: str) -> int:
    """Packets that were sent by a device."""
    (link,) = json.loads(run(f"ip -j -s link show dev {device}"))
    return int(link["stats64"]["tx"]["packets"])


async def begin(feed: Feed, supervisor: Supervisor, machine: Machine, namespace: int) -> None:
    """The overlay of a machine. Its thread is born in the namespace that this one is in."""
    await feed.put(f"/api/v1/nodes/n{machine.number}", node(machine.number, machine.family))
    setns(namespace, CLONE_NEWNET)
    # A set of informers each: they are supervised by names.
    inner = Supervisor()
    overlay = make_overlay(feed, Informers(Client(feed), inner), machine)
    supervisor.start(f"overlay {machine.number}", overlay.run)
    supervisor.start(f"informers {machine.number}", inner.wait)
    async with asyncio.timeout(5):
        await overlay.ready.wait()


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("family", [4, 6])
async def test_both_families_cross_a_wire_of_either(
    wire: list[int], tmp_path: Path, family: int, secure: bool
) -> None:
    if secure and shutil.which("wireguard-go") is None:
        pytest.skip("neither this kernel nor a program has WireGuard")
    feed, supervisor = Feed(), Supervisor()
    try:
        for number, namespace in enumerate(wire, 1):
            folder = tmp_path / str(number)
            folder.mkdir()
            if secure:
                ensure_wireguard(folder)
            await begin(feed, supervisor, Machine(number, family, folder), namespace)
        setns(wire[0], CLONE_NEWNET)
        device, other = ("sx~t1", "sx-t1") if secure else ("sx-t1", "sx~t1")
        await until(lambda: len(routes(device)) == 5)
        for own, far in zip(GATEWAYS, GATEWAYS, strict=True):
            assert await ask((wire[0], wire[1]), far.format(2)) == own.format(1)
            assert await ask((wire[1], wire[0]), far.format(1)) == own.format(2)
        setns(wire[0], CLONE_NEWNET)
        if secure:
            assert counted(other) == 0
        await feed.remove("/api/v1/nodes/n2")
        # The kernel's own route to the device's address of IPv6 stays.
        await until(lambda: routes(device) == {GATEWAYS[1].format(1)})
    finally:
        for number, namespace in enumerate(wire, 1):
            setns(namespace, CLONE_NEWNET)
            # The program ends with its device, which keeps it in the namespace.
            with Netlink() as route, ignoring(errno.ENODEV):
                route.request(delete_link(f"sx~t{number}"))
        await supervisor.stop()
