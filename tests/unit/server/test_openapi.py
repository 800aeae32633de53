from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from sampan.api.errors import NotAcceptable
from sampan.api.resources import builtin
from sampan.server import openapi, usage
from sampan.server.openapi_protobuf import MEDIA_TYPE
from sampan.server.registry import Registry

KUBECTL = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(builtin())


def get(path: str, registry: Registry) -> Any:
    found = openapi.answer(path, "application/json", registry, {})
    return found and json.loads(found.body or b"")


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_every_document_of_the_index_is_whole(registry: Registry) -> None:
    paths = get("/openapi/v3", registry)["paths"]
    assert {"api/v1", "apis/apps/v1"} <= paths.keys()
    for where, link in paths.items():
        assert link["serverRelativeURL"].startswith(f"/openapi/v3/{where}?hash=")
    for where in ("api/v1", "apis/apps/v1", "apis/apiextensions.k8s.io/v1"):
        document = get(f"/openapi/v3/{where}", registry)
        schemas = document["components"]["schemas"]
        names = {ref.removeprefix("#/components/schemas/") for ref in references(document)}
        assert names <= schemas.keys()
    assert get("/openapi/v3/apis/apps/v9", registry) is None
    assert get("/openapi/v3/nonsense", registry) is None


def test_version_2_is_whole_and_names_operations_once(registry: Registry) -> None:
    document = get("/openapi/v2", registry)
    names = {ref.removeprefix("#/definitions/") for ref in references(document)}
    assert names <= document["definitions"].keys()
    ids = [
        operation["operationId"]
        for item in document["paths"].values()
        for method, operation in item.items()
        if method != "parameters" and "{path}" not in str(operation)
    ]
    plain = [name for name in ids if not name.startswith("connect")]
    assert len(plain) == len(set(plain))
    assert {
        "readCoreV1NamespacedPod",
        "listCoreV1PodForAllNamespaces",
        "createAppsV1NamespacedDeployment",
    } <= set(ids)


def test_what_kubectl_looks_for(registry: Registry) -> None:
    document = get("/openapi/v3/apis/apps/v1", registry)
    patch = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert patch["x-kubernetes-group-version-kind"] == {
        "group": "apps",
        "version": "v1",
        "kind": "Deployment",
    }
    assert {"dryRun", "fieldValidation", "fieldManager", "force"} == {
        parameter["name"] for parameter in patch["parameters"]
    }
    schemas = document["components"]["schemas"]
    deployment = schemas["io.k8s.api.apps.v1.Deployment"]
    assert deployment["x-kubernetes-group-version-kind"][0]["kind"] == "Deployment"
    assert "enum" not in deployment["properties"]["kind"]
    assert "x-omitempty" not in json.dumps(document)
    spec = deployment["properties"]["spec"]
    assert spec["allOf"] == [{"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec"}]
    containers = schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert containers["x-kubernetes-list-map-keys"] == ["name"]


def test_the_old_paths_of_watches_are_there(registry: Registry) -> None:
    document = openapi.document_v3([item for item in registry if item.api_version == "v1"])
    one = document["paths"]["/api/v1/watch/namespaces/{namespace}/pods/{name}"]["get"]
    assert (one["operationId"], one["x-kubernetes-action"]) == ("watchCoreV1NamespacedPod", "watch")
    everywhere = document["paths"]["/api/v1/watch/pods"]["get"]
    assert everywhere["operationId"] == "watchCoreV1PodListForAllNamespaces"
    assert everywhere["x-kubernetes-action"] == "watchlist"
    event = everywhere["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
    assert event.rpartition("/")[2] in document["components"]["schemas"]
    assert "/api/v1/watch/nodes/{name}" in document["paths"]


def test_metrics_are_described_too() -> None:
    """They are another server's upstream, so the distilled schema does not know them."""
    registry = Registry((*builtin(), *usage.DESCRIPTORS))
    name = "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics"
    document = get("/openapi/v3/apis/metrics.k8s.io/v1beta1", registry)
    schemas = document["components"]["schemas"]
    names = {ref.removeprefix("#/components/schemas/") for ref in references(document)}
    assert names <= schemas.keys()
    assert f"{name}List" in schemas
    assert schemas[name]["x-kubernetes-group-version-kind"][0]["kind"] == "PodMetrics"
    assert schemas[name]["properties"]["containers"]["description"]
    old = get("/openapi/v2", registry)
    assert {ref.removeprefix("#/definitions/") for ref in references(old)} <= (
        old["definitions"].keys()
    )
    assert old["definitions"][name]["properties"].keys() == schemas[name]["properties"].keys()


def test_answers_are_packed_and_known_by_their_tag(registry: Registry) -> None:
    path = "/openapi/v3/api/v1"
    plain = openapi.answer(path, "*/*", registry, {})
    packed = openapi.answer(path, "", registry, {"accept-encoding": "gzip"})
    assert plain is not None
    assert packed is not None
    assert gzip.decompress(packed.body or b"") == plain.body
    assert ("Content-Encoding", "gzip") in packed.headers
    same = openapi.answer(path, "", registry, {"if-none-match": dict(plain.headers)["ETag"]})
    assert same is not None
    assert same.status == 304
    with pytest.raises(NotAcceptable):
        openapi.answer(path, MEDIA_TYPE, registry, {})


def test_a_document_is_kept_by_its_hash(registry: Registry) -> None:
    where = get("/openapi/v3", registry)["paths"]["apis/apps/v1"]["serverRelativeURL"]
    path, _, digest = where.partition("?hash=")
    found = openapi.answer(path, "", registry, {}, digest)
    assert found is not None
    assert found.status == 200
    headers = dict(found.headers)
    assert headers["Cache-Control"] == "public, immutable"
    assert headers["Content-Type"] == "application/json"
    assert headers["ETag"] == f'"{digest}"'
    left_s = parsedate_to_datetime(headers["Expires"]).timestamp() - time.time()
    assert 364 * 86400 < left_s < 366 * 86400
    former = openapi.answer(path, "", registry, {}, "ABC")
    assert former is not None
    assert (former.status, dict(former.headers)) == (301, {"Location": where})
    plain = openapi.answer(path, "", registry, {})
    assert plain is not None
    assert "Cache-Control" not in dict(plain.headers)


def fields(data: bytes) -> list[tuple[int, bytes]]:
    """The length-delimited fields of a protobuf message."""
    out, place = [], 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(data):
        tag = varint()
        if tag & 7 == 0:
            varint()
            continue
        size = varint()
        out.append((tag >> 3, data[place : place + size]))
        place += size
    return out


def test_older_kubectl_gets_version_2_in_protobuf(registry: Registry) -> None:
    found = openapi.answer("/openapi/v2", KUBECTL, registry, {})
    assert found is not None
    assert found.content_type == MEDIA_TYPE
    document = fields(found.body or b"")
    assert document[0] == (1, b"2.0")
    want = get("/openapi/v2", registry)
    (paths,) = (dict(fields(payload)) for number, payload in document if number == 8)
    assert paths
    definitions = next(payload for number, payload in document if number == 9)
    named = [dict(fields(payload)) for _, payload in fields(definitions)]
    assert [item[1].decode() for item in named] == list(want["definitions"])
    pod = next(item[2] for item in named if item[1] == b"io.k8s.api.core.v1.Pod")
    marks = [dict(fields(payload)) for number, payload in fields(pod) if number == 31]
    text = dict(fields(marks[0][2]))[2]
    assert json.loads(text) == [{"group": "", "kind": "Pod", "version": "v1"}]
