"""Probe results to health, by the clock; and one look each by HTTP, TCP and command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from sampan.node.looks import Target, look
from sampan.node.narration import Narrator
from sampan.node.probes import Timing, begin, observe
from sampan.node.probing import Prober
from sampan.node.state import Health
from sampan.node.tally import Tally
from tests.kit.clock import FakeClock, settle
from tests.kit.runtime import FakeRuntime


def looks(kind: str, probe: dict[str, Any], results: dict[float, bool], until: float) -> list[str]:
    """A transcript: every look until then; `results` holds what is true from a time on."""
    timing = Timing.of(probe)
    state = begin(kind, timing, 0)
    lines = []
    while state.next_look_at <= until:
        now = state.next_look_at
        good = [value for at, value in sorted(results.items()) if at <= now][-1]
        before, state = state, observe(kind, timing, state, good, now)
        mark = "" if before.good == state.good else f" -> {state.good}"
        lines.append(f"{now:.2f} {'ok' if good else 'failed'}{mark}")
    return lines


def test_readiness_is_seen_early_and_then_by_its_period() -> None:
    assert looks("readiness", {"periodSeconds": 1}, {0: False, 0.1: True, 2.5: False}, 5) == [
        "0.00 failed",
        "0.01 failed",
        "0.03 failed",
        "0.07 failed",
        "0.15 ok -> True",
        "0.50 ok",
        "1.50 ok",
        "2.50 failed",
        "3.50 failed",
        "4.50 failed -> False",
    ]


def test_early_failures_do_not_count() -> None:
    probe = {"periodSeconds": 1, "failureThreshold": 2, "initialDelaySeconds": 2}
    lines = looks("startup", probe, {0: False}, 3.6)
    assert lines[0] == "2.00 failed"
    assert [line for line in lines if "->" in line] == ["3.50 failed -> False"]


def test_several_successes_are_counted_by_the_period() -> None:
    probe = {"periodSeconds": 1, "successThreshold": 2}
    lines = looks("readiness", probe, {0: True}, 2)
    assert [line for line in lines if "->" in line] == ["1.50 ok -> True"]


def test_liveness_starts_good_and_looks_by_its_period() -> None:
    probe = {"periodSeconds": 10, "failureThreshold": 3}
    assert looks("liveness", probe, {0: True, 15: False, 35: True, 45: False}, 71) == [
        "0.50 ok",
        "10.50 ok",
        "20.50 failed",
        "30.50 failed",
        "40.50 ok",
        "50.50 failed",
        "60.50 failed",
        "70.50 failed -> False",
    ]


class Events:
    def __init__(self) -> None:
        self.messages: list[str] = []

    def event(self, obj: Any, type: str, reason: str, message: str, **_: str) -> None:
        self.messages.append(f"{reason}: {message}")


async def test_prober_waits_for_startup_and_tells_of_failures() -> None:
    clock, events = FakeClock(), Events()
    runtime = FakeRuntime(clock)
    code = 1
    runtime.exec_answer = lambda args: (b"not yet\n", code if args == ["start"] else 0)
    container = {
        "name": "c",
        "startupProbe": {"exec": {"command": ["start"]}, "periodSeconds": 10},
        "readinessProbe": {"exec": {"command": ["ready"]}},
    }
    pod = {"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {}}
    seen: list[Health] = []
    tally = Tally()
    around = (runtime, clock, Narrator(events, pod), tally)
    prober = Prober(around, Target(container, "id", "1.2.3.4"), seen.append)
    await settle()
    assert prober.health == Health(started=False, ready=False)
    await clock.advance(0.6)
    assert events.messages == ["Unhealthy: Startup probe failed: not yet\n"]
    code = 0
    await clock.advance(1)
    assert seen[0] == Health(started=True, ready=False)
    assert prober.health == Health(started=True, ready=True)
    prober.stop()
    await settle()


@asynccontextmanager
async def serve(answer: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that says the same to everybody: (port, what was asked)."""
    asked: list[bytes] = []
    handlers: list[asyncio.Task[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(4096))
        writer.write(answer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.create_task(handle(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], asked
    await asyncio.gather(*handlers)


async def see(probe: dict[str, Any], **container: Any) -> tuple[bool, str]:
    target = Target({"name": "c"} | container, "id", "127.0.0.1")
    result = await look(FakeRuntime(), target, probe, 1)
    return result.good, result.text


@pytest.mark.parametrize(
    ("answer", "good", "text"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nhi", True, ""),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 3\r\n\r\nbye",
            True,
            "Probe terminated redirects, Response body: bye",
        ),
        (b"HTTP/1.1 503 No\r\n\r\n", False, "HTTP probe failed with statuscode: 503"),
        (b"", False, 'Get "http://127.0.0.1:PORT/h": EOF'),
        (b"what\r\n\r\n", False, 'Get "http://127.0.0.1:PORT/h": malformed HTTP response "what"'),
    ],
)
async def test_http(answer: bytes, good: bool, text: str) -> None:
    async with serve(answer) as (port, asked):
        probe = {
            "httpGet": {
                "path": "/h",
                "port": "web",
                "httpHeaders": [{"name": "Host", "value": "x"}],
            }
        }
        result = await see(probe, ports=[{"name": "web", "containerPort": port}])
    assert result == (good, text.replace("PORT", str(port)))
    assert asked[0].startswith(b"GET /h HTTP/1.1\r\n")
    assert b"Host: x\r\n" in asked[0]


async def test_a_header_is_one_line() -> None:
    async with serve(b"HTTP/1.1 200 OK\r\n\r\n") as (port, asked):
        headers = [{"name": "X-A", "value": "b\r\nDELETE / HTTP/1.1"}]
        good, text = await see({"httpGet": {"port": port, "httpHeaders": headers}})
    assert not good
    assert text.endswith('net/http: invalid header field value for "X-A"')
    assert asked == []


async def test_refused_connections() -> None:
    async with serve(b"") as (port, _):
        pass
    refused = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
    assert await see({"tcpSocket": {"port": port}}) == (False, refused)
    assert await see({"httpGet": {"port": port}}) == (
        False,
        f'Get "http://127.0.0.1:{port}/": {refused}',
    )
    assert await see({"tcpSocket": {"port": "web"}}) == (False, "couldn't find port: web")


async def test_tcp() -> None:
    async with serve(b"") as (port, _):
        assert await see({"tcpSocket": {"port": port}}) == (True, "")


async def test_a_redirect_elsewhere_is_good_but_told_of() -> None:
    clock, events = FakeClock(), Events()
    answer = b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\n\r\n"
    async with serve(answer) as (port, _):
        container = {"name": "c", "readinessProbe": {"httpGet": {"port": port}}}
        pod = {"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {}}
        seen: list[Health] = []
        around = (FakeRuntime(clock), clock, Narrator(events, pod), Tally())
        prober = Prober(around, Target(container, "id", "127.0.0.1"), seen.append)
        async with asyncio.timeout(5):
            while not seen:  # noqa: ASYNC110
                await asyncio.sleep(0)
        prober.stop()
        await settle()
    assert seen == [Health()]
    text = "Readiness probe warning: Probe terminated redirects, Response body: "
    assert events.messages == [f"ProbeWarning: {text}"]
