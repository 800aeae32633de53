"""Pods with addresses of both families in a real kernel: services, node ports, policies of IPv6."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from sampan.aio.tasks import Supervisor
from sampan.client.api import Client
from sampan.client.informer import Informers
from sampan.linux import netns
from sampan.node.interface import PodAddress
from sampan.node.ipv6 import let_through
from sampan.node.network import BridgeNetwork
from sampan.proxy.families import IPV4, IPV6
from sampan.proxy.policy.run import PolicyKeeper
from sampan.proxy.run import Proxy, ProxyConfig
from tests.kit.feed import Feed
from tests.system.test_network import (
    NODE_PORT,
    POD_CIDR,
    SERVICE,
    SERVICE_CIDR,
    SLICE,
    Applied,
    node,  # noqa: F401 - a fixture
    node_config,
    run,
    traces,
)

pytestmark = pytest.mark.root

PODS, SERVICES, SHARE = "fd00:10:244::/56", "fd00:10:96::/112", "fd00:10:244::/64"
CLUSTER_IP, NODE_ADDRESS = "fd00:10:96::7", "2001:db8::9"
POLICY = "/apis/networking.k8s.io/v1/namespaces/ns/networkpolicies/deny"


class Bench:
    def __init__(self, tmp_path: Path) -> None:
        self.feed, self.supervisor = Feed(), Supervisor()
        config = replace(node_config(tmp_path), pod_cidr6=SHARE)
        self.network = BridgeNetwork(
            config, "test", service_cidr=SERVICE_CIDR, ipv6=(PODS, SERVICES)
        )
        informers = Informers(Client(self.feed), self.supervisor)
        self.nft, self.rules = Applied(), Applied()
        self.proxy = Proxy(
            informers,
            ProxyConfig("test", "node-1", POD_CIDR, SERVICE_CIDR, SHARE, SERVICES),
            self.nft,
        )
        self.keeper = PolicyKeeper(informers, "test", "node-1", self.rules, families=(IPV4, IPV6))

    async def open(self) -> None:
        await self.network.open()
        self.supervisor.start("proxy", self.proxy.run)
        self.supervisor.start("policies", self.keeper.run)
        await asyncio.gather(self.proxy.ready.wait(), self.keeper.ready.wait())

    async def purge(self) -> None:
        await self.supervisor.stop()
        await self.keeper.purge()
        await self.proxy.purge()
        await self.network.purge()


def socket_in(pod: PodAddress | None, home: int) -> socket.socket:
    if pod is None:
        sock = socket.socket(socket.AF_INET6)
    else:
        namespace = netns.open_pinned(pod.namespace_path)
        assert namespace is not None
        with netns.inside(namespace, home):
            sock = socket.socket(socket.AF_INET6)
        os.close(namespace)
    sock.setblocking(False)
    return sock


@asynccontextmanager
async def web_server(pod: PodAddress, home: int) -> Any:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(writer.get_extra_info("peername")[0].encode())
        writer.close()

    sock = socket_in(pod, home)
    sock.bind(("::", 8080))
    async with await asyncio.start_server(answer, sock=sock):
        yield


async def ask(address: str, port: int, pod: PodAddress | None, home: int) -> str:
    """From which address the server saw us."""
    loop = asyncio.get_running_loop()
    with socket_in(pod, home) as sock:
        async with asyncio.timeout(5):
            await loop.sock_connect(sock, (address, port))
            return (await loop.sock_recv(sock, 100)).decode()


async def test_pods_services_and_policies_of_ipv6(node: int, tmp_path: Path) -> None:  # noqa: F811
    run("sysctl -q -w net.ipv6.conf.all.forwarding=1")
    run(f"ip address add {NODE_ADDRESS}/64 dev uplink nodad")
    before = traces(tmp_path)
    bench = Bench(tmp_path)
    await bench.open()
    try:
        one, two = await bench.network.attach("one"), await bench.network.attach("two")
        assert (one.ip, one.other_ip) == ("10.244.0.2", "fd00:10:244::2")
        async with web_server(two, node):
            assert await ask(two.other_ip, 8080, one, node) == one.other_ip
            assert await ask(two.other_ip, 8080, None, node) == "fd00:10:244::1"
            await _check_service(bench, node, one, two)
            await _check_policy(bench, node, one, two)
            await _check_borrowed_address(node, one, two)
    finally:
        await bench.purge()
    assert traces(tmp_path) == before


async def _check_service(bench: Bench, home: int, one: PodAddress, two: PodAddress) -> None:
    port = {"name": "http", "port": 80, "nodePort": NODE_PORT, "protocol": "TCP"}
    meta = {"namespace": "ns", "name": "web"}
    spec = {"type": "NodePort", "clusterIP": CLUSTER_IP, "ports": [port]}
    labels = {"kubernetes.io/service-name": "web"}
    found = {
        "metadata": {"namespace": "ns", "name": "web-1", "labels": labels},
        "addressType": "IPv6",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [two.other_ip], "nodeName": "node-1"}],
    }
    async with bench.nft.applies(f"dnat ip6 to [{two.other_ip}]:8080"):
        await bench.feed.put(SLICE, found)
        await bench.feed.put(SERVICE, {"metadata": meta, "spec": spec})
    assert await ask(CLUSTER_IP, 80, one, home) == one.other_ip
    assert await ask(CLUSTER_IP, 80, two, home) == "fd00:10:244::1"
    assert await ask(CLUSTER_IP, 80, None, home)
    assert await ask(NODE_ADDRESS, NODE_PORT, one, home) == one.other_ip
    # By a listener of our own: the kernel routes nothing from ::1 to a pod.
    assert await ask("::1", NODE_PORT, None, home) == "fd00:10:244::1"
    with pytest.raises(ConnectionRefusedError):
        await ask("fd00:10:96::8", 80, one, home)


async def _check_policy(bench: Bench, home: int, one: PodAddress, two: PodAddress) -> None:
    pod = {
        "metadata": {"namespace": "ns", "name": "two", "uid": "two", "labels": {}},
        "spec": {"nodeName": "node-1", "containers": []},
        "status": {"phase": "Running", "podIP": two.ip,
                   "podIPs": [{"ip": two.ip}, {"ip": two.other_ip}]},
    }  # fmt: skip
    policy = {
        "metadata": {"namespace": "ns", "name": "deny"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": []},
    }
    async with bench.rules.applies(f"{two.other_ip} : jump"):
        await bench.feed.put("/api/v1/namespaces/ns", {"metadata": {"name": "ns"}})
        await bench.feed.put("/api/v1/namespaces/ns/pods/two", pod)
        await bench.feed.put(POLICY, policy)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.25):
            await ask(two.other_ip, 8080, one, home)
    assert await ask(two.other_ip, 8080, None, home)
    allowed = {"from": [{"ipBlock": {"cidr": f"{one.other_ip}/127"}}]}
    policy["spec"]["ingress"] = [allowed]
    async with bench.rules.applies(one.other_ip):
        await bench.feed.put(POLICY, policy)
    assert await ask(two.other_ip, 8080, one, home) == one.other_ip


async def _check_borrowed_address(home: int, one: PodAddress, two: PodAddress) -> None:
    """A pod that takes an address which is not its own is not heard."""
    namespace = netns.open_pinned(one.namespace_path)
    assert namespace is not None
    with netns.inside(namespace, home):
        run("ip address add 2001:db8::77/128 dev eth0 nodad")
    os.close(namespace)
    with socket_in(one, home) as sock:
        sock.bind(("2001:db8::77", 0))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.25):
                await asyncio.get_running_loop().sock_connect(sock, (two.other_ip, 8080))


def test_devices_go_on_taking_router_advertisements(tmp_path: Path) -> None:
    for name, value in (("all", "1"), ("eth0", "1"), ("eth1", "0")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "accept_ra").write_text(value)
    (tmp_path / "all" / "forwarding").write_text("0\n")
    let_through(tmp_path)
    assert (tmp_path / "all" / "forwarding").read_text() == "1"
    assert (tmp_path / "eth0" / "accept_ra").read_text() == "2"
    assert (tmp_path / "eth1" / "accept_ra").read_text() == "0"
