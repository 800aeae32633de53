"""What comes while something else is awaited is neither lost nor in its way."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from sampan.client.api import Client
from sampan.node.agent import Agent
from sampan.node.channels import SpdyChannels
from sampan.node.config import NodeConfig
from sampan.node.csi.registry import Homes, Registry
from sampan.node.network import BridgeNetwork
from sampan.node.providers import Providers
from sampan.node.pulse import Pulse
from sampan.node.volumes import local
from sampan.node.volumes.kubelet import Kubelet
from sampan.node.volumes.local import LocalVolumes
from sampan.runtime.interface import RuntimeFailure
from tests.kit.clock import FakeClock, settle
from tests.kit.node import FakeApi
from tests.kit.onenode import PODS, Node, no_server
from tests.kit.runtime import FakeKernel

NAME = "pvc-62bb990e-6e3e-4d0c-a80c-56bde485be73"


def config(tmp: Path) -> NodeConfig:
    return NodeConfig(
        name="n1", data=tmp, run=tmp / "run", address="192.168.1.1", pod_cidr="10.244.0.0/24",
        dns_ip="", ca_cert=tmp, cert=tmp, key=tmp,
    )  # fmt: skip


async def test_a_beat_before_its_waiter_began_is_heard() -> None:
    pulse = Pulse(FakeClock())
    waits = [asyncio.ensure_future(pulse.wait()), asyncio.ensure_future(pulse.wait(60))]
    pulse.beat()
    await settle()
    assert all(task.done() for task in waits)


async def test_trouble_that_comes_while_the_node_speaks_is_told_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_server(monkeypatch)
    node = Node(tmp_path)
    async with node.running() as agent:
        patch = node.api._patch

        def interrupted(path: str, body: Any) -> Any:
            if "leases" in path and not agent.registration.trouble:
                agent.registration.tell_trouble("going down")
            return patch(path, body)

        monkeypatch.setattr(node.api, "_patch", interrupted)
        await node.clock.advance(10)
        ready = node.api.objects["/api/v1/nodes/n1"]["status"]["conditions"][-1]
        assert (ready["status"], ready["message"]) == ("False", "going down")


async def test_a_plugin_that_begins_anew_while_another_goes_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "plugins_registry"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("b.sock")
    kubelet = Kubelet(tmp_path, FakeKernel(), tmp_path)
    around = Client(FakeApi()), FakeClock()
    homes: Any = Homes(lambda: None, lambda: None)  # type: ignore[arg-type,return-value]
    registry = Registry(tmp_path, ("n1", lambda: ""), around, kubelet, homes)
    registry._names = {"a.sock": ("CSIPlugin", "a"), "b.sock": ("CSIPlugin", "b")}
    asked: list[str] = []

    async def remove(name: str) -> None:
        del registry._names[name]
        if name == "a.sock":
            # What the kernel tells when the other's socket is made anew.
            registry._gone.add("b.sock")

    async def add(name: str) -> None:
        asked.append(name)
        registry._names[name] = ("CSIPlugin", name)

    monkeypatch.setattr(registry, "_remove", remove)
    monkeypatch.setattr(registry, "_add", add)
    for _ in range(2):
        await registry._settle({})
    assert asked == ["b.sock"]


async def test_changes_of_nftables_are_looked_at_once_for_all_that_were_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, looks, go_on = BridgeNetwork(config(tmp_path), "c"), [], threading.Event()

    def heal() -> str:
        looks.append("look")
        go_on.wait(5)
        return ""

    monkeypatch.setattr(network._plumbing, "heal", heal)
    watch: Any = type("Watch", (), {"drain": lambda self: None})()
    monkeypatch.setattr(network, "_watch", watch)
    for _ in range(100):
        network._hear()
        await asyncio.sleep(0)
    go_on.set()
    assert network._healing is not None
    await network._healing
    assert len(looks) == 2
    network._worker.shutdown()


async def test_a_pod_that_goes_does_not_wait_for_another_s_file_system(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Slow(FakeKernel):
        def mount_device(self, *arguments: Any) -> None:
            begun.set()
            go_on.wait(5)
            super().mount_device(*arguments)

    async def report() -> None: ...

    clock = FakeClock()
    providers = Providers(config(tmp_path), Client(FakeApi()), Slow(), clock, report)
    volume = {"metadata": {"name": "v"}, "spec": {"local": {"path": "/dev/x"}}}
    mounting = asyncio.create_task(asyncio.to_thread(providers.devices.mount, "a", volume))
    await asyncio.to_thread(begun.wait, 5)
    await providers.release("b")
    leaving = asyncio.create_task(providers.release("a"))
    await settle()
    assert not mounting.done()
    go_on.set()
    await asyncio.gather(mounting, leaving)
    assert providers.devices.users() == set()


async def test_a_volume_that_is_asked_for_again_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, go_on, make = [], threading.Event(), local._make

    def slow(path: Path, size_bytes: int, origin: Path | None) -> None:
        made.append(path)
        go_on.wait(5)
        make(path, size_bytes, origin)

    monkeypatch.setattr(local, "_make", slow)
    volumes = LocalVolumes(tmp_path, FakeKernel())
    asked = [asyncio.create_task(volumes.make(NAME)) for _ in range(2)]
    going = asyncio.create_task(volumes.remove(NAME))
    await settle()
    go_on.set()
    await asyncio.gather(*asked, going)
    assert made == [tmp_path / "storage" / NAME]
    assert not made[0].exists()


async def test_a_client_that_opens_no_streams_leaves_no_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Silent:
        async def receive(self) -> bytes:
            await asyncio.Event().wait()
            return b""

        async def send(self, data: bytes) -> None: ...

        def close(self) -> None: ...

    monkeypatch.setattr("sampan.node.channels.STREAMS_S", 0.01)
    silent: Any = Silent()
    before = asyncio.all_tasks()
    channels = SpdyChannels(silent, "v4.channel.k8s.io")
    assert not await channels.open(["stdout"])
    await channels.close()
    await settle()
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("restarted", [False, True], ids=["same agent", "next agent"])
async def test_what_cannot_be_removed_of_a_deleted_pod_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    node = Node(tmp_path)
    tries: list[str] = []
    delete, detach = node.runtime.delete, node.network.detach

    async def busy(container_id: str) -> None:
        tries.append("container")
        if tries.count("container") < 4:
            raise RuntimeFailure("device or resource busy")
        await delete(container_id)

    async def held(uid: str) -> None:
        tries.append("network")
        if tries.count("network") < 3:
            raise OSError(16, "busy")
        await detach(uid)

    async with node.running() as agent:
        node.bind()
        await node.until(lambda: node.container()["ready"])
        monkeypatch.setattr(node.runtime, "delete", busy)
        monkeypatch.setattr(node.network, "detach", held)
        if not restarted:
            node.delete("p", 0)
            await node.until(lambda: f"{PODS}/p" not in node.api.objects)
            await _gone(node, agent)
    if restarted:
        node.api.remove(f"{PODS}/p")
        async with node.running() as agent:
            await _gone(node, agent)
    assert not node.runtime.containers
    assert not node.network.given


async def _gone(node: Node, agent: Agent) -> None:
    """While the clock goes on, until nothing is left to be removed."""
    await node.until(lambda: agent.orphans)
    while agent.orphans:
        await node.clock.advance(60.0)
        await settle(1)
