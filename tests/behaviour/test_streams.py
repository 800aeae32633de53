"""Logs and upgraded streams, from a client's socket to a node agent's and back."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
import uvloop

from sampan.server.exchange import Stream, User
from sampan.server.http import serve
from tests.kit.agent import FakeAgent, fake_agent
from tests.kit.cluster import ADMIN, Answer, Cluster, api_cluster, request_of, server_files

NS = "/api/v1/namespaces/default"
MERGE = "application/merge-patch+json"
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n"
)
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@dataclass
class House:
    """A server with one node and one pod on it, and a TLS port."""

    cluster: Cluster
    agent: FakeAgent
    port: int

    async def open(self, head: str, token: str = "root") -> tuple[
        asyncio.StreamReader, asyncio.StreamWriter
    ]:  # fmt: skip
        """A connection on which `head` (request line and headers) has been sent."""
        context = ssl.create_default_context(cafile=str(server_files() / "ca.crt"))
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        method_line, _, rest = head.partition("\r\n")
        lines = f"{method_line}\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{rest}\r\n"
        writer.write(lines.encode())
        return reader, writer

    async def exec(self, query: str = "command=sh", token: str = "root") -> tuple[
        asyncio.StreamReader, asyncio.StreamWriter
    ]:  # fmt: skip
        return await self.open(f"GET {NS}/pods/p/exec?{query} HTTP/1.1\r\n{UPGRADE}", token)


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    files = server_files()
    tokens = {"root": ADMIN, "reader": User("reader")}
    async with fake_agent(files) as agent, api_cluster(tokens=tokens) as cluster:
        await add_node(cluster, "node", agent.port)
        await add_pod(cluster, "p", "node", ["c"])
        sock = socket.create_server(("127.0.0.1", 0))
        listener = await serve(cluster.server, [sock], files / "server.crt", files / "server.key")
        try:
            yield House(cluster, agent, sock.getsockname()[1])
        finally:
            await listener.close()


async def add_node(cluster: Cluster, name: str, port: int) -> None:
    await cluster.http("POST", "/api/v1/nodes", {"metadata": {"name": name}})
    status = {
        "addresses": [
            {"type": "Hostname", "address": name},
            {"type": "InternalIP", "address": "127.0.0.1"},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }
    path = f"/api/v1/nodes/{name}/status"
    answer = await cluster.http("PATCH", path, {"status": status}, content_type=MERGE)
    assert answer.status == 200, answer.message


async def add_pod(cluster: Cluster, name: str, node: str, containers: list[str]) -> None:
    await cluster.http("POST", f"{NS}/serviceaccounts", {"metadata": {"name": "default"}})
    spec: dict[str, Any] = {"containers": [{"name": item, "image": "x"} for item in containers]}
    if node:
        spec["nodeName"] = node
    answer = await cluster.http("POST", f"{NS}/pods", {"metadata": {"name": name}, "spec": spec})
    assert answer.status == 201, answer.message


def plain(status: str, body: str, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", body]
    return "\r\n".join(lines).encode()


async def read_log(house: House, path: str, user: User = ADMIN) -> tuple[int, str]:
    answer = await house.cluster.server.handle(request_of("GET", path, None, user, "", ""))
    if isinstance(answer, Stream):
        return answer.status, b"".join([chunk async for chunk in answer.chunks]).decode()
    shown = Answer(answer.status, answer.body or b"")
    return shown.status, shown.message if shown.body else ""


async def test_logs_come_from_the_node() -> None:
    async with house() as home:
        home.agent.answer(plain("200 OK", "one\ntwo\n"))
        query = "follow=true&tailLines=5&timestamps=1&previous=false&sinceSeconds=60&limitBytes=9"
        assert await read_log(home, f"{NS}/pods/p/log?{query}") == (200, "one\ntwo\n")
        [target] = home.agent.targets
        path, _, sent = target.partition("?")
        assert path == "GET /containerLogs/default/p/c"
        assert sorted(sent.split("&")) == [
            "follow=true",
            "limitBytes=9",
            "sinceSeconds=60",
            "tailLines=5",
            "timestamps=true",
        ]
        # The server shows its own certificate, and not the user's credentials.
        assert home.agent.clients == ["kube-apiserver-kubelet-client"]
        assert "authorization" not in home.agent.heads[0].lower()


async def test_followed_logs_arrive_piece_by_piece() -> None:
    async with house() as home:
        steps = [asyncio.Event(), asyncio.Event()]
        gone = asyncio.Event()

        async def script(
            head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for step in steps:
                await step.wait()
                writer.write(b"3\r\nab\n\r\n")
            await reader.read()
            gone.set()

        home.agent.script = script
        reader, writer = await home.open(f"GET {NS}/pods/p/log?follow=true HTTP/1.1\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert b"text/plain" in head
        for step in steps:
            step.set()
            assert b"ab\n" in await reader.readuntil(b"ab\n\r\n")
        # A reader who leaves ends the node's work too.
        writer.close()
        await asyncio.wait_for(gone.wait(), 5)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            plain("400 Bad Request", 'container "c" in pod "p" is waiting to start: Creating'),
            (400, 'container "c" in pod "p" is waiting to start: Creating'),
        ),
        (plain("404 Not Found", "gone"),
         (404, "the server could not find the requested resource ( pods/log p)")),
        (plain("500 Oops", "disk"), (500, "Internal error occurred: disk")),
        (plain("302 Found", "", "Location: https://evil/"),
         (500, "Internal error occurred: the node answered 302")),
        (b"", (500, "Internal error occurred: the node closed the connection")),
    ],
)  # fmt: skip
async def test_what_the_node_says_went_wrong(answer: bytes, expected: tuple[int, str]) -> None:
    async with house() as home:
        home.agent.answer(answer)
        assert await read_log(home, f"{NS}/pods/p/log") == expected


async def test_an_error_without_end_is_cut() -> None:
    """CVE-2022-1708's kin: a node may not fill the server's memory with an error."""
    async with house() as home:

        async def script(
            head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(b"HTTP/1.1 500 Oops\r\n\r\n")
            while not writer.is_closing():
                writer.write(b"x" * 65536)
                await writer.drain()

        home.agent.script = script
        status, text = await read_log(home, f"{NS}/pods/p/log")
        assert (status, len(text)) == (500, len("Internal error occurred: ") + 10_000)


async def test_which_container_is_meant() -> None:
    async with house() as home:
        await add_pod(home.cluster, "two", "node", ["a", "b"])
        await add_pod(home.cluster, "pending", "", ["a"])
        for path, expected in (
            ("two/log", (400, "a container name must be specified for pod two, choose one of: "
                              "[a b]")),
            ("two/log?container=x", (400, "container x is not valid for pod two")),
            ("pending/log", (204, "")),
            ("nope/log", (404, 'pods "nope" not found')),
        ):  # fmt: skip
            assert await read_log(home, f"{NS}/pods/{path}") == expected
        home.agent.answer(plain("200 OK", "b"))
        assert await read_log(home, f"{NS}/pods/two/log?container=b") == (200, "b")


async def test_bad_log_options() -> None:
    async with house() as home:
        for query in ("tailLines=-1", "limitBytes=0", "sinceSeconds=0",
                      "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z", "stream=x",
                      "stream=Stdout&tailLines=1"):  # fmt: skip
            assert (await read_log(home, f"{NS}/pods/p/log?{query}"))[0] == 422, query
        for query in ("tailLines=x", "sinceTime=yesterday"):
            assert (await read_log(home, f"{NS}/pods/p/log?{query}"))[0] == 400, query
        assert home.agent.heads == []


@pytest.mark.trust
async def test_a_node_that_shows_anothers_certificate_is_refused() -> None:
    async with house() as home:
        await add_node(home.cluster, "other", home.agent.port)
        await add_pod(home.cluster, "q", "other", ["c"])
        home.agent.answer(plain("200 OK", "secret"))
        status, text = await read_log(home, f"{NS}/pods/q/log")
        assert status == 500
        assert text.startswith("Internal error occurred: error dialing backend")
        assert "not valid for 'other'" in text
        assert home.agent.heads == []
        # Unless the user does not care.
        asked = f"{NS}/pods/q/log?insecureSkipTLSVerifyBackend=true"
        assert await read_log(home, asked) == (200, "secret")


async def echo(head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Upgrade, then send back all that comes."""
    writer.write(SWITCHING)
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def test_exec_is_spliced_to_the_node() -> None:
    async with house() as home:
        home.agent.script = echo
        query = "command=sh&command=-c&command=echo+a%26b&stdin=true&stdout=1&tty=true"
        reader, writer = await home.exec(query)
        assert await reader.readuntil(b"\r\n\r\n") == SWITCHING
        [head] = home.agent.heads
        first, _, headers = head.partition("\r\n")
        assert first == (
            "GET /exec/default/p/c?command=sh&command=-c&command=echo+a%26b"
            "&input=1&output=1&tty=1 HTTP/1.1"
        )
        lower = headers.lower()
        assert "upgrade: websocket" in lower
        assert "sec-websocket-key: dghlihnhbxbszsbub25jzq==" in lower
        assert "sec-websocket-protocol: v5.channel.k8s.io" in lower
        assert "authorization" not in lower
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()


async def test_a_large_stream_arrives_whole_at_the_readers_pace() -> None:
    async with house() as home:
        home.agent.script = echo
        reader, writer = await home.exec()
        await reader.readuntil(b"\r\n\r\n")
        block = bytes(range(256)) * 256
        blocks = 64

        async def send() -> None:
            for _ in range(blocks):
                writer.write(block)
                await writer.drain()

        sending = asyncio.create_task(send())
        for _ in range(blocks):
            assert await reader.readexactly(len(block)) == block
        await sending
        writer.close()


async def test_when_the_node_hangs_up_so_does_the_server() -> None:
    async with house() as home:
        home.agent.answer(SWITCHING + b"bye")
        reader, writer = await home.exec()
        assert await asyncio.wait_for(reader.read(), 5) == SWITCHING + b"bye"
        writer.close()


@pytest.mark.trust
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (plain("500 Oops", 'container not found ("c")'), 500),
        (plain("403 Forbidden", "no"), 403),
        (plain("200 OK", "here you are"), 500),
        (plain("302 Found", "", "Location: https://evil/"), 500),
        (b"garbage\r\n\r\n", 500),
        (b"", 500),
    ],
)
async def test_a_failed_upgrade_leaves_no_connection(answer: bytes, code: int) -> None:
    """CVE-2018-1002105: the node refuses, and a second request hides behind the first."""
    async with house() as home:
        seen = bytearray()

        async def script(
            head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(answer)
            seen.extend(await reader.read())

        if answer:
            home.agent.script = script
        else:
            home.agent.answer(b"")
        reader, writer = await home.exec()
        writer.write(b"GET /exec/kube-system/victim/c?command=id HTTP/1.1\r\nHost: x\r\n\r\n")
        text = await asyncio.wait_for(reader.read(), 5)
        head, _, body = text.partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {code} ".encode())
        if answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")):
            # The node's own words, which kubectl shows behind "unable to upgrade connection".
            assert body == answer.partition(b"\r\n\r\n")[2]
        else:
            status = orjson.loads(body)
            assert (status["kind"], status["code"]) == ("Status", code)
        assert len(home.agent.heads) == 1
        assert not seen
        writer.close()


async def test_without_an_upgrade_there_is_no_exec() -> None:
    async with house() as home:
        answer = await home.cluster.http("POST", f"{NS}/pods/p/exec?command=id")
        assert (answer.status, answer.message) == (400, "Upgrade request required")
        for method in ("PUT", "DELETE", "PATCH"):
            answer = await home.cluster.http(method, f"{NS}/pods/p/exec?command=id", {})
            assert answer.status == 405
        assert home.agent.heads == []


@pytest.mark.trust
async def test_reading_pods_is_not_enough_to_run_in_them() -> None:
    """A WebSocket is a GET; the right to create is asked for all the same."""
    rule = {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/exec"]}
    async with house() as home:
        rbac = "rbac.authorization.k8s.io"
        path = f"/apis/{rbac}/v1"
        body: dict[str, Any] = {"metadata": {"name": "r"}, "rules": [rule]}
        await home.cluster.http("POST", f"{path}/clusterroles", body)
        body = {
            "metadata": {"name": "r"},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "r"},
            "subjects": [{"apiGroup": rbac, "kind": "User", "name": "reader"}],
        }
        await home.cluster.http("POST", f"{path}/clusterrolebindings", body)
        reader, writer = await home.exec(token="reader")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 403")
        assert home.agent.heads == []
        writer.close()


async def test_port_forward_and_attach_reach_their_own_paths() -> None:
    async with house() as home:
        home.agent.script = echo
        for path in ("portforward?ports=80,443", "attach?stdout=true&container=c"):
            head = f"POST {NS}/pods/p/{path} HTTP/1.1\r\n{UPGRADE}Content-Length: 0\r\n"
            reader, writer = await home.open(head)
            assert await reader.readuntil(b"\r\n\r\n") == SWITCHING
            writer.close()
        assert home.agent.targets == [
            "POST /portForward/default/p?port=80&port=443",
            "POST /attach/default/p/c?output=1",
        ]
        bad = await home.cluster.http("GET", f"{NS}/pods/p/portforward?ports=http")
        assert bad.status == 400


@pytest.mark.parametrize(
    "scenario",
    [
        test_logs_come_from_the_node,
        test_followed_logs_arrive_piece_by_piece,
        test_a_large_stream_arrives_whole_at_the_readers_pace,
        test_when_the_node_hangs_up_so_does_the_server,
    ],
)
def test_on_the_daemons_loop(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """The daemon runs on uvloop, whose transports are not asyncio's."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
