"""The outgoing caller: what it believes, keeps, bounds and says."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from sampan.api.resources import resource
from sampan.server.webhooks import caller as caller_module
from sampan.server.webhooks.inspecting import name_words, time_words
from sampan.server.webhooks.target import CallFailed, target_of
from tests.kit.cluster import Cluster, api_cluster
from tests.kit.hooks import Call, HookServer, Reply, authority, hook_server

Answer = Callable[[Call], Awaitable[Reply]]


async def echo(call: Call) -> Reply:
    return Reply({"got": call.json})


@asynccontextmanager
async def pair(answer: Answer) -> AsyncIterator[tuple[Cluster, HookServer]]:
    async with api_cluster() as cluster, hook_server(answer) as hook:
        yield cluster, hook


def config(hook: HookServer, path: str = "/x") -> dict[str, object]:
    return {"url": hook.url(path), "caBundle": hook.bundle}


async def failure(cluster: Cluster, settings: dict[str, object], timeout_s: float = 5.0) -> str:
    with pytest.raises(CallFailed) as caught:
        await cluster.server.webhooks.post_json(target_of(settings), {"a": 1}, timeout_s)
    return caught.value.message


async def test_one_connection_serves_many_calls() -> None:
    async with pair(echo) as (cluster, hook):
        target = target_of(config(hook))
        for number in range(3):
            assert await cluster.server.webhooks.post_json(target, {"n": number}, 5) == {
                "got": {"n": number}
            }
        assert hook.connections == 1
        assert hook.calls[0].target == "/x?timeout=5s"
        assert hook.calls[0].headers["host"] == f"localhost:{hook.port}"


async def test_a_closed_connection_is_replaced() -> None:
    async def once(call: Call) -> Reply:
        body = b'{"ok":true}'
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        return Reply(raw=head + body)

    async with pair(once) as (cluster, hook):
        target = target_of(config(hook))
        for _ in range(3):
            assert await cluster.server.webhooks.post_json(target, {}, 5) == {"ok": True}
        assert hook.connections == 3


async def test_what_is_not_believed() -> None:
    async with pair(echo) as (cluster, hook):
        url = hook.url("/x")
        said = await failure(cluster, {"url": url})
        assert said == (
            f'Post "{url}?timeout=5s": tls: failed to verify certificate: x509: certificate '
            "signed by unknown authority"
        )
        wrong_name = url.replace("localhost", "127.0.0.1")
        said = await failure(cluster, {"url": wrong_name, "caBundle": hook.bundle})
        assert said.endswith(
            "x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs"
        )
        said = await failure(cluster, {"url": url, "caBundle": base64.b64encode(b"no").decode()})
        assert "unable to parse bytes as PEM block" in said
        assert not hook.calls


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            ("a.example", "b.example"),
            "certificate is valid for a.example, b.example, not localhost",
        ),
        (("other",) * 100, "certificate is valid for 100 names, but none matched localhost"),
        ((), "certificate is not valid for any names, but wanted to match localhost"),
    ],
)
async def test_a_certificate_for_others_is_told_by_its_names(
    names: tuple[str, ...], words: str
) -> None:
    """As Go's HostnameError: the first thing one looks for when a webhook does not answer."""
    async with api_cluster() as cluster, hook_server(echo, names=names) as hook:
        said = await failure(cluster, config(hook))
        assert said.endswith(f": tls: failed to verify certificate: x509: {words}")
        assert not hook.calls


def test_words_of_a_time_that_is_over() -> None:
    _, certificate = authority()
    later = certificate.not_valid_after_utc.timestamp() + 1
    assert time_words(certificate, later).startswith(
        "certificate has expired or is not yet valid: current time 2"
    )
    assert f" is after {certificate.not_valid_after_utc:%Y-%m-%dT%H}" in time_words(
        certificate, later
    )
    assert name_words(certificate, "hook-ca") == (
        "certificate relies on legacy Common Name field, use SANs instead"
    )


async def test_a_silent_peer_is_given_up() -> None:
    async def hang(call: Call) -> Reply:
        await asyncio.Event().wait()
        return Reply()

    async with pair(hang) as (cluster, hook):
        said = await failure(cluster, config(hook), 0.05)
        assert said == f'Post "{hook.url("/x")}?timeout=1s": context deadline exceeded'


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(b"gone fishing", 500, {"Content-Type": "text/plain"}),
         'an error on the server ("gone fishing") has prevented the request from succeeding'),
        (Reply({}, 404), "the server could not find the requested resource"),
        (Reply({}, 302, {"Location": "https://localhost:1/"}),
         "the server responded with the status code 302 but did not return more information"),
        (Reply({"kind": "Status", "message": "own words"}, 409), "own words"),
        (Reply(b"<html>"), "couldn't get version/kind; json parse error"),
        (Reply(b"[]"), "couldn't get version/kind; json parse error: not an object"),
        (Reply(b""), "0-length response with status code: 200"),
        (Reply(raw=b""), "EOF"),
        (Reply(raw=b"SSH-2.0-hello\r\n"), "transport connection broken"),
        (Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"), "unexpected EOF"),
        (Reply(raw=b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000), "headers exceeded"),
    ],
)  # fmt: skip
async def test_bad_answers(reply: Reply, words: str) -> None:
    async def answer(call: Call) -> Reply:
        return reply

    async with pair(answer) as (cluster, hook):
        assert words in await failure(cluster, config(hook))
        assert len(hook.calls) == 1


async def test_a_flood_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller_module, "MAX_ANSWER_BYTES", 1 << 20)

    async def flood(call: Call) -> Reply:
        async def chunks() -> AsyncIterator[bytes]:
            while True:
                yield b" " * 65536

        return Reply(chunks())

    async with pair(flood) as (cluster, hook):
        assert "response body too large" in await failure(cluster, config(hook))


async def test_services() -> None:
    services = resource("services")
    async with pair(echo) as (cluster, hook):

        def reference(name: str, port: int) -> dict[str, object]:
            service = {"namespace": "default", "name": name, "port": port, "path": "/x"}
            return {"service": service, "caBundle": hook.bundle}

        async def make(name: str, spec: dict[str, object]) -> None:
            body = {"metadata": {"name": name}, "spec": spec}
            await cluster.client.create(services, body, "default")

        await make("hook", {"type": "ExternalName", "externalName": "localhost"})
        await make("idle", {"selector": {"a": "b"}, "ports": [{"port": 443}]})
        target = target_of(reference("hook", hook.port))
        assert await cluster.server.webhooks.post_json(target, {}, 5) == {"got": {}}
        assert hook.calls[0].headers["host"] == f"hook.default.svc:{hook.port}"
        post = 'Post "https://idle.default.svc:443/x?timeout=5s": '
        assert await failure(cluster, reference("idle", 443)) == (
            f'{post}no endpoints available for service "idle"'
        )
        said = await failure(cluster, reference("idle", 1))
        assert said.endswith('no service port 1 found for service "idle"')
        assert (await failure(cluster, reference("no", 443))).endswith('service "no" not found')
        said = await failure(cluster, reference("hook", 1))
        assert said.endswith("dial tcp localhost:1: connect: connection refused")
