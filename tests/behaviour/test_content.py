"""In what form clients send and take things, and what they are told of other forms."""

from __future__ import annotations

import pytest

from sampan.server.exchange import Response
from tests.kit.cluster import ADMIN, Cluster, api_cluster, request_of

CM = "/api/v1/namespaces/default/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
CBOR = "application/cbor"
PROTOBUF = "application/vnd.kubernetes.protobuf"

TAKEN = (
    ("", "application/json"),
    ("*/*", "application/json"),
    ("application/*", "application/json"),
    ("application/yaml", "application/yaml"),
    (f"{PROTOBUF},application/json", "application/json"),
    (f"{CBOR},application/json;q=0.5", "application/json"),
    ("application/json;q=0.1, application/yaml;q=0.9", "application/yaml"),
    ("*/*;q=0.8, application/yaml;q=0.8", "application/yaml"),
    ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json"),
    ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", "application/json"),
    ('application/json; charset="utf-8"', "application/json"),
)


@pytest.mark.parametrize(("accept", "media"), TAKEN)
async def test_what_is_accepted(accept: str, media: str) -> None:
    async with api_cluster() as cluster:
        answer = await ask(cluster, "GET", CM, accept)
        assert (answer.status, answer.content_type) == (200, media)


@pytest.mark.parametrize(
    "accept", [CBOR, PROTOBUF, "text/html", f"{TABLE};v=v9", "application/json;q=0"]
)
async def test_what_is_not_acceptable(accept: str) -> None:
    async with api_cluster() as cluster:
        answer = await cluster.http("GET", CM, accept=accept)
        assert (answer.status, answer.json["reason"]) == (406, "NotAcceptable")
        assert answer.message == (
            "only the following media types are accepted: application/json, application/yaml"
        )


async def test_a_watch_comes_as_json_alone() -> None:
    async with api_cluster() as cluster:
        answer = await cluster.http("GET", f"{CM}?watch=1", accept="application/yaml")
        assert answer.status == 406


async def test_bodies_in_forms_nobody_reads() -> None:
    async with api_cluster() as cluster:
        for media in (CBOR, "text/plain", "application/x-www-form-urlencoded"):
            answer = await cluster.http("POST", CM, b"\xa0", content_type=media)
            assert (answer.status, answer.json["reason"]) == (415, "UnsupportedMediaType")
            assert answer.message == (
                "the body of the request was in an unknown format - accepted media types include: "
                "application/json, application/yaml, application/vnd.kubernetes.protobuf"
            )
        patched = await cluster.http("PATCH", f"{CM}/a", b"{}", content_type="application/json")
        assert patched.status == 415


async def ask(
    cluster: Cluster, method: str, path: str, accept: str = "", agent: str = ""
) -> Response:
    request = request_of(method, path, None, ADMIN, "", accept)
    if agent:
        request.headers = {**request.headers, "user-agent": agent}
    answer = await cluster.server.handle(request)
    assert isinstance(answer, Response)
    return answer


async def test_people_are_shown_indented_json() -> None:
    async with api_cluster() as cluster:
        await cluster.http("POST", CM, {"metadata": {"name": "a"}})
        plain = (await ask(cluster, "GET", CM)).body
        assert plain is not None
        assert b"\n" not in plain
        for path, agent in (
            (f"{CM}?pretty=true", ""),
            (CM, "curl/8.1"),
            (f"{CM}/x?pretty=1", ""),
            ("/api", "Wget/1"),
        ):
            body = (await ask(cluster, "GET", path, agent=agent)).body
            assert body is not None
            assert body.startswith(b'{\n  "kind"'), body
        asked = (await ask(cluster, "GET", f"{CM}?pretty=false", agent="curl/8.1")).body
        assert asked is not None
        assert b"\n" not in asked


async def test_tables_say_what_they_include() -> None:
    async with api_cluster() as cluster:
        bad = await cluster.http("GET", f"{CM}?includeObject=All", accept=TABLE)
        assert (bad.status, bad.message) == (
            400,
            'Unable to convert to Table as requested: includeObject: Invalid value: "All": must be '
            "'Metadata', 'Object', 'None', or empty",
        )
