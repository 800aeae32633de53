"""Network policies in a real kernel: pods of a namespace thrown away after, one scene."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sampan.linux.nftwatch import table_handle
from sampan.proxy.policy.run import PolicyKeeper
from tests.system.test_network import (
    CLUSTER_IP,
    NODE_ADDRESS,
    NODE_PORT,
    SERVICE,
    SLICE,
    Applied,
    Bench,
    _until_made_anew,
    ask,
    endpoint_slice,
    node,  # noqa: F401 - a fixture
    run,
    service,
    socket_in,
    traces,
    web_server,
)

pytestmark = pytest.mark.root

TABLE = "sampan-test.policy"
POLICIES = "/apis/networking.k8s.io/v1/namespaces/ns/networkpolicies"
QUICKLY_S = 0.25


class Guarded(Bench):
    """A bench whose pods are under policies."""

    def __init__(self, tmp_path: Path) -> None:
        super().__init__(tmp_path)
        self.rules = Applied()
        self.keeper = PolicyKeeper(self.informers, "test", "node-1", self.rules)
        self.network.admit = self.keeper.admit

    async def open(self) -> None:
        await super().open()
        await self.feed.put("/api/v1/namespaces/ns", {"metadata": {"name": "ns"}})
        self.supervisor.start("policies", self.keeper.run)
        await self.keeper.ready.wait()

    async def purge(self) -> None:
        await self.supervisor.stop()
        await self.keeper.purge()
        await super().purge()

    async def pod(self, name: str, **labels: str) -> Any:
        """A pod that the API server knows before its node gives it an address."""
        pod = {
            "metadata": {"namespace": "ns", "name": name, "uid": name, "labels": labels},
            "spec": {"nodeName": "node-1", "containers": []},
        }
        await self.feed.put(f"/api/v1/namespaces/ns/pods/{name}", pod)
        address = await self.network.attach(name)
        pod["status"] = {"phase": "Running", "podIP": address.ip}
        await self.feed.put(f"/api/v1/namespaces/ns/pods/{name}", pod)
        return address

    async def reviewed(self) -> None:
        """Until connections have been judged by the rules there are."""
        await self.keeper._settled()
        await self.keeper._settled()

    async def policy(self, name: str, text: str, **spec: Any) -> None:
        async with self.rules.applies(text):
            obj = {
                "metadata": {"namespace": "ns", "name": name},
                "spec": {"podSelector": {}, **spec},
            }
            await self.feed.put(f"{POLICIES}/{name}", obj)


async def refused(address: str, port: int, pod: Any, home: int) -> bool:
    with socket_in(pod, home) as sock:
        try:
            async with asyncio.timeout(QUICKLY_S):
                await asyncio.get_running_loop().sock_connect(sock, (address, port))
        except TimeoutError:
            return True
    return False


async def test_policies_let_through_what_they_say(node: int, tmp_path: Path) -> None:  # noqa: F811
    before = traces(tmp_path)
    bench = Guarded(tmp_path)
    await bench.open()
    try:
        web, friend = await bench.pod("web", app="web"), await bench.pod("friend", app="friend")
        stranger = await bench.pod("stranger")
        assert TABLE not in run("nft list tables")
        async with web_server(web, node, "web"), web_server(stranger, node, "stranger"):
            await _check_ingress(bench, node, web, friend, stranger)
            await _check_egress(bench, node, web, friend, stranger)
            await _check_newcomers(bench, node, web)
            await _check_healing(bench, node, web, friend, stranger)
            await _check_the_end(bench, node, web, stranger)
    finally:
        await bench.purge()
    assert traces(tmp_path) == before


async def _check_ingress(bench: Guarded, home: int, web: Any, friend: Any, other: Any) -> None:
    async with bench.nft.applies(f"dnat ip to {web.ip}:8080"):
        await bench.feed.put(SLICE, endpoint_slice(web.ip))
        await bench.feed.put(SERVICE, service())
    await _check_open(bench, home, web, other)
    assert await refused(web.ip, 8080, friend, home)
    assert await refused(CLUSTER_IP, 80, friend, home)
    # The node reaches its pods (probes), and a pod itself, also through its service.
    assert (await ask(web.ip, 8080, None, home)).startswith("web")
    assert (await ask("127.0.0.1", NODE_PORT, None, home)).startswith("web")
    assert (await ask(CLUSTER_IP, 80, web, home)).startswith("web")
    peer = {"podSelector": {"matchLabels": {"app": "friend"}}}
    port = {"protocol": "TCP", "port": 8079, "endPort": 8081}
    chosen = {"matchLabels": {"app": "web"}}
    await bench.policy(
        "allow", "8079-8081", podSelector=chosen, policyTypes=["Ingress"],
        ingress=[{"from": [peer], "ports": [port]}],
    )  # fmt: skip
    assert await ask(web.ip, 8080, friend, home) == f"web {friend.ip}"
    assert await ask(CLUSTER_IP, 80, friend, home) == f"web {friend.ip}"
    assert await ask(NODE_ADDRESS, NODE_PORT, friend, home)
    assert await refused(web.ip, 8080, other, home)


async def _check_open(bench: Guarded, home: int, web: Any, other: Any) -> None:
    """What is open ends when a policy does not want it, in both directions, and goes on when one
    does again; what the node has open is none of its affair."""
    loop, bit = asyncio.get_running_loop(), "0x08000000"
    with ExitStack() as stack:
        listener = stack.enter_context(socket_in(web, home))
        listener.bind(("", 8081))
        listener.listen()
        pairs = []
        for client in (socket_in(other, home), socket.socket()):
            stack.enter_context(client).setblocking(False)
            await loop.sock_connect(client, (web.ip, 8081))
            served, _ = await loop.sock_accept(listener)
            pairs.append((client, stack.enter_context(served)))
        await bench.policy("deny", web.ip, policyTypes=["Ingress"])
        assert bit in run(f"nft list table ip {TABLE}")
        await bench.reviewed()
        (client, served), (probe, probed) = pairs
        for sender, receiver in ((probe, probed), (probed, probe)):
            assert await passes(sender, receiver)
        for sender, receiver in ((served, client), (client, served)):
            assert not await passes(sender, receiver)
        every: list[Any] = [{"from": [{"podSelector": {}}]}]
        await bench.policy("again", "return", policyTypes=["Ingress"], ingress=every)
        for receiver in (client, served):
            async with asyncio.timeout(5):
                assert await loop.sock_recv(receiver, 100)
        mark = len(bench.rules.scripts)
        await bench.feed.remove(f"{POLICIES}/again")
        await bench.rules.settled("delete element", mark)


async def passes(sender: socket.socket, receiver: socket.socket) -> bool:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sender, b"?")
    try:
        async with asyncio.timeout(QUICKLY_S):
            return bool(await loop.sock_recv(receiver, 100))
    except TimeoutError:
        return False


async def _check_egress(bench: Guarded, home: int, web: Any, friend: Any, other: Any) -> None:
    block = {"ipBlock": {"cidr": "10.244.0.0/16", "except": [f"{other.ip}/32"]}}
    chosen = {"matchLabels": {"app": "friend"}}
    await bench.policy(
        "leave", "jump out-", podSelector=chosen, policyTypes=["Egress"],
        egress=[{"to": [block]}],
    )  # fmt: skip
    assert await ask(web.ip, 8080, friend, home) == f"web {friend.ip}"
    await bench.feed.remove(f"{POLICIES}/deny")
    await bench.rules.settled("delete element")
    assert await refused(other.ip, 8080, friend, home)
    assert (await ask(other.ip, 8080, web, home)).startswith("stranger")


async def _check_newcomers(bench: Guarded, home: int, web: Any) -> None:
    """A pod's rules are there before it is, and cost elements of sets alone."""
    rebuilds = bench.keeper.rebuilds
    mark = len(bench.rules.scripts)
    late = await bench.pod("late", app="friend")
    lines = [line for script in bench.rules.scripts[mark:] for line in script.splitlines()]
    assert lines
    assert all(line.startswith("add element") for line in lines)
    assert await ask(web.ip, 8080, late, home) == f"web {late.ip}"
    assert bench.keeper.rebuilds == rebuilds


async def _check_healing(bench: Guarded, home: int, web: Any, friend: Any, other: Any) -> None:
    handle = table_handle(TABLE)
    run("nft flush ruleset")
    run("nft add table ip somebody-else")
    await _until_made_anew(TABLE, handle)
    assert await refused(web.ip, 8080, other, home)
    assert await ask(web.ip, 8080, friend, home) == f"web {friend.ip}"
    assert "somebody-else" in run("nft list tables")


async def _check_the_end(bench: Guarded, home: int, web: Any, other: Any) -> None:
    mark = len(bench.rules.scripts)
    for name in ("allow", "leave"):
        await bench.feed.remove(f"{POLICIES}/{name}")
    await bench.rules.settled("delete table", mark)
    assert TABLE not in run("nft list tables")
    assert (await ask(web.ip, 8080, other, home)).startswith("web")
