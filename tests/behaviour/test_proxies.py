"""Proxy subresources, from a client's socket to a backend's and back; metrics read from nodes."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from sampan.server.exchange import User
from tests.behaviour.test_streams import MERGE, NS, UPGRADE, House, echo, house, plain
from tests.kit.cluster import Answer
from tests.kit.wire import check_echo, echo_body


def own_address() -> str:
    """An address of this machine that is not loopback: no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            address = str(probe.getsockname()[0])
        except OSError:
            address = ""
    return address


@dataclass
class Backend:
    """A server in a pod: answers each connection with `answer`, or as `script` says."""

    port: int
    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    answer: bytes = b""
    script: Any = None

    @property
    def line(self) -> str:
        return self.heads[-1].split("\r\n", 1)[0]


@asynccontextmanager
async def stage() -> AsyncIterator[tuple[House, Backend]]:
    """A house whose pod p has a backend, and a service s in front of it."""
    address = own_address()
    assert address, "this machine needs an address that is not loopback"
    backend = Backend(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            backend.heads.append(head)
            if backend.script is not None:
                await backend.script(head, reader, writer)
                return
            backend.bodies.append(await read_body(head, reader))
            writer.write(backend.answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async with (
        house() as home,
        await asyncio.start_server(serve, address, 0, limit=1 << 20) as server,
    ):
        backend.port = server.sockets[0].getsockname()[1]
        status = {"podIP": address, "podIPs": [{"ip": address}]}
        answer = await home.cluster.http(
            "PATCH", f"{NS}/pods/p/status", {"status": status}, content_type=MERGE
        )
        assert answer.status == 200, answer.message
        ports = [{"name": "web", "port": 80, "targetPort": backend.port}]
        for path, body in (
            ("services", {"metadata": {"name": "s"}, "spec": {"ports": ports}}),
            ("services", {"metadata": {"name": "empty"}, "spec": {"ports": ports}}),
            ("endpoints", {"metadata": {"name": "empty"}}),
            ("endpoints", endpoints("s", address, backend.port, "p")),
            ("endpoints", endpoints("forged", address, backend.port, "q")),
            ("endpoints", endpoints("local", "127.0.0.1", backend.port, "p")),
        ):
            answer = await home.cluster.http("POST", f"{NS}/{path}", body)
            assert answer.status in (201, 422), answer.message
        yield home, backend


def endpoints(name: str, address: str, port: int, pod: str) -> dict[str, Any]:
    reference = {"kind": "Pod", "name": pod, "namespace": "default"}
    subset = {
        "addresses": [{"ip": address, "targetRef": reference}],
        "ports": [{"name": "web", "port": port}],
    }
    return {"metadata": {"name": name}, "subsets": [subset]}


async def read_body(head: str, reader: asyncio.StreamReader) -> bytes:
    fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
    if "content-length" in fields:
        return await reader.readexactly(int(fields["content-length"]))
    out = b""
    if fields.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            out += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    return out


async def ask(
    home: House, method: str, path: str, body: bytes = b"", headers: str = ""
) -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own, its answer whole."""
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    head = f"{method} {NS}/{path} HTTP/1.1\r\n{headers}{length}Connection: close\r\n"
    reader, writer = await home.open(head)
    writer.write(body)
    async with asyncio.timeout(5):
        head_bytes = await reader.readuntil(b"\r\n\r\n")
        lines = head_bytes.decode().split("\r\n")
        fields = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])
        }
        if fields.get("transfer-encoding") == "chunked":
            text = await read_body(head_bytes.decode(), reader)
        else:
            text = await reader.read()
    writer.close()
    return int(lines[0].split()[1]), fields, text


async def test_a_request_reaches_a_pod_and_a_service() -> None:
    async with stage() as (home, backend):
        backend.answer = plain("200 OK", "hello", "X-Own: 1", "Connection: X-Hop", "X-Hop: 2")
        for where in (f"pods/p:{backend.port}", f"pods/http:p:{backend.port}", "services/s:web",
                      "services/s:80", "services/http:s:80"):  # fmt: skip
            status, fields, text = await ask(home, "GET", f"{where}/proxy/a%20b/?q=1&q=%2F")
            assert (status, text) == (200, b"hello"), where
            assert fields["x-own"] == "1"
            assert "x-hop" not in fields
            assert backend.line == "GET /a%20b/?q=1&q=%2F HTTP/1.1"
        head = backend.heads[-1].lower()
        assert "authorization" not in head
        assert f"x-forwarded-uri: {NS}/services/http:s:80/proxy/a%20b/" in head


async def test_every_method_and_status_passes() -> None:
    async with stage() as (home, backend):
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            backend.answer = plain("418 I'm a teapot", method)
            status, _, text = await ask(home, method, "services/s:web/proxy/x", b"sent")
            assert (status, text, backend.bodies[-1]) == (418, method.encode(), b"sent")
        backend.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
        status, fields, text = await ask(home, "HEAD", "services/s:web/proxy/x")
        assert (status, fields["content-length"], text) == (200, "5", b"")
        backend.answer = b"HTTP/1.1 204 No Content\r\n\r\n"
        status, fields, text = await ask(home, "GET", "services/s:web/proxy/x")
        assert (status, text) == (204, b"")
        assert "transfer-encoding" not in fields
        backend.answer = b"HTTP/1.1 103 Early Hints\r\n\r\n" + plain("200 OK", "late")
        assert (await ask(home, "GET", "services/s:web/proxy/x"))[2] == b"late"
        status, _, text = await ask(home, "TRACE", "services/s:web/proxy/x")
        assert status == 405


async def test_bodies_stream_both_ways_beyond_any_limit() -> None:
    """Larger than what the server takes itself, echoed while it is still being sent."""
    async with stage() as (home, backend):
        total = 8 << 20

        async def script(
            head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            await echo_body(reader, writer, total)

        backend.script = script
        head = f"POST {NS}/services/s:web/proxy/ HTTP/1.1\r\nContent-Length: {total}\r\n"
        reader, writer = await home.open(head)
        await check_echo(reader, writer, total)
        writer.close()


async def test_links_lead_through_the_proxy() -> None:
    async with stage() as (home, backend):
        base = f"{NS}/services/s:web/proxy"
        page = '<a href="/x">x</a><a href="y">y</a>'
        backend.answer = plain("200 OK", page, "Content-Type: text/html; charset=utf-8")
        made = page.replace('"/x"', f'"{base}/x"').encode()
        assert (await ask(home, "GET", "services/s:web/proxy/"))[2] == made
        packed = gzip.compress(page.encode())
        backend.answer = (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(packed), packed)
        )
        _, fields, text = await ask(home, "GET", "services/s:web/proxy/")
        assert (fields["content-encoding"], gzip.decompress(text)) == ("gzip", made)
        # What is no page is left alone.
        backend.answer = plain("200 OK", page, "Content-Type: text/plain")
        assert (await ask(home, "GET", "services/s:web/proxy/"))[2] == page.encode()
        backend.answer = plain("302 Found", "", "Location: /login")
        status, fields, _ = await ask(home, "GET", "services/s:web/proxy/")
        assert (status, fields["location"]) == (302, f"{base}/login")
        backend.answer = plain("302 Found", "", "Location: https://elsewhere/login")
        _, fields, _ = await ask(home, "GET", "services/s:web/proxy/")
        assert fields["location"] == "https://elsewhere/login"


async def test_the_root_is_asked_for_with_a_slash() -> None:
    async with stage() as (home, backend):
        status, fields, _ = await ask(home, "GET", "services/s:web/proxy?q=1")
        assert (status, fields["location"]) == (301, f"{NS}/services/s:web/proxy/?q=1")
        assert not backend.heads
        backend.answer = plain("200 OK", "posted")
        assert (await ask(home, "POST", "services/s:web/proxy", b"x"))[2] == b"posted"
        assert backend.line == "POST / HTTP/1.1"


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("services/s/proxy/", 503, 'no endpoints available for service "s"'),
        ("services/empty:web/proxy/", 503, 'no endpoints available for service "empty"'),
        ("services/s:81/proxy/", 503, 'no service port 81 found for service "s"'),
        ("services/nope:web/proxy/", 404, 'endpoints "nope" not found'),
        ("services/s:/proxy/", 400, 'invalid service request "s:"'),
        ("pods/nope/proxy/", 404, 'pods "nope" not found'),
        ("pods/ftp:p:1/proxy/", 400, 'invalid pod request "ftp:p:1"'),
        ("pods/p:1/proxy/", 503, "connect: connection refused"),
        ("pods/p:http/proxy/", 503, "unknown port"),
    ],
)
async def test_what_cannot_be_reached(path: str, status: int, message: str) -> None:
    async with stage() as (home, _):
        got, _, text = await ask(home, "GET", path)
        assert got == status
        assert message in orjson.loads(text)["message"]


@pytest.mark.trust
async def test_nobody_is_led_where_only_the_server_can_go() -> None:
    """Addresses of pods and endpoints are written by others; loopback is the server's own."""
    async with stage() as (home, backend):
        for name in ("forged", "local"):
            body = {"metadata": {"name": name}, "spec": {"ports": [{"name": "web", "port": 80}]}}
            await home.cluster.http("POST", f"{NS}/services", body)
            status, _, _ = await ask(home, "GET", f"services/{name}:web/proxy/")
            # Endpoints on loopback cannot even be made.
            assert status == (503 if name == "forged" else 404), name
        for address in ("127.0.0.1", "169.254.169.254", "::1"):
            change = {"status": {"podIP": address, "podIPs": [{"ip": address}]}}
            await home.cluster.http("PATCH", f"{NS}/pods/p/status", change, content_type=MERGE)
            status, _, text = await ask(home, "GET", f"pods/p:{backend.port}/proxy/")
            assert (status, orjson.loads(text)["message"]) == (400, "address not allowed")
        answer = await home.cluster.http("GET", f"/api/v1/nodes/node:{backend.port}/proxy/")
        assert (answer.status, answer.message) == (400, "address not allowed")
        assert not backend.heads


@pytest.mark.parametrize(
    ("answer", "status"),
    [(b"", 503), (b"garbage\r\n\r\n", 503), (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 503)],
)
async def test_a_backend_that_speaks_no_http(answer: bytes, status: int) -> None:
    async with stage() as (home, backend):
        backend.answer = answer
        assert (await ask(home, "GET", "services/s:web/proxy/"))[0] == status


async def test_an_answer_that_breaks_off_breaks_off() -> None:
    async with stage() as (home, backend):
        backend.answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        reader, writer = await home.open(f"GET {NS}/services/s:web/proxy/ HTTP/1.1\r\n")
        async with asyncio.timeout(5):
            text = await reader.read()
        assert text.endswith(b"3\r\nabc\r\n"), "no end of the body where there was none"
        writer.close()


async def test_upgrades_pass() -> None:
    async with stage() as (home, backend):
        backend.script = echo
        head = f"GET {NS}/services/s:web/proxy/ws?x=1 HTTP/1.1\r\n{UPGRADE}Origin: me\r\n"
        reader, writer = await home.open(head)
        async with asyncio.timeout(5):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
            writer.write(b"ping")
            assert await reader.readexactly(4) == b"ping"
        lower = backend.heads[0].lower()
        assert backend.line == "GET /ws?x=1 HTTP/1.1"
        assert "upgrade: websocket" in lower
        assert "origin: me" in lower
        assert "authorization" not in lower
        writer.close()


@pytest.mark.trust
async def test_a_refused_upgrade_leaves_no_connection() -> None:
    """CVE-2018-1002105: a second request behind one that was refused reaches nobody."""
    async with stage() as (home, backend):
        seen = bytearray()

        async def script(
            head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(plain("403 Forbidden", "no", "X-Own: 1"))
            seen.extend(await reader.read())

        backend.script = script
        head = f"GET {NS}/services/s:web/proxy/ HTTP/1.1\r\n{UPGRADE}"
        reader, writer = await home.open(head)
        writer.write(b"GET /secret HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(5):
            text = await reader.read()
        assert text.startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert b"X-Own: 1" in text
        assert text.endswith(b"\r\n\r\nno")
        assert len(backend.heads) == 1
        assert not seen
        writer.close()


@pytest.mark.trust
async def test_proxying_is_a_right_of_its_own() -> None:
    async with stage() as (home, _):
        for path in (f"{NS}/services/s:web/proxy/", f"{NS}/pods/p/proxy/x",
                     "/api/v1/nodes/node/proxy/pods"):  # fmt: skip
            for method in ("GET", "POST", "OPTIONS"):
                answer = await home.cluster.http(method, path, user=User("reader"))
                assert answer.status == 403, path


async def test_a_nodes_agent_is_reached_with_the_servers_certificate() -> None:
    async with house() as home:
        home.agent.answer(plain("200 OK", "fine"))
        reader, writer = await home.open(
            "GET /api/v1/nodes/node/proxy/stats/summary?x=1 HTTP/1.1\r\n"
        )
        async with asyncio.timeout(5):
            head = await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(4) == b"fine"
        assert head.startswith(b"HTTP/1.1 200")
        assert home.agent.targets == ["GET /stats/summary?x=1"]
        assert home.agent.clients == ["kube-apiserver-kubelet-client"]
        # The node opens no sessions for what is marked so.
        assert "sampan-proxied: 1" in home.agent.heads[0].lower()
        writer.close()


# Metrics


def said(node: str, uid: str) -> bytes:
    cpu = {"time": "2026-01-01T00:00:00Z", "usageNanoCores": 250_000_000, "usageCoreNanoSeconds": 9}
    memory = {"time": "2026-01-01T00:00:00Z", "workingSetBytes": 5 << 20}
    pod = {
        "podRef": {"name": "p", "namespace": "default", "uid": uid},
        "cpu": cpu,
        "memory": memory,
        "containers": [{"name": "c", "cpu": cpu, "memory": memory}],
    }
    head = {"nodeName": node, "windowSeconds": 10.5, "cpu": cpu, "memory": memory}
    return plain("200 OK", orjson.dumps({"node": head, "pods": [pod]}).decode())


async def top(home: House, path: str, **options: Any) -> Answer:
    return await home.cluster.http("GET", f"/apis/metrics.k8s.io/v1beta1/{path}", **options)


async def test_usage_comes_from_the_nodes() -> None:
    async with house() as home:
        pod = (await home.cluster.http("GET", f"{NS}/pods/p")).json
        home.agent.answer(said("node", pod["metadata"]["uid"]))
        [node] = (await top(home, "nodes")).json["items"]
        assert node["metadata"]["name"] == "node"
        assert node["usage"] == {"cpu": "250000000n", "memory": "5120Ki"}
        assert (node["timestamp"], node["window"]) == ("2026-01-01T00:00:00Z", "10.5s")
        [row] = (await top(home, "pods")).json["items"]
        assert row["containers"] == [{"name": "c", "usage": node["usage"]}]
        # One question served both.
        assert home.agent.targets == ["GET /stats/summary?only_cpu_and_memory=true"]
        one = (await top(home, "namespaces/default/pods/p")).json
        assert one == {**row, "kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1beta1"}
        assert (await top(home, "namespaces/default/pods?labelSelector=a%3Db")).json["items"] == []
        assert (await top(home, "namespaces/other/pods")).json["items"] == []
        shown = await top(home, "pods", accept="application/json;as=Table;g=meta.k8s.io;v=v1")
        assert shown.json["rows"][0]["cells"] == ["p", "250000000n", "5120Ki", "10.5s"]


async def test_what_has_no_usage_is_not_found() -> None:
    async with house() as home:
        home.agent.answer(plain("500 Oops", "broken"))
        assert (await top(home, "nodes")).json["items"] == []
        answer = await top(home, "namespaces/default/pods/p")
        text = 'podmetrics.metrics.k8s.io "default/p" not found'
        assert (answer.status, answer.message) == (404, text)
        answer = await top(home, "nodes/nope")
        assert answer.message == 'nodemetrics.metrics.k8s.io "nope" not found'
        for method in ("POST", "DELETE"):
            path = "/apis/metrics.k8s.io/v1beta1/nodes"
            assert (await home.cluster.http(method, path, {})).status == 405


async def test_usage_is_in_discovery() -> None:
    async with house() as home:
        rows = (await top(home, "")).json["resources"]
        assert [(row["name"], row["kind"], row["verbs"]) for row in rows] == [
            ("nodes", "NodeMetrics", ["get", "list"]),
            ("pods", "PodMetrics", ["get", "list"]),
        ]
        assert (await top(home, "nodes", user=User("reader"))).status == 403
