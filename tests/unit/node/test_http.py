"""The agent's HTTPS server: who may ask, logs, exec over WebSocket."""

from __future__ import annotations

import asyncio
import datetime
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec.structs import replace

from sampan.client.api import Client
from sampan.node.agent import Agent
from sampan.node.config import NodeConfig
from sampan.node.http import AgentServer
from sampan.node.state import EXITED, RUNNING, Attempt, Waiting
from sampan.node.visitors import API_SERVER_NAME
from sampan.node.worker import PodWorker
from sampan.runtime.interface import Container, ContainerSpec, State
from tests.kit.clock import FakeClock
from tests.kit.node import FakeReviews
from tests.kit.runtime import BUSYBOX, FakeImages, FakeKernel, FakeNetwork, FakeRuntime, FakeStreams
from tests.kit.spdy import spdy_client

POD = {
    "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
    "spec": {"containers": [{"name": "c", "image": "busybox"}]},
    "status": {},
}
LOG = b"2026-01-01T00:00:01.000000000+00:00 stdout F one\n"


def authority(folder: Path) -> None:
    """ca.crt, and a certificate each for the node and two clients."""
    key = ec.generate_private_key(ec.SECP256R1())
    ca = signed("ca", key, "ca", key)
    (folder / "ca.crt").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    for file, name in (("node", "node"), ("api", API_SERVER_NAME), ("other", "somebody")):
        own = ec.generate_private_key(ec.SECP256R1())
        made = signed(name, own, "ca", key)
        (folder / f"{file}.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        (folder / f"{file}.key").write_bytes(
            own.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )


def signed(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    start = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=36500))
        .add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )


def context(folder: Path, name: str) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    made.check_hostname = False
    made.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    return made


class Scene:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runtime = FakeRuntime(FakeClock())
        self.sessions: list[FakeStreams] = []
        self.api = FakeReviews()
        config = NodeConfig(
            name="n1", data=folder / "data", run=folder / "run", address="127.0.0.1",
            pod_cidr="10.244.0.0/24", dns_ip="", ca_cert=folder / "ca.crt",
            cert=folder / "node.crt", key=folder / "node.key",
        )  # fmt: skip
        self.agent = Agent(
            config,
            Client(self.api),
            self.runtime,
            FakeImages(),
            FakeNetwork(),
            clock=FakeClock(),
            kernel=FakeKernel(),
        )
        self.server = AgentServer(self.agent)
        self.base = f"https://127.0.0.1:{self.server.bind()}"

    async def add_pod(self) -> None:
        worker = PodWorker(self.agent.parts, POD, [])
        made = await self.runtime.create(ContainerSpec("id1", BUSYBOX.id, [], []))
        await self.runtime.start(made.id)
        worker.state.attempts["c"] = [Attempt("id0", 0, EXITED), Attempt("id1", 1, RUNNING)]
        self.agent.workers["u"] = worker
        for count, text in ((0, LOG.replace(b"one", b"before")), (1, LOG * 3)):
            path = self.folder / f"data/logs/ns_p_u/c/{count}.log"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)

    def anonymous(self) -> aiohttp.ClientSession:
        plain = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        plain.check_hostname = False
        return aiohttp.ClientSession(self.base, connector=aiohttp.TCPConnector(ssl=plain))

    def client(self, name: str = "api") -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=context(self.folder, name))
        return aiohttp.ClientSession(self.base, connector=connector)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    authority(tmp_path)
    made = Scene(tmp_path)
    await made.server.start()
    await made.add_pod()
    try:
        yield made
    finally:
        await made.server.close()
        await made.agent.supervisor.stop()


async def get(scene: Scene, path: str, name: str = "api") -> tuple[int, str]:
    async with scene.client(name) as client, client.get(path) as answer:
        return answer.status, await answer.text()


async def test_who_shows_nothing_or_may_not_is_refused(scene: Scene) -> None:
    """test_visitors has the rules; here is that they are asked about, for every path."""
    assert await get(scene, "/healthz") == (200, "ok")
    for path in ("/healthz", "/pods", "/exec/ns/p/c", "/nothing"):
        async with scene.anonymous() as client, client.get(path) as answer:
            assert (answer.status, await answer.text()) == (401, "Unauthorized")
    scene.api.allowed = {("somebody", "get", "metrics")}
    assert (await get(scene, "/metrics", "other"))[0] == 200
    assert await get(scene, "/pods", "other") == (
        403,
        "Forbidden (user=somebody, verb=get, resource=nodes, subresource(s)=[pods proxy])",
    )


async def test_pods_and_metrics(scene: Scene) -> None:
    status, text = await get(scene, "/pods")
    assert [item["metadata"]["name"] for item in json.loads(text)["items"]] == ["p"]
    status, text = await get(scene, "/metrics")
    assert status == 200
    assert 'kubelet_running_containers{container_state="running"} 1\n' in text
    status, text = await get(scene, "/configz")
    assert json.loads(text)["kubeletconfig"]["evictionHard"]["memory.available"] == "100Mi"
    status, text = await get(scene, "/runningpods/")
    assert json.loads(text) == {
        "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [],
    }  # fmt: skip
    for path in ("/healthz", "/healthz/ping", "/healthz/syncloop"):
        assert await get(scene, path) == (200, "ok")
    assert (await get(scene, "/metrics/probes"))[0] == 200


async def test_logs_of_a_deleted_pod(scene: Scene) -> None:
    logs = scene.agent.config.data / "logs" / "ns_gone_uid"
    (logs / "c").mkdir(parents=True)
    (logs / "c" / "0.log").write_bytes(b"2026-01-01T00:00:01.000000000+00:00 stdout F bye\n")
    assert (await get(scene, "/deletedLogs/ns/gone/c"))[0] == 404
    scene.agent.keeper.kept.keep(logs)
    assert await get(scene, "/deletedLogs/ns/gone/c") == (200, "bye\n")
    status, text = await get(scene, "/deletedLogs/ns/gone/d")
    assert (status, text) == (404, 'no such log of container "d" is kept; there is: c\n')
    (row,) = json.loads((await get(scene, "/deletedLogs"))[1])["items"]
    assert (row["name"], row["containers"]) == ("gone", ["c"])


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("c", 200, "one\none\none\n"),
        ("c?tailLines=1&timestamps=true", 200, "2026-01-01T00:00:01.000000000Z one\n"),
        ("c?previous=true", 200, "before\n"),
        ("c?limitBytes=5", 200, "one\no"),
        ("c?tailLines=x", 400, "invalid literal for int() with base 10: 'x'"),
        ("d", 404, 'container "d" not found in pod "p"\n'),
    ],
)
async def test_logs(scene: Scene, query: str, status: int, text: str) -> None:
    assert await get(scene, f"/containerLogs/ns/p/{query}") == (status, text)


async def test_logs_of_what_is_not_there(scene: Scene) -> None:
    assert await get(scene, "/containerLogs/ns/no/c") == (404, "pod does not exist\n")
    scene.agent.workers["u"].state.attempts["c"] = [Attempt("id1", 0, RUNNING)]
    assert await get(scene, "/containerLogs/ns/p/c?previous=true") == (
        400,
        'previous terminated container "c" in pod "p" not found',
    )
    scene.agent.workers["u"].state.attempts.clear()
    assert await get(scene, "/containerLogs/ns/p/c") == (
        400,
        'container "c" in pod "p" is waiting to start: ContainerCreating',
    )
    for reason, text in (
        ("ErrImagePull", "image can't be pulled"),
        ("ImagePullBackOff", "trying and failing to pull image"),
        ("CreateContainerConfigError", "CreateContainerConfigError"),
    ):
        scene.agent.workers["u"].state.waiting["c"] = Waiting(reason)
        _, said = await get(scene, "/containerLogs/ns/p/c")
        assert said == f'container "c" in pod "p" is waiting to start: {text}'


async def test_follow_ends_when_the_container_does(scene: Scene) -> None:
    path = "/containerLogs/ns/p/c?follow=true&tailLines=1"
    async with scene.client() as client, client.get(path) as answer:
        assert await answer.content.readline() == b"one\n"
        worker = scene.agent.workers["u"]
        gone = scene.runtime.containers["id1"]
        worker.exited(_exited(gone))
        assert await answer.content.read() == b""


def _exited(container: Container) -> Container:
    return replace(container, state=State.EXITED, annotations={"io.kubernetes.container.name": "c"})


async def run_command(scene: Scene, code: int, protocol: str) -> list[tuple[int, bytes]]:
    session = FakeStreams([(1, b"out"), (2, b"err")], code)

    async def execute(container_id: str, args: Any, **options: Any) -> FakeStreams:
        assert (container_id, args, options) == ("id1", ["a", "b"], {"tty": False, "stdin": True})
        return session

    scene.runtime.exec = execute  # type: ignore[method-assign]
    query = "command=a&command=b&input=1&output=1&error=1"
    got = []
    async with (
        scene.client() as client,
        client.ws_connect(f"/exec/ns/p/c?{query}", protocols=(protocol,)) as socket,
    ):
        assert socket.protocol == protocol
        await socket.send_bytes(b"\x00hello")
        async for message in socket:
            got.append((message.data[0], message.data[1:]))
    return got


async def test_exec_gives_output_and_the_exit_code(scene: Scene) -> None:
    *output, (channel, status) = await run_command(scene, 3, "v5.channel.k8s.io")
    assert output == [(1, b""), (1, b"out"), (2, b"err")]
    assert channel == 3
    assert json.loads(status) == {
        "metadata": {},
        "status": "Failure",
        "message": "command terminated with non-zero exit code: exit status 3",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
    }
    *_, (channel, status) = await run_command(scene, 0, "v4.channel.k8s.io")
    assert json.loads(status) == {"metadata": {}, "status": "Success"}


async def test_exec_refusals(scene: Scene) -> None:
    assert (await get(scene, "/exec/ns/p/c?output=1"))[0] == 400
    assert (await get(scene, "/exec/ns/p/c?command=a"))[0] == 400
    assert await get(scene, "/exec/ns/p/c?command=a&output=1") == (400, "Upgrade request required")
    assert await get(scene, "/exec/ns/p/d?command=a&output=1") == (500, 'container not found ("d")')
    assert await get(scene, "/attach/ns/p/d?output=1") == (
        500,
        "container d not found in pod p_ns",
    )
    assert await get(scene, "/exec/ns/q/c?command=a") == (404, "pod does not exist\n")
    assert await get(scene, "/portForward/ns/p") == (500, 'pod not found ("p_ns")')


class Silent(FakeStreams):
    """A command that says nothing and does not end."""

    async def read(self) -> tuple[int, bytes] | None:
        await asyncio.Event().wait()
        return None


async def test_a_session_on_which_nothing_moves_ends(scene: Scene) -> None:
    """Also SPDY's, which has left aiohttp's hands; what moves keeps it alive."""
    scene.agent.config = replace(scene.agent.config, streaming_idle_s=0.3)
    made: list[Silent] = []

    async def begin(*_: Any, **__: Any) -> FakeStreams:
        made.append(Silent([], 0))
        return made[-1]

    scene.runtime.exec = begin  # type: ignore[method-assign]
    path = "/exec/ns/p/c?command=a&output=1&input=1"
    loop = asyncio.get_running_loop()
    async with scene.client() as client, client.ws_connect(path) as socket:
        began = loop.time()
        while loop.time() < began + 0.6:
            await socket.send_bytes(b"\x00x")
            await asyncio.sleep(0.05)
        assert not made[0].killed
        while (await socket.receive()).type != aiohttp.WSMsgType.CLOSED:
            pass
    port = int(scene.base.rpartition(":")[2])
    async with spdy_client(port, path, context(scene.folder, "api")) as spdy:
        for kind in ("error", "stdin", "stdout"):
            spdy.open(streamtype=kind)
        await spdy.flush()
        while not spdy.over:
            await spdy.receive()
    async with asyncio.timeout(5):
        while not all(item.killed for item in made):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert len(made) == 2
    assert scene.server.sessions == 0


async def test_attach_ends_well_whatever_the_exit_code(scene: Scene) -> None:
    session = FakeStreams([(1, b"out")], 3)

    async def attach(container_id: str) -> FakeStreams:
        return session

    scene.runtime.attach = attach  # type: ignore[method-assign]
    path = "/attach/ns/p/c?output=1&input=1"
    async with (
        scene.client() as client,
        client.ws_connect(path, protocols=("v5.channel.k8s.io",)) as socket,
    ):
        got = [message.data async for message in socket]
    assert got[:2] == [b"\x01", b"\x01out"]
    assert json.loads(got[2][1:]) == {"metadata": {}, "status": "Success"}


async def test_forward_connects_to_ports_of_the_pod(scene: Scene) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read(100)).upper())
        writer.close()

    scene.agent.workers["u"].sandbox.ip = "127.0.0.1"
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with (
            scene.client() as client,
            client.ws_connect(f"/portForward/ns/p?port={port}&port=1") as socket,
        ):
            await socket.send_bytes(b"\x00hello")
            got: dict[int, bytes] = {}
            while not (got.get(0, b"").endswith(b"HELLO") and len(got.get(3, b"")) > 2):
                data = await socket.receive_bytes(timeout=5)
                got[data[0]] = got.get(data[0], b"") + data[1:]
    assert got[0] == port.to_bytes(2, "little") + b"HELLO"
    assert got[1] == port.to_bytes(2, "little")
    assert got[3][2:].startswith(b"error forwarding port 1 to pod")
