"""Bad input: the right Status, upstream's words, and no effect."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.server.exchange import ANONYMOUS, User
from tests.kit.cluster import Answer, Cluster, api_cluster

CM = "/api/v1/namespaces/default/configmaps"
NOBODY = User("nobody", ("system:authenticated",))

BODIES: list[tuple[str, bytes, str, int, str]] = [
    (CM, b"", "application/json", 400, ""),
    (CM, b"{", "application/json", 400, "unexpected end of JSON input"),
    (CM, b'{"metadata": {"name": "a"},}', "application/json", 400, "invalid character '}'"),
    (CM, b"[1]", "application/json", 400, "cannot unmarshal array"),
    (CM, b'"text"', "application/json", 400, "cannot unmarshal string"),
    (CM, b"null", "application/json", 422, "name or generateName is required"),
    (CM, b"a: [", "application/yaml", 400, "(must be of type ConfigMap): yaml: line 1: "),
    (CM, b'{"metadata": {"name": 1}}', "application/json", 400,
     'ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal number'),
    (CM, b'{"metadata": 5}', "application/json", 400, "cannot unmarshal number"),
    (CM, b'{"metadata": {"name": "a"}, "data": []}', "application/json", 400, "array into Go"),
    (CM, b'{"kind": "Nonsense", "metadata": {"name": "a"}}', "application/json", 400, "Nonsense"),
    (CM, b'{"apiVersion": "v2", "metadata": {"name": "a"}}', "application/json", 400, "(v2)"),
    (CM, b'{"kind": 5, "metadata": {"name": "a"}}', "application/json", 400, ""),
    (CM, b"{}", "application/json", 422, "name or generateName is required"),
    (CM, b'{"metadata": {"name": "A_b"}}', "application/json", 422, "RFC 1123 subdomain"),
    (CM, b'{"metadata": {"name": "%s"}}' % (b"a" * 300), "application/json", 422, "253"),
    (CM, b'{"metadata": {"name": "../x"}}', "application/json", 422, "Invalid value"),
    (CM, b'{"metadata": {"name": "a", "labels": {"x y": "1"}}}', "application/json", 422, "label"),
    (CM, b'{"metadata": {"name": "a", "namespace": "other"}}', "application/json", 400,
     "does not match the namespace sent on the request"),
    (CM, b'{"metadata": {"name": "a", "resourceVersion": "5"}}', "application/json", 400,
     "resourceVersion should not be set on objects to be created"),
    (CM, b'{"metadata": {"name": "a"}}', "text/csv", 415, "unknown format"),
    ("/api/v1/namespaces/missing/configmaps", b'{"metadata": {"name": "a"}}', "application/json",
     404, 'namespaces "missing" not found'),
    ("/api/v1/configmaps", b'{"metadata": {"name": "a"}}', "application/json", 405, ""),
    (f"{CM}?fieldValidation=Maybe", b'{"metadata": {"name": "a"}}', "application/json", 422,
     'Unsupported value: "Maybe"'),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "media", "status", "text"), BODIES)
async def test_bad_bodies(path: str, body: bytes, media: str, status: int, text: str) -> None:
    async with api_cluster() as cluster:
        before = cluster.store.revision
        answer = await cluster.http("POST", path, body, content_type=media)
        assert answer.status == status, answer.message
        check_status(answer)
        assert text in answer.message
        assert cluster.store.revision == before


PATHS: list[tuple[str, str, int]] = [
    ("GET", "/nonsense", 404),
    ("GET", "/api/v1/nonsense", 404),
    ("GET", "/api/v9/pods", 404),
    ("GET", "/apis/nonsense/v1/pods", 404),
    ("GET", "/apis/apps/v1/pods", 404),
    ("GET", "/api/v1/pods/name", 404),
    ("GET", "/api/v1/namespaces/default/nodes", 404),
    ("GET", "/api/v1/namespaces/default/nodes/x", 404),
    ("GET", f"{CM}/a/b/c", 404),
    ("GET", f"{CM}/a/nonsense", 404),
    ("GET", "/api/v1/namespaces/default/pods/x/binding", 405),
    ("GET", f"{CM}//a", 404),
    ("PUT", CM, 405),
    ("PATCH", CM, 405),
    ("POST", f"{CM}/a", 405),
    ("TRACE", CM, 405),
    ("POST", "/version", 405),
    ("POST", "/api/v1/componentstatuses", 405),
    ("GET", "/apis/authentication.k8s.io/v1/tokenreviews", 405),
    ("GET", f"{CM}?labelSelector=a%3D%3D%3Db", 400),
    ("GET", f"{CM}?labelSelector=a in b", 400),
    ("GET", f"{CM}?fieldSelector=spec.x%3D1", 400),
    ("GET", f"{CM}?fieldSelector=nonsense", 400),
    ("GET", f"{CM}?limit=many", 400),
    ("GET", f"{CM}?continue=nonsense", 400),
    ("GET", f"{CM}?resourceVersion=abc", 400),
    ("GET", f"{CM}?resourceVersionMatch=Exact", 422),
    ("GET", f"{CM}?resourceVersion=1&resourceVersionMatch=Perhaps", 422),
    ("GET", f"{CM}?watch=1&timeoutSeconds=soon", 400),
    ("DELETE", f"{CM}/a?gracePeriodSeconds=soon", 400),
]


@pytest.mark.parametrize(("method", "path", "status"), PATHS)
async def test_bad_paths_and_parameters(method: str, path: str, status: int) -> None:
    async with api_cluster() as cluster:
        before = cluster.store.revision
        answer = await cluster.http(method, path)
        assert answer.status == status, answer.body
        check_status(answer)
        assert cluster.store.revision == before


def check_status(answer: Answer) -> None:
    body = answer.json
    assert (body["kind"], body["status"]) == ("Status", "Failure")
    assert body["code"] == answer.status
    assert body["reason"]
    assert body["message"]


async def test_only_json_and_yaml_can_be_had() -> None:
    async with api_cluster() as cluster:
        answer = await cluster.http("GET", CM, accept="application/vnd.kubernetes.protobuf")
        assert answer.status == 406
        both = "application/vnd.kubernetes.protobuf, application/json"
        assert (await cluster.http("GET", CM, accept=both)).status == 200


async def test_who_may_not_is_told_what() -> None:
    async with api_cluster() as cluster:
        answer = await cluster.http("GET", f"{CM}/a", user=NOBODY)
        assert answer.status == 403
        assert answer.message == (
            'configmaps "a" is forbidden: User "nobody" cannot get resource "configmaps" in API '
            'group "" in the namespace "default"'
        )
        nodes = await cluster.http("GET", "/api/v1/nodes", user=NOBODY)
        assert nodes.message.endswith('in API group "" at the cluster scope')
        path = await cluster.http("GET", "/metrics", user=ANONYMOUS)
        assert path.message == 'forbidden: User "system:anonymous" cannot get path "/metrics"'
        assert (await cluster.http("GET", "/healthz", user=ANONYMOUS)).body == b"ok"


async def test_names_of_url_and_object_must_agree() -> None:
    async with api_cluster() as cluster:
        await cluster.http("POST", CM, {"metadata": {"name": "a"}})
        answer = await cluster.http("PUT", f"{CM}/a", {"metadata": {"name": "b"}})
        assert answer.status == 400
        assert answer.message == (
            "the name of the object (b) does not match the name on the URL (a)"
        )


async def test_a_failure_inside_is_no_more_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*args: Any) -> None:
        raise KeyError("secret")

    async with api_cluster() as cluster:
        monkeypatch.setattr(cluster.server.admission, "admit", broken)
        answer = await cluster.http("POST", CM, {"metadata": {"name": "a"}})
        assert answer.status == 500
        assert "secret" not in answer.message


async def count(cluster: Cluster) -> int:
    return len((await cluster.http("GET", CM)).json["items"])


async def test_what_is_wrong_with_an_object_counts_before_that_it_exists() -> None:
    async with api_cluster() as cluster:
        assert (await cluster.http("POST", CM, {"metadata": {"name": "a"}})).status == 201
        again = await cluster.http("POST", CM, {"metadata": {"name": "a"}})
        assert (again.status, again.message) == (409, 'configmaps "a" already exists')
        wrong = await cluster.http("POST", CM, {"metadata": {"name": "a"}, "data": {"x y": "1"}})
        assert (wrong.status, wrong.json["reason"]) == (422, "Invalid")
