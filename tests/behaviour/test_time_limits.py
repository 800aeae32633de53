"""The time a client allots to its request (upstream's e2e apimachinery/request_timeout)."""

from __future__ import annotations

import asyncio

import pytest

from sampan.api.times import TimeError, parse_duration_s
from tests.kit.cluster import api_cluster
from tests.kit.hooks import Call, Reply, hook_server

MAPS = "/api/v1/namespaces/default/configmaps"
INVALID = 'invalid timeout specified in the request URL - time: invalid duration "soon"'


async def test_an_unreadable_time_is_refused_but_of_streams() -> None:
    async with api_cluster() as cluster:
        for method, body in (("GET", None), ("POST", {"metadata": {"name": "a"}})):
            answer = await cluster.http(method, f"{MAPS}?timeout=soon", body)
            assert (answer.status, answer.message) == (400, INVALID)
        for fine in ("0s", "5m", "1m0.5s", ""):
            assert (await cluster.http("GET", f"{MAPS}?timeout={fine}")).status == 200
        events = cluster.stream(f"{MAPS}?watch=1&timeoutSeconds=0&timeout=soon")
        await cluster.http("POST", MAPS, {"metadata": {"name": "a"}})
        assert (await anext(events))["type"] == "ADDED"


async def test_who_will_not_wait_is_told_and_the_work_goes_on() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def answer(call: Call) -> Reply:
        asked.set()
        await go_on.wait()
        response = {"uid": call.json["request"]["uid"], "allowed": True}
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
        return Reply({**review, "response": response})

    async with api_cluster() as cluster, hook_server(answer) as hook:
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}
        webhook = {
            "name": "slow.example.com",
            "clientConfig": {"url": hook.url("/"), "caBundle": hook.bundle},
            "rules": [{**rule, "operations": ["CREATE"]}],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        hooks = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
        body = {"metadata": {"name": "slow"}, "webhooks": [webhook]}
        assert (await cluster.http("POST", hooks, body)).status == 201
        late = await cluster.http("POST", f"{MAPS}?timeout=20ms", {"metadata": {"name": "a"}})
        assert (late.status, late.json["reason"]) == (504, "Timeout")
        assert late.message == "Timeout: request did not complete within the allotted timeout"
        await asyncio.wait_for(asked.wait(), 5)
        events = cluster.stream(f"{MAPS}?watch=1")
        go_on.set()
        made = await asyncio.wait_for(anext(events), 5)
        assert made["object"]["metadata"]["name"] == "a"


def test_durations_are_read_as_go_reads_them() -> None:
    assert [parse_duration_s(text) for text in ("0", "1h1m", "-1.5s", "250ms")] == [
        0, 3660, -1.5, 0.25,
    ]  # fmt: skip
    for text in ("", "5", "s", "1 s", "1d"):
        with pytest.raises(TimeError):
            parse_duration_s(text)
