"""Sessions over SPDY and WebSocket: channels, ends, clients that leave, forwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sampan.client import multiplex
from sampan.wire.spdyconnection import Connection, Received
from tests.kit.runtime import FakeStreams
from tests.kit.spdy import SpdyClient, spdy_client
from tests.unit.node.test_http import Scene, authority, context

SUCCESS = {"metadata": {}, "status": "Success"}


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


class Command(FakeStreams):
    """Says what it reads, and ends with its input."""

    def __init__(self, code: int = 0) -> None:
        super().__init__([], code)
        self.changed = asyncio.Event()
        self.gone = asyncio.Event()
        self.resized = asyncio.Event()

    async def read(self) -> tuple[int, bytes] | None:
        while not (self.written or self.stdin_closed or self.killed):
            self.changed.clear()
            await self.changed.wait()
        if self.written:
            data = bytes(self.written)
            self.written.clear()
            return 1, data
        return None

    async def write(self, data: bytes) -> None:
        await super().write(data)
        self.changed.set()

    async def close_stdin(self) -> None:
        await super().close_stdin()
        self.changed.set()

    async def kill(self) -> None:
        await super().kill()
        self.changed.set()
        self.gone.set()

    def resize(self, columns: int, rows: int) -> None:
        super().resize(columns, rows)
        self.resized.set()

    async def sized(self, times: int) -> None:
        """Until the terminal has got so many sizes."""
        async with asyncio.timeout(5):
            while len(self.sizes) < times:
                self.resized.clear()
                await self.resized.wait()


class Stuck(FakeStreams):
    """Neither says nor reads anything but a first piece."""

    def __init__(self) -> None:
        super().__init__([], 0)
        self.stuck = asyncio.Event()
        self.taken = asyncio.Event()

    async def read(self) -> tuple[int, bytes] | None:
        await self.stuck.wait()
        return None

    async def write(self, data: bytes) -> None:
        self.taken.set()
        await self.stuck.wait()


def run(scene: Scene, command: FakeStreams) -> None:
    async def execute(container_id: str, args: Any, **options: Any) -> FakeStreams:
        return command

    scene.runtime.exec = execute  # type: ignore[method-assign]


def port_of(scene: Scene) -> int:
    return int(scene.base.rpartition(":")[2])


def client(scene: Scene, target: str, protocols: str = "v4.channel.k8s.io") -> Any:
    return spdy_client(port_of(scene), target, context(scene.folder, "api"), protocols=protocols)


@pytest.mark.parametrize(
    ("protocols", "chosen", "end"),
    [
        ("v5.channel.k8s.io,v4.channel.k8s.io,v3.channel.k8s.io", "v4.channel.k8s.io", None),
        ("v3.channel.k8s.io", "v3.channel.k8s.io", b""),
        ("channel.k8s.io", "channel.k8s.io", b""),
        ("", "", b""),
    ],
)
async def test_a_command_over_spdy(
    scene: Scene, protocols: str, chosen: str, end: bytes | None
) -> None:
    run(scene, Command())
    target = "/exec/ns/p/c?command=cat&input=1&output=1&error=1"
    async with client(scene, target, protocols) as peer:
        assert peer.head.startswith("HTTP/1.1 101")
        assert chosen in peer.head
        names = ("error", "stdin", "stdout", "stderr")
        error, stdin, stdout, stderr = (peer.open(streamtype=name) for name in names)
        block = bytes(range(256)) * 400
        await peer.send(stdin, block, fin=True)
        await peer.until(error, stdout, stderr)
        assert bytes(peer.got[stdout]) == block
        if end is None:
            assert json.loads(peer.got[error]) == SUCCESS
        else:
            assert bytes(peer.got[error]) == end


async def test_an_exit_code_over_spdy(scene: Scene) -> None:
    run(scene, FakeStreams([(1, b"out"), (2, b"err")], 7))
    target = "/exec/ns/p/c?command=a&output=1&error=1"
    async with client(scene, target) as peer:
        error, stdout, stderr = (peer.open(streamtype=s) for s in ("error", "stdout", "stderr"))
        await peer.flush()
        await peer.until(error, stdout, stderr)
        assert (bytes(peer.got[stdout]), bytes(peer.got[stderr])) == (b"out", b"err")
        causes = json.loads(peer.got[error])["details"]["causes"]
        assert causes == [{"reason": "ExitCode", "message": "7"}]
    # Before v4 there is only a text.
    run(scene, FakeStreams([], 7))
    async with client(scene, "/exec/ns/p/c?command=a&output=1", "v2.channel.k8s.io") as peer:
        error, stdout = peer.open(streamtype="error"), peer.open(streamtype="stdout")
        await peer.flush()
        await peer.until(error, stdout)
        assert b"exit status 7" in peer.got[error]


async def test_a_terminal_over_spdy_has_sizes(scene: Scene) -> None:
    command = Command()
    run(scene, command)
    target = "/exec/ns/p/c?command=sh&input=1&output=1&tty=1&error=1"
    async with client(scene, target) as peer:
        error, stdin, stdout, sizes = (
            peer.open(streamtype=s) for s in ("error", "stdin", "stdout", "resize")
        )
        # A size may come in parts, and one without sense is passed over.
        await peer.send(sizes, b'{"Width":80,"Hei')
        await peer.send(sizes, b'ght":24}\n{"Width":"x"}\n{"Width":99999,"Height":1}\n')
        await peer.send(sizes, b'{"Width":1,"Height":2}\n')
        await peer.send(stdin, b"x")
        assert await peer.until_got(stdout, 1) == b"x"
        await command.sized(2)
        await peer.send(stdin, b"", fin=True)
        await peer.until(error)
    assert command.sizes == [(80, 24), (1, 2)]


@pytest.mark.parametrize("over", ["spdy", "websocket"])
async def test_a_client_that_leaves_ends_its_command(scene: Scene, over: str) -> None:
    command = Command()
    run(scene, command)
    target = "/exec/ns/p/c?command=sleep&input=1&output=1"
    if over == "spdy":
        async with client(scene, target) as peer:
            for name in ("error", "stdin", "stdout"):
                peer.open(streamtype=name)
            await peer.flush()
            await peer.receive()
    else:
        async with scene.client() as session, session.ws_connect(target) as socket:
            await socket.receive_bytes()
    async with asyncio.timeout(5):
        await command.gone.wait()
    await scene.server.close()
    assert scene.server._sessions == 0


async def test_spdy_without_a_protocol_we_speak(scene: Scene) -> None:
    async with client(scene, "/exec/ns/p/c?command=a&output=1", "v9.channel.k8s.io") as peer:
        assert peer.head.startswith("HTTP/1.1 403")
        assert "X-Accepted-Stream-Protocol-Versions: v4.channel.k8s.io" in peer.head


@pytest.mark.parametrize("protocol", ["base64.channel.k8s.io", "v4.base64.channel.k8s.io"])
async def test_a_browsers_text_protocols(scene: Scene, protocol: str) -> None:
    run(scene, Command())
    target = "/exec/ns/p/c?command=cat&input=1&output=1"
    async with (
        scene.client() as session,
        session.ws_connect(target, protocols=(protocol,)) as socket,
    ):
        assert await socket.receive_str() == "1"
        await socket.send_str("0aGVsbG8=")
        assert await socket.receive_str() == "1aGVsbG8="


@pytest.mark.trust
async def test_nodes_proxy_opens_no_sessions(scene: Scene) -> None:
    """The right to nodes/proxy is none to run commands: the API server marks what came that way."""
    headers = {"Sampan-Proxied": "1"}
    async with scene.client() as session:
        for path in ("exec/ns/p/c?command=a&output=1", "attach/ns/p/c?output=1",
                     "portForward/ns/p?port=1"):  # fmt: skip
            for method in ("GET", "POST"):
                async with session.request(method, f"/{path}", headers=headers) as answer:
                    assert answer.status == 403, path
            with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                await session.ws_connect(f"/{path}", headers=headers)


# Forwards


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says in capitals what it is told, until it is told no more."""
    while data := await reader.read(65536):
        writer.write(data.upper())
        await writer.drain()
    writer.write(b"bye")
    writer.close()


@pytest.fixture
async def port(scene: Scene) -> AsyncIterator[int]:
    """A port "of the pod", which has the node's own network."""
    scene.agent.workers["u"].sandbox.ip = "127.0.0.1"
    async with await asyncio.start_server(shout, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def pair(peer: SpdyClient, port: int, request: str) -> tuple[int, int]:
    error = peer.open(streamtype="error", port=str(port), requestid=request)
    return error, peer.open(streamtype="data", port=str(port), requestid=request)


async def test_forwards_over_spdy(scene: Scene, port: int) -> None:
    async with client(scene, "/portForward/ns/p", "portforward.k8s.io") as peer:
        assert "portforward.k8s.io" in peer.head
        error, data = pair(peer, port, "1")
        _, other = pair(peer, port, "2")
        await peer.send(data, b"hello")
        await peer.send(other, b"second", fin=True)
        assert await peer.until_got(data, 5) == b"HELLO"
        # Half closed: the pod still answers.
        await peer.until(other)
        assert bytes(peer.got[other]) == b"SECONDbye"
        await peer.send(data, b"", fin=True)
        await peer.until(data, error)
        assert (bytes(peer.got[data]), bytes(peer.got[error])) == (b"HELLObye", b"")
        # A port nobody listens on is told, and the others go on.
        error, data = pair(peer, 1, "3")
        await peer.send(data, b"x" * 1000)
        await peer.until(error, data)
        assert bytes(peer.got[error]) == (
            b"error forwarding port 1 to pod p, uid u: "
            b"dial tcp 127.0.0.1:1: connect: connection refused"
        )
        _, data = pair(peer, port, "4")
        await peer.send(data, b"again")
        assert await peer.until_got(data, 5) == b"AGAIN"


async def test_bad_forward_streams_are_reset(scene: Scene, port: int) -> None:
    async with client(scene, "/portForward/ns/p", "portforward.k8s.io") as peer:
        bad = [
            peer.open(streamtype="data", port="http", requestid="1"),
            peer.open(streamtype="data", requestid="1"),
            peer.open(streamtype="stdin", port="80", requestid="1"),
            peer.open(streamtype="data", port="99999", requestid="1"),
        ]
        await peer.flush()
        await peer.until(*bad)
        # Old clients send no request id: the data stream follows its error stream.
        peer.open(streamtype="error", port=str(port))
        data = peer.open(streamtype="data", port=str(port))
        await peer.send(data, b"old")
        assert await peer.until_got(data, 3) == b"OLD"


async def test_a_forward_tunnelled_through_a_websocket(scene: Scene, port: int) -> None:
    """KEP-4006: SPDY inside of messages."""
    inner = Connection(client=True)
    async with (
        scene.client() as session,
        session.ws_connect(
            "/portForward/ns/p", protocols=("SPDY/3.1+portforward.k8s.io",)
        ) as socket,
    ):
        assert socket.protocol == "SPDY/3.1+portforward.k8s.io"
        for kind in ("error", "data"):
            stream = inner.open((("streamtype", kind), ("port", str(port)), ("requestid", "1")))
        inner.send(stream, b"tunnel")
        text = inner.take()
        # Messages may cut frames anywhere.
        await socket.send_bytes(text[:20])
        await socket.send_bytes(text[20:])
        got = b""
        while len(got) < 6:
            events = inner.receive(await socket.receive_bytes(timeout=5))
            got += b"".join(item.data for item in events if isinstance(item, Received))
    assert got == b"TUNNEL"


async def test_a_pod_that_does_not_read_holds_the_client_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounded memory: what nobody takes stays with the client."""
    monkeypatch.setattr(multiplex, "INBOX_BYTES", 64 << 10)
    command = Stuck()
    run(scene, command)
    async with client(scene, "/exec/ns/p/c?command=a&input=1&output=1") as peer:
        for name in ("error", "stdout"):
            peer.open(streamtype=name)
        stdin = peer.open(streamtype="stdin")
        peer.connection.send(stdin, b"x" * (32 << 20))
        peer.writer.write(peer.connection.take())
        # TLS hides what it has encrypted and not yet sent.
        raw: Any = peer.writer.transport
        try:
            async with asyncio.timeout(5):
                await command.taken.wait()
            before = -1
            while (left := raw._ssl_protocol._transport.get_write_buffer_size()) != before:
                before = left
                await asyncio.sleep(0.05)
            assert left > 16 << 20
        finally:
            peer.writer.transport.abort()
            command.stuck.set()
