"""Who may use the agent's server: what is asked of whom, and for how long it holds."""

from __future__ import annotations

import pytest

from sampan.api.errors import Object
from sampan.client.api import Client
from sampan.node.visitors import (
    API_SERVER_NAME,
    ASKING_MAX,
    REMEMBERED,
    Refused,
    Visitors,
    question,
)
from tests.kit.clock import FakeClock
from tests.kit.node import FakeReviews


class Gate:
    def __init__(self) -> None:
        self.api, self.clock = FakeReviews(), FakeClock()
        self.visitors = Visitors(Client(self.api), self.clock, "n1")
        self.api.users["good"] = {"username": "u", "groups": ["g"], "extra": {"k": ["v"]}}

    async def __call__(
        self, path: str, token: str = "", *, certificate: Object | None = None, method: str = "GET"
    ) -> str:
        """ "" for one who is let in, else the status and text."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            await self.visitors.admit(method, path, certificate or {}, headers)
        except Refused as refused:
            return f"{refused.status} {refused.text}"
        return ""


def certificate(name: str, *groups: str, ends: str = "Jan  1 00:00:00 2100 GMT") -> Object:
    subject = [(("commonName", name),), *((("organizationName", group),) for group in groups)]
    return {"subject": subject, "notAfter": ends}


@pytest.mark.parametrize(
    ("method", "path", "verb", "parts"),
    [
        ("GET", "/stats/summary", "get", "stats"),
        ("GET", "/metrics/cadvisor", "get", "metrics"),
        ("GET", "/metricsx", "get", "proxy"),
        ("GET", "/logs/", "get", "log"),
        ("GET", "/pods", "get", "pods proxy"),
        ("GET", "/runningpods/", "get", "pods proxy"),
        ("GET", "/healthz", "get", "healthz proxy"),
        ("GET", "/configz", "get", "configz proxy"),
        ("POST", "/checkpoint/ns/p/c", "create", "checkpoint"),
        ("GET", "/containerLogs/ns/p/c", "get", "proxy"),
        ("POST", "/exec/ns/p/c", "create", "proxy"),
        ("GET", "/exec/ns/p/c", "create", "proxy"),
        ("GET", "/portForward/ns/p", "create", "proxy"),
        ("DELETE", "/pods", "delete", "pods proxy"),
    ],
)
def test_what_is_asked(method: str, path: str, verb: str, parts: str) -> None:
    assert question(method, path) == (verb, tuple(parts.split()))


async def test_tokens_and_rights_are_asked_about_once_in_a_while() -> None:
    ask = Gate()
    assert await ask("/metrics") == "401 Unauthorized"
    assert await ask("/metrics", "bad") == "401 Unauthorized"
    ask.api.allowed = {("u", "get", "metrics")}
    ask.api.asked.clear()
    for _ in range(3):
        assert await ask("/metrics", "good") == ""
    assert ask.api.asked == ["tokenreviews", "subjectaccessreviews"]
    ask.api.allowed.clear()
    assert await ask("/metrics", "good") == ""
    await ask.clock.advance(301)
    assert (await ask("/metrics", "good")).startswith("403 Forbidden (user=u, verb=get")
    # A refusal is forgotten sooner.
    ask.api.allowed = {("u", "get", "metrics")}
    await ask.clock.advance(31)
    assert await ask("/metrics", "good") == ""
    ask.api.users.clear()
    await ask.clock.advance(121)
    assert await ask("/metrics", "good") == "401 Unauthorized"


async def test_the_old_right_to_proxy_still_lets_in() -> None:
    ask = Gate()
    ask.api.allowed = {("u", "get", "proxy")}
    assert await ask("/pods", "good") == ""
    assert await ask("/healthz", "good") == ""
    assert (await ask("/metrics", "good")).startswith("403 ")
    assert (await ask("/exec/ns/p/c", "good")).startswith("403 ")


async def test_certificates() -> None:
    ask = Gate()
    assert await ask("/exec/ns/p/c", certificate=certificate(API_SERVER_NAME)) == ""
    assert ask.api.asked == []
    over = certificate(API_SERVER_NAME, ends="Jan  1 00:00:00 2001 GMT")
    assert await ask("/pods", certificate=over) == "401 Unauthorized"
    ask.api.allowed = {("node", "get", "pods")}
    assert await ask("/pods", certificate=certificate("node", "system:nodes")) == ""
    assert (await ask("/pods", certificate=certificate("other"))).startswith("403 ")


async def test_when_nobody_can_say() -> None:
    ask = Gate()
    ask.api.down = OSError("unreachable")
    assert await ask("/pods", "good") == "401 Unauthorized"
    assert await ask("/pods", certificate=certificate("u")) == (
        "500 Authorization error (user=u, verb=get, resource=nodes, subresource(s)=[pods proxy])"
    )
    ask.api.down = None
    ask.api.allowed = {("u", "get", "pods")}
    assert await ask("/pods", "good") == ""


async def test_strangers_do_not_fill_the_memory() -> None:
    ask = Gate()
    for number in range(REMEMBERED + 10):
        await ask("/pods", f"guess{number}")
    assert len(ask.visitors._tokens) == REMEMBERED
    ask.visitors._asking = ASKING_MAX
    assert (await ask("/pods", "one more")).startswith("429 ")
