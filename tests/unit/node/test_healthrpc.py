"""Looks by gRPC at a server that says what a real one (grpc-core) was seen to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from sampan.node.healthrpc import DATA, HEADERS, PING, SETTINGS, fields_of, frame, unpack
from sampan.node.looks import Target, look
from tests.kit.runtime import FakeRuntime

# ":status: 200", and trailers of which the first are Huffman-coded, the second are not.
OK_HEAD = frame(HEADERS, 4, 1, b"\x88")
OK_END = frame(HEADERS, 5, 1, b"\x40\x88\x9a\xca\xc8\xb2\x12\x34\xda\x8f\x01\x30")
UNKNOWN = b"\x00\x0bgrpc-status\x0212\x00\x0cgrpc-message\x07no such"


def told(status: int) -> bytes:
    return frame(DATA, 0, 1, b"\0\0\0\0\x02\x08" + bytes([status]))


@asynccontextmanager
async def serve(answer: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    asked: list[bytes] = []
    handlers: list[asyncio.Task[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"trailers"))
        writer.write(frame(SETTINGS, 0, 0, b"") + frame(PING, 0, 0, b"12345678") + answer)
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.create_task(handle(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], asked
    await asyncio.gather(*handlers)


async def see(port: int) -> tuple[bool, str]:
    target = Target({"name": "c"}, "id", "127.0.0.1")
    result = await look(FakeRuntime(), target, {"grpc": {"port": port, "service": ""}}, 0.2)
    return result.good, result.text


@pytest.mark.parametrize(
    ("answer", "good", "text"),
    [
        (OK_HEAD + told(1) + OK_END, True, ""),
        (OK_HEAD + told(2) + OK_END, False, 'service unhealthy (responded with "NOT_SERVING")'),
        (
            frame(HEADERS, 5, 1, b"\x88" + UNKNOWN),
            False,
            "error: this server does not implement the grpc health protocol "
            "(grpc.health.v1.Health): rpc error: code = Unimplemented desc = no such",
        ),
        (OK_HEAD, False, "timeout: health rpc did not complete within 0.2s"),
        (
            frame(3, 0, 1, b"\0\0\0\x02"),
            False,
            "error: health rpc probe failed: rpc error: code = Unavailable "
            "desc = stream terminated by RST_STREAM",
        ),
        (
            b"\xff" * 64,
            False,
            "error: health rpc probe failed: rpc error: code = Unavailable desc = frame too large",
        ),
    ],
)
async def test_answers(answer: bytes, good: bool, text: str) -> None:
    async with serve(answer) as (port, asked):
        assert await see(port) == (good, text)
    assert b"/grpc.health.v1.Health/Check" in asked[0]


async def test_nobody_listens() -> None:
    async with serve(b"") as (port, _):
        pass
    text = "timeout: failed to connect service"
    assert await see(port) == (
        False,
        f'{text} "127.0.0.1:{port}" within 0.2s: context deadline exceeded',
    )


def test_packed_text_and_malformed_headers() -> None:
    # RFC 7541, C.4.1.
    assert unpack(bytes.fromhex("f1e3c2e5f23a6ba0ab90f4ff")) == "www.example.com"
    for block in (b"\x00", b"\x00\x7f", b"\x0f", b"\x00\x7f\xff\xff\xff\xff\xff\xff"):
        with pytest.raises(ValueError, match="malformed"):
            dict(fields_of(block))
