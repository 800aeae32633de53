"""Pods, services and their rules in a real kernel, inside network namespaces thrown away after.

The "node" is a fresh namespace that the test's own thread enters; pods are what `BridgeNetwork`
makes of it; their servers and clients are sockets of this process that were opened inside.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sampan.aio.tasks import Supervisor
from sampan.client.api import Client
from sampan.client.informer import Informers
from sampan.linux import netns
from sampan.linux.mounts import list_mounts
from sampan.linux.namespaces import CLONE_NEWNET, setns, unshare
from sampan.linux.nft import Nft
from sampan.node.config import NodeConfig
from sampan.node.interface import PodAddress
from sampan.node.network import BridgeNetwork
from sampan.proxy.run import Proxy, ProxyConfig
from tests.kit.feed import Feed

pytestmark = pytest.mark.root

POD_CIDR, SERVICE_CIDR = "10.244.0.0/24", "10.96.0.0/16"
CLUSTER_IP, NODE_PORT = "10.96.7.7", 30080
SERVICE = "/api/v1/namespaces/ns/services/web"
SLICE = "/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices/web-1"
NODE_ADDRESS = "192.0.2.9"


@pytest.fixture
def node() -> Iterator[int]:
    """This thread in a network namespace of its own, with an uplink; its descriptor."""
    home = netns.open_own()
    unshare(CLONE_NEWNET)
    inside = netns.open_own()
    try:
        for command in (
            "ip link set lo up",
            "ip link add uplink type bridge",
            "ip link set uplink addrgenmode none",
            f"ip address add {NODE_ADDRESS}/24 dev uplink",
            "ip link set uplink up",
            "ip route add default via 192.0.2.1",
            "nft add table ip somebody-else",
        ):
            subprocess.run(command.split(), check=True)
        yield inside
    finally:
        setns(home, CLONE_NEWNET)
        os.close(inside)
        os.close(home)


def node_config(tmp_path: Path) -> NodeConfig:
    pem = tmp_path / "none.pem"
    return NodeConfig(
        name="node-1", data=tmp_path / "data", run=tmp_path / "run", address=NODE_ADDRESS,
        pod_cidr=POD_CIDR, dns_ip="10.96.0.10", ca_cert=pem, cert=pem, key=pem,
    )  # fmt: skip


def traces() -> list[str]:
    """All that a cluster could leave behind: devices, addresses, routes, rules, mounts."""
    out = []
    for command in ("ip -o address", "ip -o link", "ip route show table all", "nft list ruleset"):
        done = subprocess.run(command.split(), check=True, capture_output=True, text=True)
        out += sorted(done.stdout.splitlines())
    return out + sorted(str(point.target) for point in list_mounts() if point.kind == "nsfs")


def socket_in(pod: PodAddress, node: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    namespace = netns.open_pinned(pod.namespace_path)
    assert namespace is not None
    with netns.inside(namespace, node):
        sock = socket.socket(socket.AF_INET, kind)
    os.close(namespace)
    sock.setblocking(False)
    return sock


@asynccontextmanager
async def web_server(pod: PodAddress, node: int, text: str) -> AsyncIterator[None]:
    """Says `text` and the address it was asked from to each connection on port 8080."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"{text} {writer.get_extra_info('peername')[0]}".encode())
        await writer.drain()
        writer.close()

    sock = socket_in(pod, node)
    sock.bind(("", 8080))
    async with await asyncio.start_server(answer, sock=sock):
        yield


async def ask(address: str, port: int, pod: PodAddress | None, node: int) -> str:
    """What the server behind an address says, asked from a pod or from the node."""
    sock = socket_in(pod, node) if pod else socket.socket()
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    with sock:
        async with asyncio.timeout(5):
            await loop.sock_connect(sock, (address, port))
            return (await loop.sock_recv(sock, 100)).decode()


def service() -> dict:
    return {
        "metadata": {"namespace": "ns", "name": "web"},
        "spec": {
            "type": "NodePort",
            "clusterIP": CLUSTER_IP,
            "ports": [{"name": "http", "port": 80, "nodePort": NODE_PORT, "protocol": "TCP"}],
        },
    }


def endpoint_slice(*addresses: str) -> dict:
    return {
        "metadata": {
            "namespace": "ns",
            "name": "web-1",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [ip], "nodeName": "node-1"} for ip in addresses],
    }


class Bench:
    """A node with its network and proxy, fed by a `Feed`."""

    def __init__(self, tmp_path: Path) -> None:
        self.feed = Feed()
        self.supervisor = Supervisor()
        self.network = BridgeNetwork(node_config(tmp_path), "test")
        informers = Informers(Client(self.feed), self.supervisor)
        config = ProxyConfig("test", "node-1", POD_CIDR, SERVICE_CIDR)
        self.nft = Applied()
        self.proxy = Proxy(informers, config, self.nft)

    async def open(self) -> None:
        await self.network.open()
        self.supervisor.start("proxy", self.proxy.run)
        await self.proxy.ready.wait()

    async def purge(self) -> None:
        await self.supervisor.stop()
        await self.proxy.purge()
        await self.network.purge()


class Applied(Nft):
    """Tells when a transaction is in the kernel."""

    def __init__(self) -> None:
        super().__init__()
        self._news = asyncio.Condition()

    async def apply(self, script: str) -> None:
        await super().apply(script)
        async with self._news:
            self._news.notify_all()

    async def after(self, count: int) -> None:
        async with asyncio.timeout(10), self._news:
            await self._news.wait_for(lambda: self.transactions >= count)


async def test_pods_and_services_reach_each_other(node: int, tmp_path: Path) -> None:
    before = traces()
    bench = Bench(tmp_path)
    await bench.open()
    try:
        one, two = await bench.network.attach("one"), await bench.network.attach("two")
        async with web_server(one, node, "one"), web_server(two, node, "two"):
            assert await ask(two.ip, 8080, one, node) == f"two {one.ip}"
            assert await ask(one.ip, 8080, None, node) == "one 10.244.0.1"
            await _check_service(bench, node, one, two)
            await _check_refusals(bench, node, one)
            await _check_healing(bench, node, one, two)
    finally:
        await bench.purge()
    assert traces() == before


async def _check_service(bench: Bench, node: int, one: PodAddress, two: PodAddress) -> None:
    done = bench.nft.transactions
    await bench.feed.put(SLICE, endpoint_slice(two.ip))
    await bench.feed.put(SERVICE, service())
    await bench.nft.after(done + 1)
    assert await ask(CLUSTER_IP, 80, one, node) == f"two {one.ip}"
    # A pod reaches itself through its service, and sees the node's address as the sender.
    assert (await ask(CLUSTER_IP, 80, two, node)).startswith("two ")
    assert (await ask(CLUSTER_IP, 80, None, node)).startswith("two ")
    for address in (NODE_ADDRESS, "127.0.0.1", bench.network.gateway):
        assert (await ask(address, NODE_PORT, None, node)).startswith("two ")
    assert (await ask(NODE_ADDRESS, NODE_PORT, one, node)).startswith("two ")
    done = bench.nft.transactions
    await bench.feed.put(SLICE, endpoint_slice(one.ip, two.ip))
    await bench.nft.after(done + 1)
    heard = {(await ask(CLUSTER_IP, 80, one, node)).split()[0] for _ in range(30)}
    assert heard == {"one", "two"}


async def _check_refusals(bench: Bench, node: int, one: PodAddress) -> None:
    done = bench.nft.transactions
    await bench.feed.put(SLICE, endpoint_slice())
    await bench.nft.after(done + 1)
    for address, port, pod in (
        (CLUSTER_IP, 80, one),
        (CLUSTER_IP, 80, None),
        (CLUSTER_IP, 81, one),
        ("10.96.9.9", 80, one),
        (NODE_ADDRESS, NODE_PORT, one),
        ("127.0.0.1", NODE_PORT, None),
    ):
        with pytest.raises(ConnectionRefusedError):
            await ask(address, port, pod, node)
    # An address of the pod network that no pod has. (A pod that has asked nothing yet: the kernel
    # rations these answers.)
    three = await bench.network.attach("three")
    with pytest.raises(OSError, match="Connect call failed") as error:
        await ask("10.244.0.200", 80, three, node)
    assert error.value.errno == errno.EHOSTUNREACH


async def _check_healing(bench: Bench, node: int, one: PodAddress, two: PodAddress) -> None:
    done = bench.nft.transactions
    await bench.feed.put(SLICE, endpoint_slice(two.ip))
    await bench.nft.after(done + 1)
    # The change left a chain behind, which goes in a transaction of its own.
    done, rebuilds = bench.nft.transactions, bench.proxy.rebuilds
    flush = await asyncio.create_subprocess_exec("nft", "delete table ip sampan-test")
    await flush.wait()
    await bench.nft.after(done + 1)
    assert await ask(CLUSTER_IP, 80, one, node) == f"two {one.ip}"
    assert bench.proxy.rebuilds == rebuilds + 1
    rules = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True)
    assert "somebody-else" in rules.stdout


async def test_a_pod_cannot_reach_the_nodes_loopback_nor_lie_about_its_address(
    node: int, tmp_path: Path
) -> None:
    network = BridgeNetwork(node_config(tmp_path), "test")
    await network.open()
    try:
        one, two = await network.attach("one"), await network.attach("two")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as local:
            local.bind(("127.0.0.1", 5353))
            local.settimeout(0.2)
            namespace = netns.open_pinned(one.namespace_path)
            assert namespace is not None
            with netns.inside(namespace, node):
                for command in (
                    "ip address del 127.0.0.1/8 dev lo",
                    "ip route del table local 127.0.0.0/8",
                    f"ip address add {two.ip}/32 dev eth0",
                ):
                    subprocess.run(command.split(), check=False, stderr=subprocess.DEVNULL)
                subprocess.run(
                    ["ip", "route", "add", "127.0.0.1/32", "via", network.gateway], check=True
                )
            os.close(namespace)
            with socket_in(one, node, socket.SOCK_DGRAM) as liar:
                liar.bind((one.ip, 0))
                liar.sendto(b"x", ("127.0.0.1", 5353))
            with pytest.raises(TimeoutError):
                local.recv(10)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gateway:
            gateway.bind((network.gateway, 5353))
            gateway.settimeout(0.2)
            with socket_in(one, node, socket.SOCK_DGRAM) as liar:
                liar.bind((two.ip, 0))
                liar.sendto(b"x", (network.gateway, 5353))
            with pytest.raises(TimeoutError):
                gateway.recv(10)
            with socket_in(one, node, socket.SOCK_DGRAM) as honest:
                honest.sendto(b"y", (network.gateway, 5353))
            assert gateway.recv(10) == b"y"
    finally:
        await network.purge()


async def test_attach_is_fast_and_never_blocks_the_loop(node: int, tmp_path: Path) -> None:
    network = BridgeNetwork(node_config(tmp_path), "test")
    await network.open()
    took = []
    try:
        for number in range(20):
            began = time.perf_counter()
            await network.attach(f"pod-{number}")
            took.append(time.perf_counter() - began)
    finally:
        await network.purge()
    took.sort()
    print(f"attach: p50 {took[10] * 1e3:.1f} ms, slowest {took[-1] * 1e3:.1f} ms")
    # 3 ms on an idle machine; the bound leaves room for a busy one.
    assert took[10] < 0.03


KILLED = """
import asyncio, sys
from pathlib import Path
from sampan.node.network import BridgeNetwork
from tests.system.test_network import node_config

async def main():
    network = BridgeNetwork(node_config(Path(sys.argv[1])), "test")
    await network.open()
    print("open", flush=True)
    for number in range(1000):
        await network.attach(f"pod-{number % 20}")
        if number % 20 == 19:
            for other in range(0, 20, 2):
                await network.detach(f"pod-{other}")

asyncio.run(main())
"""


async def test_kill_9_at_any_instant_loses_no_address_and_leaves_nothing(
    node: int, tmp_path: Path
) -> None:
    before = traces()
    for turn in range(5):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)],
            stdout=subprocess.PIPE, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        with child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(0.003 + 0.011 * turn)
            child.send_signal(signal.SIGKILL)
        records = {
            path.readlink().name: path.name for path in (tmp_path / "data/addresses").iterdir()
        }
        network = BridgeNetwork(node_config(tmp_path), "test")
        await network.open()
        pods = {uid: await network.attach(uid) for uid in records}
        assert {uid: pod.ip for uid, pod in pods.items()} == records
        for pod in pods.values():
            with socket_in(pod, node, socket.SOCK_DGRAM) as sock:
                sock.connect((network.gateway, 9))
                assert sock.getsockname()[0] == pod.ip
        await network.retain({"pod-1"})
        assert [path.name for path in (tmp_path / "run/netns").iterdir()] in ([], ["pod-1"])
        await network.close()
    network = BridgeNetwork(node_config(tmp_path), "test")
    await network.purge()
    assert traces() == before
