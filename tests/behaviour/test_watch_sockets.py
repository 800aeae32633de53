"""Watches over WebSockets, by a client that knows the protocol (aiohttp's)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import ClientSession, WSMsgType, WSServerHandshakeError

from sampan.server.watchsockets import _listen
from tests.kit.clock import settle
from tests.kit.wire import AUTH, connected, listening, status, until

MAPS = "/api/v1/namespaces/default/configmaps"
HEADERS = dict([line.split(": ", 1) for line in AUTH.strip().split("\r\n")])


async def test_events_come_as_messages_until_either_side_ends() -> None:
    async with (
        listening() as (cluster, listener),
        ClientSession(headers=HEADERS) as session,
    ):
        url = f"http://127.0.0.1:{listener.ports[0]}{MAPS}?watch=1"
        big = {"metadata": {"name": "big"}, "data": {"k": "é" * 70_000}}
        await cluster.http("POST", MAPS, big)
        async with session.ws_connect(url, protocols=["base64.binary.k8s.io"]) as socket:
            assert socket.protocol == "base64.binary.k8s.io"
            first = await socket.receive_json(timeout=5)
            assert (first["type"], first["object"]["data"]) == ("ADDED", big["data"])
            for number in range(3):
                await cluster.http("POST", MAPS, {"metadata": {"name": f"c{number}"}})
            names = [(await socket.receive_json(timeout=5))["object"] for _ in range(3)]
            assert [item["metadata"]["name"] for item in names] == ["c0", "c1", "c2"]
            await socket.ping(b"there?")
            await socket.send_str("nobody listens")
            await cluster.http("DELETE", f"{MAPS}/c0")
            assert (await socket.receive_json(timeout=5))["type"] == "DELETED"
        await until(lambda: not cluster.server.watchers)
        async with session.ws_connect(
            f"{url}&resourceVersion=1&fieldSelector=metadata.name=c1"
        ) as two:
            assert (await two.receive_json(timeout=5))["object"]["metadata"]["name"] == "c1"
            await cluster.server.close()
            last = await two.receive(timeout=5)
            assert (last.type, two.close_code) == (WSMsgType.CLOSE, 1000)
        with pytest.raises(WSServerHandshakeError, match="400"):
            await session.ws_connect(f"{url}&fieldSelector=nonsense")


async def test_who_breaks_the_protocol_is_let_go() -> None:
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    async with listening() as (cluster, listener):
        async with connected(listener) as wire:
            wire.writer.write(f"GET {MAPS}?watch=1 HTTP/1.1\r\n{AUTH}{upgrade}\r\n".encode())
            assert status(await wire.head()) == 400
        for rude in (b"\x81\x02hi", b"\x81\xff" + b"\xff" * 8 + b"mask", b"\x81"):
            async with connected(listener) as wire:
                ask = f"GET {MAPS}?watch=1 HTTP/1.1\r\n{AUTH}{upgrade}{key}\r\n"
                wire.writer.write(ask.encode())
                head = await wire.head()
                assert status(head) == 101
                assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head, "RFC 6455, section 1.3"
                wire.writer.write(rude)
                if len(rude) == 1:
                    wire.writer.close()
                else:
                    assert await wire.ended()
        await asyncio.wait_for(until(lambda: not cluster.server.watchers), 5)


async def test_who_does_not_take_the_answers_to_pings_is_not_heard_further() -> None:
    """Answers would wait for it without a bound."""
    pongs: list[bytes] = []

    class Full:
        def write(self, data: bytes) -> None:
            pongs.append(data)

        async def drain(self) -> None:
            await asyncio.Event().wait()

    reader = asyncio.StreamReader()
    reader.feed_data(b"\x89\x80mask" * 5)
    writer: Any = Full()
    heard = asyncio.create_task(_listen(reader, writer))
    await settle()
    heard.cancel()
    assert len(pongs) == 1
