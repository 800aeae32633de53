"""The HTTP transport against a real socket: errors, bodies, and watches cut at any byte."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import orjson
import pytest
from aiohttp import web

from sampan.api.errors import Conflict, Expired, Object, ServiceUnavailable, conflict
from sampan.client.http import HttpTransport
from sampan.client.interface import WatchEvent
from sampan.client.lines import LineSplitter, LineTooLongError

BIG = {"metadata": {"name": "ü" * 100_000}}


async def answer(request: web.Request) -> web.StreamResponse:
    if request.path == "/echo":
        body = await request.read()
        return web.json_response(
            {"query": dict(request.query), "body": body.decode(), "type": request.content_type,
             "auth": request.headers.get("Authorization")}
        )  # fmt: skip
    if request.path == "/conflict":
        status = conflict("apps", "deployments", "x", "the object has been modified")
        return web.json_response(status.status_object(), status=409)
    if request.path == "/proxy":
        return web.Response(text="upstream down", status=503)
    response = web.StreamResponse()
    await response.prepare(request)
    events: list[Object] = [{"type": "ADDED", "object": BIG}, {"type": "BOOKMARK", "object": {}}]
    if "resourceVersion" in request.query:
        events.append({"type": "ERROR", "object": Expired("too old").status_object()})
    data = b"".join(orjson.dumps(event) + b"\n" for event in events)
    for start in range(0, len(data), 70_001):
        await response.write(data[start : start + 70_001])
    return response


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made = HttpTransport(f"http://127.0.0.1:{runner.addresses[0][1]}", token="t")
    yield made
    await made.close()
    await runner.cleanup()


async def test_sends_query_body_and_credentials(transport: HttpTransport) -> None:
    got = await transport.request(
        "PATCH", "/echo", query={"labelSelector": "a in (b,c)"}, body={"a": 1}, content_type="x/y"
    )
    assert got == {
        "query": {"labelSelector": "a in (b,c)"}, "body": '{"a":1}', "type": "x/y",
        "auth": "Bearer t",
    }  # fmt: skip


async def test_errors_are_the_apis_own(transport: HttpTransport) -> None:
    with pytest.raises(Conflict, match=r'deployments\.apps "x"'):
        await transport.request("GET", "/conflict")
    with pytest.raises(ServiceUnavailable, match="upstream down"):
        await transport.request("GET", "/proxy")
    nowhere = HttpTransport("http://127.0.0.1:1")
    with pytest.raises(OSError, match=r"http://127\.0\.0\.1:1"):
        await nowhere.request("GET", "/")
    await nowhere.close()


async def read_all(transport: HttpTransport, query: dict[str, str]) -> list[WatchEvent]:
    async with aclosing(transport.watch("/watch", query)) as events:
        return [event async for event in events]


async def test_a_watch_gives_events_and_raises_errors(transport: HttpTransport) -> None:
    got = await read_all(transport, {})
    assert [event.type for event in got] == ["ADDED", "BOOKMARK"]
    assert got[0].object == BIG
    with pytest.raises(Expired, match="too old"):
        await read_all(transport, {"resourceVersion": "1"})


def test_lines_come_whole_however_they_are_cut() -> None:
    data = b"one\n\ntwo two\nthree"
    for size in range(1, len(data) + 1):
        splitter = LineSplitter()
        got = [
            line for at in range(0, len(data), size) for line in splitter.feed(data[at : at + size])
        ]
        assert got == [b"one", b"two two"]
    with pytest.raises(LineTooLongError):
        LineSplitter(limit_bytes=4).feed(b"12345")
