from __future__ import annotations

import json
from typing import Any

import pytest

from sampan.api.discovery import rank
from sampan.api.errors import NotAcceptable
from sampan.api.resources import builtin
from sampan.server import discovery
from sampan.server.registry import Registry

V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
KUBECTL = f"{V2},{V2.replace('v=v2', 'v=v2beta1')},application/json"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(builtin())


def get(path: str, registry: Registry, accept: str = "application/json") -> Any:
    found = discovery.answer(path, accept, registry)
    return found and json.loads(found.body or b"")


def test_pods_as_kubectl_reads_them(registry: Registry) -> None:
    rows = {row["name"]: row for row in get("/api/v1", registry)["resources"]}
    assert rows["pods"] == {
        "name": "pods",
        "singularName": "pod",
        "namespaced": True,
        "kind": "Pod",
        "verbs": [
            "create",
            "delete",
            "deletecollection",
            "get",
            "list",
            "patch",
            "update",
            "watch",
        ],
        "shortNames": ["po"],
        "categories": ["all"],
        "storageVersionHash": "xPOwRZ+Yhw8=",
    }
    assert rows["pods/eviction"]["group"] == "policy"
    assert rows["pods/status"]["verbs"] == ["get", "patch", "update"]


def test_groups_come_in_upstreams_order_with_the_best_version_first(registry: Registry) -> None:
    groups = get("/apis", registry)["groups"]
    assert [group["name"] for group in groups[:3]] == [
        "apiregistration.k8s.io",
        "apps",
        "events.k8s.io",
    ]
    scaling = get("/apis/autoscaling", registry)
    assert scaling["preferredVersion"]["version"] == "v2"
    assert get("/apis/nope", registry) is None
    assert get("/apis/apps/v9", registry) is None
    order = sorted(["v1beta1", "v1", "foo", "v2alpha1", "v10", "v2"], key=rank)
    assert order == ["v10", "v2", "v1", "v1beta1", "v2alpha1", "foo"]


def test_aggregated_discovery_says_the_same_as_the_legacy_one(registry: Registry) -> None:
    found = discovery.answer("/apis", KUBECTL, registry)
    assert found is not None
    assert found.content_type == V2
    told = {
        (group["metadata"]["name"], version["version"], item["resource"])
        for group in json.loads(found.body or b"")["items"]
        for version in group["versions"]
        for item in version["resources"]
    }
    assert told == {(item.group, item.version, item.plural) for item in registry if item.group}
    core = get("/api", registry, V2)["items"]
    assert [version["version"] for version in core[0]["versions"]] == ["v1"]


def test_forms_and_unchanged_documents(registry: Registry) -> None:
    assert get("/apis", registry, "application/json")["kind"] == "APIGroupList"
    with pytest.raises(NotAcceptable):
        discovery.answer("/apis", "application/vnd.kubernetes.protobuf", registry)
    first = discovery.answer("/apis", V2, registry)
    assert first is not None
    etag = dict(first.headers)["ETag"]
    again = discovery.answer("/apis", V2, registry, {"if-none-match": etag})
    assert again is not None
    assert again.status == 304
    assert get("/version", registry)["gitVersion"].startswith("v1.36.")


def test_a_new_resource_shows_at_once() -> None:
    items = builtin()
    registry = Registry(items[1:])
    missing = items[0]
    assert missing.plural not in str(get(f"/api/{missing.version}", registry))
    registry.add(missing)
    names = [row["name"] for row in get(f"/api/{missing.version}", registry)["resources"]]
    assert missing.plural in names
