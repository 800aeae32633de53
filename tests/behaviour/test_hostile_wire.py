"""Clients that mean harm, on the wire: requests that can be read in two ways, frames without end,
clients that are slow, leave in the middle, or never read. What they hold is bounded, and others are
served meanwhile."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import ssl
import struct
import weakref

import orjson
import pytest

from sampan.server import connection, http, listeners, watching
from sampan.server.http import Listener
from tests.kit.cluster import Cluster, server_files
from tests.kit.wire import AUTH, Wire, connected, length, listening, status, until

CM = "/api/v1/namespaces/default/configmaps"
BODY = b'{"metadata":{"name":"a"}}'
HIDDEN = f"POST {CM} HTTP/1.1\r\n{AUTH}Content-Length: 25\r\n\r\n".encode() + BODY
CHUNKS = b"19\r\n" + BODY + b"\r\n0\r\n\r\n"


def post(headers: str, body: bytes = CHUNKS) -> bytes:
    lines = "".join(f"{line}\r\n" for line in headers.split("|"))
    return f"POST {CM} HTTP/1.1\r\n{AUTH}{lines}\r\n".encode() + body


def get(headers: str, path: str = CM, version: str = "1.1") -> bytes:
    lines = AUTH + (f"{headers}\r\n" if headers else "")
    return f"GET {path} HTTP/{version}\r\n{lines}\r\n".encode()


SHAPES = {
    "both lengths": (post("Content-Length: 4|Transfer-Encoding: chunked", b"0\r\n\r\n"), 400),
    "both, turned": (post("Transfer-Encoding: chunked|Content-Length: 4", b"0\r\n\r\n"), 400),
    "two lengths": (post("Content-Length: 25|Content-Length: 0", BODY), 400),
    "lengths in a list": (post("Content-Length: 25, 25", BODY), 400),
    "a signed length": (post("Content-Length: +25", BODY), 400),
    "a negative length": (post("Content-Length: -1", BODY), 400),
    "a length in hex": (post("Content-Length: 0x19", BODY), 400),
    "an endless length": (post("Content-Length: " + "9" * 30, BODY), 400),
    "a space before the colon": (post("Content-Length : 25", BODY), 400),
    "another coding": (post("Transfer-Encoding: xchunked"), 501),
    "two codings": (post("Transfer-Encoding: gzip, chunked"), 501),
    "chunked not last": (post("Transfer-Encoding: chunked, identity"), 400),
    "chunked twice": (post("Transfer-Encoding: chunked|Transfer-Encoding: chunked"), 400),
    "a vertical tab": (post("Transfer-Encoding: \x0bchunked"), 400),
    "a negative chunk": (post("Transfer-Encoding: chunked", b"-1\r\n" + BODY), 400),
    "a chunk of letters": (post("Transfer-Encoding: chunked", b"zz\r\n" + BODY), 400),
    "a chunk in hex": (post("Transfer-Encoding: chunked", b"0x19\r\n" + BODY), 400),
    "an endless chunk": (post("Transfer-Encoding: chunked", b"f" * 17 + b"\r\n" + BODY), 400),
    "a chunk that goes on": (post("Transfer-Encoding: chunked", b"19\r\n" + BODY + b"XX"), 400),
    "bare line feeds": (post("Transfer-Encoding: chunked", CHUNKS.replace(b"\r\n", b"\n")), 400),
    "a folded header": (get("X: a\r\n b"), 400),
    "a header with a space": (get("X y: a"), 400),
    "a nul": (get("X: a\0b"), 400),
    "a bare return": (get("X: a\rTransfer-Encoding: chunked"), 400),
    "two hosts": (get("Host: b"), 400),
    "no host": (f"GET {CM} HTTP/1.1\r\n\r\n".encode(), 400),
    "version 0.9": (b"GET /healthz\r\n\r\n", 505),
    "version 2.0": (get("", version="2.0"), 505),
    "a preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "no address": (get("", "http://[::"), 400),
    "an authority": (f"CONNECT a:443 HTTP/1.1\r\n{AUTH}\r\n".encode(), 400),
    "TLS in clear": (bytes.fromhex("1603010200010001fc0303") + bytes(60), 400),
}  # fmt: skip


async def test_old_clients_name_no_host() -> None:
    """HTTP/1.0 knows no such header; of 1.1 it is demanded, as net/http does."""
    async with listening() as (_, listener), connected(listener) as wire:
        wire.writer.write(b"GET /version HTTP/1.0\r\n\r\n")
        assert status(await wire.head()) == 200


@pytest.mark.parametrize("shape", SHAPES)
async def test_what_can_be_read_in_two_ways_is_refused(shape: str) -> None:
    """And what hides behind it is read in none."""
    raw, expected = SHAPES[shape]
    async with listening() as (cluster, listener), connected(listener) as wire:
        before = cluster.store.revision
        wire.writer.write(raw + HIDDEN)
        head = await wire.head()
        assert status(head) == expected, head
        assert orjson.loads(await wire.body(head))["kind"] == "Status"
        try:
            assert await wire.ended()
        except ConnectionError:
            pass  # with what was not read
        assert cluster.store.revision == before


async def test_what_hides_would_be_read() -> None:
    """The control of the above: behind a good request, it is."""
    async with listening() as (cluster, listener), connected(listener) as wire:
        before = cluster.store.revision
        wire.writer.write(get("", "/healthz") + HIDDEN)
        await wire.body(await wire.head())
        assert status(await wire.head()) == 201
        assert cluster.store.revision == before + 1


ODD_PATHS = ("*", "/" * 60_000, "/a" * 30_000, "//api//v1", f"{CM}/..%2f..%2fa", "/%2e%2e/%00")


@pytest.mark.parametrize("path", ODD_PATHS, ids=range(len(ODD_PATHS)))
@pytest.mark.parametrize("method", ["GET", "OPTIONS", "POST", "TRACE"])
async def test_paths_that_lead_nowhere(method: str, path: str) -> None:
    async with listening() as (_, listener), connected(listener) as wire:
        wire.writer.write(f"{method} {path} HTTP/1.1\r\n{AUTH}Content-Length: 0\r\n\r\n".encode())
        assert status(await wire.head()) in (400, 404, 405)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("&".join(f"p{number}=1" for number in range(6000)), 200),
        ("labelSelector=" + ",".join(f"a{number}!%3Db" for number in range(4000)), 200),
        ("labelSelector=" + "(" * 50_000, 400),
        ("fieldSelector=" + "metadata.name%3Da," * 3000, 200),
        ("limit=" + "9" * 50_000, 400),
        ("resourceVersion=" + "9" * 50_000, 400),
        ("continue=" + "A" * 50_000, 400),
        ("x=" + "y" * 70_000, 431),
    ],
    ids=range(8),
)
async def test_long_and_many_parameters(query: str, expected: int) -> None:
    async with listening() as (_, listener), connected(listener) as wire:
        wire.writer.write(get("", f"{CM}?{query}"))
        assert status(await wire.head()) == expected


async def test_a_flood_of_headers() -> None:
    async with listening() as (_, listener), connected(listener) as wire:
        wire.writer.write(get("\r\n".join(f"h{number}: v" for number in range(20_000))))
        assert status(await wire.head()) == 431


async def test_a_trailer_names_nobody() -> None:
    trailer = f"19\r\n{BODY.decode()}\r\n0\r\n{AUTH}Impersonate-User: x\r\n\r\n".encode()
    raw = f"POST {CM} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + trailer
    async with listening() as (_, listener), connected(listener) as wire:
        wire.writer.write(raw)
        head = await wire.head()
        assert status(head) == 403
        assert b'User \\"system:anonymous\\" cannot create' in await wire.body(head)


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"1;", b"a" * 8192),  # an extension without an end
        (b"", b"1;" + b"a" * 500 + b"\r\nx\r\n"),  # large ones, with a little body each
        (b"0\r\nX: ", b"a" * 8192),  # a trailer without an end
        (b"0\r\n", b"X: y\r\n" * 1000),  # trailers without end
    ],
    ids=["extension", "extensions", "trailer", "trailers"],
)
async def test_frames_around_nothing(start: bytes, more: bytes) -> None:
    async with listening() as (_, listener), connected(listener) as wire:
        wire.writer.write(post("Transfer-Encoding: chunked", start))
        sent = 0
        # Piece by piece, as they come over a network.
        while listener.connections or not sent:
            wire.writer.write(more)
            sent += len(more)
            await until(lambda: wire.writer.transport.get_write_buffer_size() == 0)
            await asyncio.sleep(0)
            assert sent < 40 * connection.MAX_HEAD
        assert sent >= connection.MAX_HEAD


async def others_are_served(listener: Listener) -> None:
    async with connected(listener) as other:
        assert (await other.get("/healthz")) == (200, b"ok")


@pytest.mark.parametrize(
    "start", [b"", b"GET / HT", post("Content-Length: 25", b"{"), post("Transfer-Encoding: chunked",
    b"19\r\n{")], ids=["silence", "head", "body", "chunk"]
)  # fmt: skip
async def test_a_request_that_drips_has_an_end(
    start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "IDLE_TIMEOUT_S", 0.1)
    monkeypatch.setattr(connection, "READ_TIMEOUT_S", 0.1)
    async with listening() as (cluster, listener), connected(listener) as wire:
        before = cluster.store.revision
        wire.writer.write(start)
        await until(lambda: listener.connections == 1)
        await others_are_served(listener)
        # A byte now and then does not buy time.
        while listener.connections:
            if start:
                wire.writer.write(b" ")
            await asyncio.sleep(0.01)
        assert cluster.store.revision == before


def cut(wire: Wire) -> None:
    """Reset the connection."""
    sock = wire.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.writer.transport.abort()


async def test_resets_in_the_middle_of_a_body() -> None:
    async with listening() as (cluster, listener):
        before = cluster.store.revision
        for size in range(0, len(BODY), 6):
            for raw in (
                post("Content-Length: 25", BODY[:size]),
                post("Transfer-Encoding: chunked", CHUNKS[: size + 4]),
            ):
                async with connected(listener) as wire:
                    wire.writer.write(raw)
                    await until(lambda: listener.connections == 1)
                    cut(wire)
                    await until(lambda: not listener.connections)
        assert cluster.store.revision == before
        await others_are_served(listener)


async def test_half_closed_sockets() -> None:
    async with listening() as (cluster, listener):
        async with connected(listener) as wire:
            wire.writer.write(get(""))
            wire.writer.write_eof()
            head = await wire.head()
            assert status(head) == 200
            await wire.body(head)
            assert await wire.ended()
        before = cluster.store.revision
        async with connected(listener) as wire:
            wire.writer.write(post("Content-Length: 25", BODY[:20]))
            wire.writer.write_eof()
            assert await wire.ended()
        assert cluster.store.revision == before
        async with connected(listener) as wire:
            await wire.ask("GET", f"{CM}?watch=1")
            assert len(cluster.server.watchers) == 1
            wire.writer.write_eof()
            await until(lambda: not cluster.server.watchers and not listener.connections)


async def fill(cluster: Cluster, objects: int) -> int:
    """Something large to list; bytes of the list, about."""
    for number in range(objects):
        body = {"metadata": {"name": f"c{number}"}, "data": {"k": "v" * 900_000}}
        assert (await cluster.http("POST", CM, body)).status == 201
    return objects * 900_000


def unsent(listener: Listener) -> int:
    return sum(item.unsent for item in listener._shared.connections)


async def idler(listener: Listener) -> Wire:
    """A client that does not read, and whose kernel does not for it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", listener.ports[0]))
    wire = Wire(*await asyncio.open_connection(sock=sock))
    pause(wire)
    return wire


def pause(wire: Wire) -> None:
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]


def resume(wire: Wire) -> None:
    wire.writer.transport.resume_reading()  # type: ignore[attr-defined]


async def test_who_does_not_read_is_not_answered_further() -> None:
    """Many lists asked for on one connection: one waits to be read, the others to be made."""
    asked = 30
    async with listening() as (cluster, listener):
        size = await fill(cluster, 8)
        wire = await idler(listener)
        wire.writer.write(get("") * asked)
        await until(lambda: unsent(listener) > 0)
        for _ in range(20):
            await others_are_served(listener)
            assert unsent(listener) < size * 1.1
        resume(wire)
        for _ in range(asked):
            head = await wire.head()
            assert status(head) == 200
            assert length(head) > size
            await wire.body(head)
        # And it goes on as ever.
        assert (await wire.get("/healthz"))[0] == 200
        wire.writer.close()


async def test_answers_nobody_takes_are_bounded_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 20 << 20
    monkeypatch.setattr(listeners, "MAX_UNSENT", most)
    async with listening() as (cluster, listener):
        size = await fill(cluster, 12)
        wires = []
        for _ in range(8):
            wires.append(await idler(listener))
            last = wires[-1].writer.get_extra_info("sockname")[1]
            wires[-1].writer.write(get(""))
            await until(lambda port=last: port in slow_ports(listener))
            assert unsent(listener) <= most
        # The first were the slowest; the last gets its answer.
        assert 0 < len(listener._shared.slow) < 8
        resume(wires[-1])
        head = await wires[-1].head()
        assert len(await wires[-1].body(head)) > size
        await others_are_served(listener)
        for wire in wires:
            wire.writer.transport.abort()


def slow_ports(listener: Listener) -> set[int]:
    return {item._transport.get_extra_info("peername")[1] for item in listener._shared.slow}


async def test_a_connection_that_is_gone_takes_nothing() -> None:
    """Without waiting for the collector of cycles: large answers would pile up until it comes."""
    async with listening() as (_, listener):
        gc.collect()
        gc.disable()
        try:
            async with connected(listener) as wire:
                await wire.get("/healthz")
                known = weakref.ref(next(iter(listener._shared.connections)))
                cut(wire)
            await until(lambda: not listener.connections)
            await asyncio.sleep(0)
            assert known() is None
        finally:
            gc.enable()


async def test_a_watcher_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "QUEUE_CHANGES", 40)
    async with listening() as (cluster, listener), connected(listener) as slow:
        await slow.ask("GET", f"{CM}?watch=1")
        pause(slow)
        for number in range(200):
            body = {"metadata": {"name": f"c{number}"}, "data": {"k": "v" * 100_000}}
            assert (await cluster.http("POST", CM, body)).status == 201
            await asyncio.sleep(0)
            assert unsent(listener) < 40 * 100_000
        assert not cluster.server.watchers
        await others_are_served(listener)


async def test_a_watcher_that_reads_late_gets_everything_in_order() -> None:
    """What is written at once and what had to wait for the reader are one stream."""
    async with listening() as (cluster, listener), connected(listener) as wire:
        await wire.ask("GET", f"{CM}?watch=1&resourceVersion={cluster.store.revision}")
        names = [f"c{number}" for number in range(30)]
        pause(wire)
        for number, name in enumerate(names):
            body = {"metadata": {"name": name}, "data": {"k": "v" * 600_000}}
            assert (await cluster.http("POST", CM, body)).status == 201
            if number == 20:
                # Far more than the kernel takes, so that the reader had to be waited for.
                assert unsent(listener) > 0
                resume(wire)
        assert await asyncio.wait_for(watched_names(wire, len(names)), 10) == names


async def watched_names(wire: Wire, count: int) -> list[str]:
    names: list[str] = []
    while len(names) < count:
        size = int(await wire.reader.readline(), 16)
        chunk = (await wire.reader.readexactly(size + 2))[:size]
        names += [orjson.loads(line)["object"]["metadata"]["name"] for line in chunk.splitlines()]
    return names


async def test_handshakes_that_are_never_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "HANDSHAKE_TIMEOUT_S", 0.3)
    context = ssl.create_default_context(cafile=str(server_files() / "ca.crt"))
    async with listening(tls=True) as (_, listener):
        before = len(os.listdir("/proc/self/fd"))
        clients = [socket.create_connection(("127.0.0.1", listener.ports[0])) for _ in range(200)]
        for number, client in enumerate(clients):
            client.sendall((b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n")[number % 3])
        async with connected(listener, context) as other:
            assert (await other.get("/healthz"))[0] == 200
        # Theirs and ours: the server has closed its ends.
        await until(lambda: len(os.listdir("/proc/self/fd")) <= before + len(clients) + 1)
        for client in clients:
            client.close()
        await until(lambda: not listener.connections)
