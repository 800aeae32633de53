"""Webhooks that hang, lie or answer garbage: every call has an end, what failed is said in
upstream's words, and failurePolicy decides; others are served meanwhile."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from sampan.server.webhooks import caller
from tests.kit.cluster import Answer, Cluster, api_cluster
from tests.kit.hooks import Call, HookServer, Reply, hook_server

GROUP = "/apis/admissionregistration.k8s.io/v1"
KINDS = {"admit": "mutatingwebhookconfigurations", "validate": "validatingwebhookconfigurations"}
MAPS = "/api/v1/namespaces/default/configmaps"
RULES = [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
          "resources": ["configmaps"]}]  # fmt: skip
NAME = "bad.example.com"
FAILED = f'Internal error occurred: failed calling webhook "{NAME}": '
CALLED = FAILED + "failed to call webhook: "
LIED = FAILED + "received invalid webhook response: "


@dataclass(slots=True)
class Bench:
    cluster: Cluster
    hook: HookServer

    async def register(self, kind: str = "validate", **fields: Any) -> None:
        webhook = {
            "name": NAME, "rules": RULES, "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": self.hook.url("/x"), "caBundle": self.hook.bundle}, **fields,
        }  # fmt: skip
        body = {"metadata": {"name": "bad"}, "webhooks": [webhook]}
        await self.cluster.http("DELETE", f"{GROUP}/{KINDS[kind]}/bad")
        made = await self.cluster.http("POST", f"{GROUP}/{KINDS[kind]}", body)
        assert made.status == 201, made.message

    def hurry(self, kind: str = "validate", timeout_s: float = 0.1) -> None:
        """Less than the least time-out the API takes."""
        for hook in self.cluster.server.admission.hooks._hooks[kind]:
            hook.timeout_s = timeout_s

    async def create(self, name: str = "m") -> Answer:
        return await self.cluster.http("POST", MAPS, {"metadata": {"name": name}})


@asynccontextmanager
async def bench(answer: Callable[[Call], Any], **options: Any) -> AsyncIterator[Bench]:
    async def reply(call: Call) -> Reply:
        said = answer(call)
        if asyncio.iscoroutine(said):
            said = await said
        assert isinstance(said, Reply)
        return said

    async with api_cluster() as cluster, hook_server(reply, **options) as hook:
        yield Bench(cluster, hook)


def response(call: Call, changes: dict[str, Any], **head: Any) -> Reply:
    """An answer that is right but for what is asked to be wrong."""
    review = call.json
    said = {"uid": review["request"]["uid"], "allowed": True, **changes}
    made = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": said}
    return Reply({**made, **head})


def patch(text: bytes, kind: Any = "JSONPatch") -> dict[str, Any]:
    return {"patch": base64.b64encode(text).decode(), "patchType": kind}


GIVEN = "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got "
LIES: dict[str, tuple[str, Callable[[Call], Reply], str]] = {
    "another's uid": ("validate", lambda call: response(call, {"uid": "1-2"}),
                      LIED + 'expected response.uid="'),
    "a uid that is none": ("validate", lambda call: response(call, {"uid": 5}), FAILED),
    "another kind": ("validate", lambda call: response(call, {}, kind="Pod"),
                     LIED + GIVEN + "admission.k8s.io/v1, Kind=Pod"),
    "another version": ("validate", lambda call: response(call, {}, apiVersion="a/v1beta1"),
                        LIED + GIVEN + "a/v1beta1, Kind=AdmissionReview"),
    "no response": ("validate", lambda call: response(call, {}, response=None),
                    LIED + "webhook response was absent"),
    "a list": ("validate", lambda call: Reply([1]), CALLED),
    "nothing": ("validate", lambda call: Reply(b""), CALLED),
    "garbage": ("validate", lambda call: Reply(b"\xff\x00garbage"), CALLED),
    "deep JSON": ("validate", lambda call: Reply(b"[" * 100_000), CALLED),
    "deep warnings": ("validate", lambda call: response(call, {"warnings": [[[]]] * 9}), ""),
    "no HTTP": ("validate", lambda call: Reply(raw=b"SSH-2.0-x\r\n\r\n"), CALLED),
    "nothing at all": ("validate", lambda call: Reply(raw=b""), CALLED),
    "less than it says": ("validate", lambda call: Reply(
        raw=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}"), CALLED),
    "two lengths": ("validate", lambda call: Reply(
        raw=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"), CALLED),
    "headers without end": ("validate", lambda call: Reply(
        raw=b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 40_000), CALLED),
    "an upgrade": ("validate", lambda call: Reply(
        raw=b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        CALLED),
    "a redirect": ("validate", lambda call: Reply(b"", 307, {"Location": "https://localhost:1/"}),
                   CALLED + "the server responded with the status code 307 but did not return "
                   "more information"),
    "a huge answer": ("validate", lambda call: Reply(b"[" + b" " * (17 << 20) + b"]"),
                      CALLED),
    "a patch that validates": ("validate", lambda call: response(call, patch(b"[]")),
                               LIED + "validating webhook may not return response.patch"),
    "a patch of another type": ("admit", lambda call: response(call, patch(b"[]", "MergePatch")),
                                FAILED + 'unsupported patch type "MergePatch"'),
    "a patch of no type": ("admit", lambda call: response(call, patch(b"[]", None)),
                           LIED + "webhook returned response.patch but not response.patchType"),
    "a type of no patch": ("admit", lambda call: response(call, {"patchType": "JSONPatch"}),
                           LIED + "webhook returned response.patchType but not response.patch"),
    "a patch that is no base64": ("admit", lambda call: response(
        call, {"patch": "%", "patchType": "JSONPatch"}), LIED),
    "a patch that is no JSON": ("admit", lambda call: response(call, patch(b"[")), FAILED),
    "a patch that is no list": ("admit", lambda call: response(call, patch(b"{}")), FAILED),
    "an unknown operation": ("admit", lambda call: response(
        call, patch(b'[{"op":"x","path":"/data"}]')), "Internal error occurred: "),
    "a patch without end": ("admit", lambda call: response(
        call, patch(b"[" + b",".join([b'{"op":"test","path":""}'] * 10_001) + b"]")),
        "Internal error occurred: "),
    "the object is gone": ("admit", lambda call: response(
        call, patch(b'[{"op":"remove","path":"/metadata"}]')), 'ConfigMap "m" is invalid: '),
    "another object": ("admit", lambda call: response(
        call, patch(b'[{"op":"replace","path":"","value":7}]')), "Internal error occurred: "),
    "half a pair": ("admit", lambda call: response(
        call, patch(b'[{"op":"add","path":"/data","value":{"k":"\\ud800"}}]')), ""),
}  # fmt: skip
MILD = {"deep warnings", "half a pair"}
"""These may be taken as well: what counts is that nothing breaks."""
OBJECTS = {"an unknown operation", "a patch without end", "the object is gone", "another object"}
"""The call succeeded; what its patch does is no longer failurePolicy's to forgive."""


@pytest.mark.parametrize("lie", LIES)
async def test_a_webhook_that_lies(lie: str) -> None:
    kind, answer, words = LIES[lie]
    async with bench(answer) as b:
        await b.register(kind)
        said = await b.create()
        if lie in MILD:
            assert said.status in (201, 400, 422, 500), said.message
        elif lie == "the object is gone":
            assert said.status == 422, said.message
        else:
            assert (said.status, said.json["reason"]) == (500, "InternalError"), said.message
        assert said.message.startswith(words) or said.status == 201, said.message
        assert len(said.body) < 4096
        if lie in MILD:
            return
        await b.register(kind, failurePolicy="Ignore")
        assert (await b.create("n")).status == (said.status if lie in OBJECTS else 201)


async def drip(call: Call) -> Reply:
    async def body() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.01)

    return Reply(body())


async def hang(call: Call) -> Reply:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("slowness", [hang, drip], ids=["hangs", "drips"])
async def test_a_slow_webhook_costs_its_time_and_no_more(slowness: Callable[[Call], Any]) -> None:
    async with bench(slowness) as b:
        await b.register()
        b.hurry()
        late = asyncio.create_task(b.create())
        # It is another's write that waits.
        for name in ("a", "b"):
            secret = {"metadata": {"name": name}}
            path = "/api/v1/namespaces/default/secrets"
            assert (await b.cluster.http("POST", path, secret)).status == 201
        said = await late
        url = b.hook.url("/x?timeout=1s")
        assert said.message == f'{CALLED}Post "{url}": context deadline exceeded'
        await b.register(failurePolicy="Ignore")
        b.hurry()
        assert (await b.create()).status == 201
        assert not b.cluster.server.webhooks._idle


async def test_a_port_that_takes_no_handshake() -> None:
    """TCP is taken, TLS never answered."""
    held: list[asyncio.StreamWriter] = []
    async with bench(hang) as b:
        silent = await asyncio.start_server(lambda r, w: held.append(w), "127.0.0.1", 0)
        port = silent.sockets[0].getsockname()[1]
        config = {"url": f"https://localhost:{port}/x", "caBundle": b.hook.bundle}
        await b.register(clientConfig=config)
        b.hurry()
        said = await b.create()
        assert said.message.startswith(CALLED)
        assert said.message.endswith("context deadline exceeded")
        silent.close()
        for writer in held:
            writer.transport.abort()


async def test_a_certificate_of_another_name() -> None:
    async with bench(lambda call: response(call, {}), names=("other.example",)) as b:
        await b.register()
        said = await b.create()
        assert said.message.startswith(CALLED)
        assert "tls: failed to verify certificate: x509: certificate is " in said.message
        assert said.message.endswith("localhost"), said.message
        assert not b.hook.calls


async def test_a_certificate_of_nobody() -> None:
    """Signed by a CA that the configuration does not name."""
    async with bench(lambda call: response(call, {})) as b:
        await b.register(clientConfig={"url": b.hook.url("/x")})
        said = await b.create()
        assert "x509: certificate signed by unknown authority" in said.message, said.message
        assert not b.hook.calls


async def test_the_lies_are_what_is_refused() -> None:
    """The control: the same answer without a lie is taken, from the same place."""
    async with bench(lambda call: response(call, {})) as b:
        for kind in KINDS:
            await b.register(kind)
        assert (await b.create()).status == 201
        text = orjson.dumps([{"op": "add", "path": "/data", "value": {"k": "v"}}])
    async with bench(lambda call: response(call, patch(text))) as b:
        await b.register("admit")
        assert (await b.create()).json["data"] == {"k": "v"}


async def test_a_flood_is_cut_where_it_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = 0

    async def flood(call: Call) -> Reply:
        async def body() -> AsyncIterator[bytes]:
            nonlocal sent
            while True:
                sent += 1 << 16
                yield bytes(1 << 16)

        return Reply(body())

    monkeypatch.setattr(caller, "MAX_ANSWER_BYTES", 1 << 20)
    async with bench(flood) as b:
        await b.register()
        said = await b.create()
        assert "response body too large" in said.message
        assert sent < 16 << 20
