"""The wire itself: framing, limits, compression, certificates, upgrades, slow and rude clients."""

from __future__ import annotations

import asyncio
import gzip
import ssl

import orjson
import pytest

from sampan.server import connection
from sampan.server.exchange import Attributes, Request, Upgrade
from tests.kit.cluster import server_files
from tests.kit.wire import AUTH, connected, length, listening, status, until

CM = "/api/v1/namespaces/default/configmaps"
EXPECT = "Expect: 100-continue\r\n"
MAX_HEAD, PIECE = connection.MAX_HEAD, 8 << 10
CHUNKED = f"POST {CM} HTTP/1.1\r\n{AUTH}Transfer-Encoding: chunked\r\n\r\n".encode()


async def test_a_connection_is_kept_and_pipelined_requests_are_answered_in_order() -> None:
    async with listening() as (_, listener), connected(listener) as wire:
        for _ in range(3):
            assert (await wire.get("/healthz"))[0] == 200
        body = b'{"metadata":{"name":"a"}}'
        post = f"POST {CM} HTTP/1.1\r\n{AUTH}Content-Length: {len(body)}\r\n\r\n".encode() + body
        get = f"GET {CM}/a HTTP/1.1\r\n{AUTH}\r\n".encode()
        wire.writer.write(post + get + post)
        for expected in (201, 200, 409):
            head = await wire.head()
            assert status(head) == expected
            await wire.body(head)


async def test_answers_carry_upstreams_headers() -> None:
    async with listening() as (_, listener), connected(listener) as wire:
        head = (await wire.ask("GET", CM, headers="Audit-ID: mine\r\n")).decode().lower()
        assert "audit-id: mine" in head
        assert "cache-control: no-cache, private" in head
        assert "content-type: application/json" in head
        assert "date: " in head


async def test_head_has_no_body() -> None:
    async with listening() as (_, listener), connected(listener) as wire:
        head = await wire.ask("HEAD", CM)
        assert length(head) > 0
        assert (await wire.get("/healthz"))[1] == b"ok"


async def test_bodies_over_the_limit() -> None:
    async with listening() as (cluster, listener):
        before = cluster.store.revision
        async with connected(listener) as wire:
            head = f"POST {CM} HTTP/1.1\r\n{AUTH}Content-Length: {(3 << 20) + 1}\r\n\r\n"
            wire.writer.write(head.encode())
            answer = await wire.head()
            assert status(answer) == 413
            assert orjson.loads(await wire.body(answer))["reason"] == "RequestEntityTooLarge"
            assert await wire.ended()
        async with connected(listener) as wire:
            wire.writer.write(CHUNKED)
            for _ in range(4):
                wire.writer.write(b"%x\r\n%b\r\n" % (1 << 20, b"x" * (1 << 20)))
            assert status(await wire.head()) == 413
        assert cluster.store.revision == before


async def test_chunked_bodies_are_read() -> None:
    async with listening() as (_, listener), connected(listener) as wire:
        wire.writer.write(CHUNKED)
        for part in (b'{"metadata":', b'{"name":"a"}}'):
            wire.writer.write(b"%x\r\n%b\r\n" % (len(part), part))
        wire.writer.write(b"0\r\n\r\n")
        assert status(await wire.head()) == 201


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"y" * 70_000 + b" HTTP/1.1\r\n\r\n", 431),
    ],
)
async def test_what_is_no_request_is_refused_and_the_connection_ends(
    raw: bytes, expected: int
) -> None:
    async with listening() as (_, listener), connected(listener) as wire:
        wire.writer.write(raw)
        head = await wire.head()
        assert status(head) == expected
        assert orjson.loads(await wire.body(head))["kind"] == "Status"
        assert await wire.ended()


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nX", b"GET / HTTP/1.1\r\nX: "])
async def test_a_head_without_an_end_is_refused(start: bytes) -> None:
    async with listening() as (_, listener), connected(listener) as wire:
        wire.writer.write(start)
        for _ in range(MAX_HEAD // PIECE + 4):
            wire.writer.write(b"a" * PIECE)
            # Each piece on its own, so that the server sees a head that grows.
            await until(lambda: wire.writer.transport.get_write_buffer_size() == 0)
            await asyncio.sleep(0.001)
            if not listener.connections:
                break
        await until(lambda: not listener.connections)


async def test_expect_continue() -> None:
    async with listening() as (_, listener), connected(listener) as wire:
        body = b'{"metadata":{"name":"a"}}'
        head = f"POST {CM} HTTP/1.1\r\n{AUTH}{EXPECT}Content-Length: {len(body)}\r\n\r\n"
        wire.writer.write(head.encode())
        assert status(await wire.head()) == 100
        wire.writer.write(body)
        assert status(await wire.head()) == 201


async def test_large_answers_are_compressed_for_those_who_take_it() -> None:
    async with listening() as (cluster, listener), connected(listener) as wire:
        for number in range(3):
            body = {"metadata": {"name": f"c{number}"}, "data": {"k": "v" * 100_000}}
            await cluster.http("POST", CM, body)
        _, plain = await wire.get(CM)
        head = await wire.ask("GET", CM, headers="Accept-Encoding: gzip\r\n")
        assert b"content-encoding: gzip" in head.lower()
        packed = await wire.body(head)
        assert len(packed) < len(plain) / 10
        assert gzip.decompress(packed) == plain
        small = await wire.ask("GET", f"{CM}/none", headers="Accept-Encoding: gzip\r\n")
        assert b"gzip" not in small


async def test_bad_tokens_are_unauthorized_and_none_is_anonymous() -> None:
    async with listening() as (_, listener), connected(listener) as wire:
        wire.writer.write(
            f"GET {CM} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrong\r\n\r\n".encode()
        )
        head = await wire.head()
        assert status(head) == 401
        assert orjson.loads(await wire.body(head))["reason"] == "Unauthorized"
        wire.writer.write(f"GET {CM} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = await wire.head()
        assert status(head) == 403
        assert b"system:anonymous" in await wire.body(head)


async def test_a_watch_streams_until_the_client_goes() -> None:
    async with listening() as (cluster, listener):
        async with connected(listener) as wire:
            head = await wire.ask("GET", f"{CM}?watch=1&resourceVersion={cluster.store.revision}")
            assert b"transfer-encoding: chunked" in head.lower()
            await cluster.http("POST", CM, {"metadata": {"name": "a"}})
            size = int(await wire.reader.readline(), 16)
            event = orjson.loads(await wire.reader.readexactly(size))
            assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "a")
            assert len(cluster.server.watchers) == 1
        await until(lambda: not listener.connections and not cluster.server.watchers)


async def test_client_certificates_name_the_user() -> None:
    files = server_files()
    context = ssl.create_default_context(cafile=str(files / "ca.crt"))
    context.load_cert_chain(files / "admin.crt", files / "admin.key")
    async with listening(tls=True) as (_, listener), connected(listener, context) as wire:
        wire.writer.write(b"GET /api/v1/namespaces HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status(await wire.head()) == 200
        tls = wire.writer.get_extra_info("ssl_object")
        assert tls.version() in ("TLSv1.2", "TLSv1.3")
        assert tls.selected_alpn_protocol() in (None, "http/1.1")


async def test_old_tls_is_refused() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with listening(tls=True) as (_, listener):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with connected(listener, context):
                pass


async def test_an_upgrade_gets_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    class Echo(asyncio.Protocol):
        def __init__(self, transport: asyncio.Transport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data.upper())

    async def handler(server: object, request: Request, attributes: Attributes) -> Upgrade:
        assert request.upgradable

        async def splice(transport: asyncio.Transport, received: bytes) -> None:
            transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + received)
            transport.set_protocol(Echo(transport))
            transport.resume_reading()

        return Upgrade(splice)

    monkeypatch.setattr("sampan.server.app.SUBRESOURCES", {("pods", "exec"): handler})
    async with listening() as (_, listener), connected(listener) as wire:
        path = "/api/v1/namespaces/default/pods/p/exec"
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        wire.writer.write(f"GET {path} HTTP/1.1\r\n{AUTH}{upgrade}\r\nearly".encode())
        assert status(await wire.head()) == 101
        assert await wire.reader.readexactly(5) == b"early"
        wire.writer.write(b"late")
        assert await wire.reader.readexactly(4) == b"LATE"


async def test_a_reader_that_stops_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "WRITE_TIMEOUT_S", 0.05)
    async with listening() as (cluster, listener):
        for number in range(40):
            body = {"metadata": {"name": f"c{number}"}, "data": {"k": "v" * 900_000}}
            await cluster.http("POST", CM, body)
        async with connected(listener) as wire:
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            wire.writer.write(f"GET {CM} HTTP/1.1\r\n{AUTH}\r\n".encode())
            await until(lambda: bool(cluster.server.metrics.requests) and not listener.connections)


async def test_an_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "IDLE_TIMEOUT_S", 0.05)
    async with listening() as (_, listener), connected(listener) as wire:
        assert await wire.ended()


async def test_closing_lets_answers_finish() -> None:
    async with (
        listening() as (cluster, listener),
        connected(listener) as wire,
        connected(listener) as idle,
    ):
        await wire.ask("GET", f"{CM}?watch=1")
        await idle.get("/healthz")
        closing = asyncio.create_task(listener.close())
        assert await idle.ended()
        await cluster.server.close()
        rest = await asyncio.wait_for(wire.reader.read(), 5)
        assert rest.endswith(b"0\r\n\r\n")
        await closing
