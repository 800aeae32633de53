"""Patches: JSON, merge, strategic merge and apply."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.kit.cluster import Answer, Cluster, api_cluster

CM = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
JSON = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


def deployment(**spec: Any) -> dict[str, Any]:
    containers = [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": containers}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": template, **spec},
    }


async def patch(cluster: Cluster, path: str, body: Any, kind: str) -> Answer:
    return await cluster.http("PATCH", path, body, content_type=kind)


async def test_each_kind_of_patch() -> None:
    async with api_cluster() as cluster:
        await cluster.http("POST", CM, {"metadata": {"name": "a"}, "data": {"k": "v", "gone": "1"}})
        merged = await patch(cluster, f"{CM}/a", {"data": {"gone": None, "n": "1"}}, MERGE)
        assert merged.json["data"] == {"k": "v", "n": "1"}
        steps = [
            {"op": "test", "path": "/data/k", "value": "v"},
            {"op": "replace", "path": "/data/k", "value": "w"},
        ]
        assert (await patch(cluster, f"{CM}/a", steps, JSON)).json["data"]["k"] == "w"
        failed = await patch(cluster, f"{CM}/a", steps, JSON)
        assert failed.status == 422
        assert failed.message == "the server rejected our request due to an error in our request"
        assert failed.json["details"] == {}
        assert (await cluster.http("GET", f"{CM}/a")).json["data"]["k"] == "w"


async def test_strategic_patches_merge_lists_by_key() -> None:
    async with api_cluster() as cluster:
        assert (await cluster.http("POST", DEPLOYMENTS, deployment())).status == 201
        body = {"spec": {"template": {"spec": {"containers": [{"name": "b", "image": "b:2"}]}}}}
        answer = await patch(cluster, f"{DEPLOYMENTS}/d", body, STRATEGIC)
        containers = answer.json["spec"]["template"]["spec"]["containers"]
        assert [(item["name"], item["image"]) for item in containers] == [
            ("a", "a:1"), ("b", "b:2"),
        ]  # fmt: skip
        assert answer.json["metadata"]["generation"] == 2


async def test_patches_that_do_not_speak_of_the_version_never_conflict() -> None:
    async with api_cluster() as cluster:
        await cluster.http("POST", CM, {"metadata": {"name": "a"}})
        answers = await asyncio.gather(
            *(patch(cluster, f"{CM}/a", {"data": {f"k{n}": "v"}}, MERGE) for n in range(40))
        )
        assert {answer.status for answer in answers} == {200}
        assert len((await cluster.http("GET", f"{CM}/a")).json["data"]) == 40


async def test_a_patch_may_name_its_version() -> None:
    async with api_cluster() as cluster:
        made = (await cluster.http("POST", CM, {"metadata": {"name": "a"}})).json
        version = made["metadata"]["resourceVersion"]
        body = {"metadata": {"resourceVersion": version}, "data": {"k": "1"}}
        assert (await patch(cluster, f"{CM}/a", body, MERGE)).status == 200
        stale = await patch(cluster, f"{CM}/a", body | {"data": {"k": "2"}}, MERGE)
        assert stale.status == 409


UNREADABLE = "error decoding patch: json: cannot unmarshal"
REGISTERED = 'is registered for version "'
BAD_PATCHES: list[tuple[str, bytes, int, str]] = [
    (MERGE, b"{", 400, "error decoding patch: unexpected end of JSON input"),
    (MERGE, b"[]", 400, f"{UNREADABLE} array into Go value of type map[string]interface {{}}"),
    (MERGE, b"null", 400, "Invalid JSON Patch"),
    (MERGE, b'{"data": {"k": 1}}', 422, ' "" is invalid: patch: Invalid value: '),
    (MERGE, b'{"metadata": {"name": "b"}}', 400, "the name of the object (b) does not match"),
    (MERGE, b'{"kind": "Pod"}', 422, f'no kind "Pod" {REGISTERED}v1"'),
    (JSON, b"{", 400, "error decoding patch: unexpected end of JSON input"),
    (
        JSON,
        b'{"op": "add"}',
        400,
        f"{UNREADABLE} object into Go value of type []handlers.jsonPatchO",
    ),
    (JSON, b"[1]", 400, f"{UNREADABLE} number into Go value of type handlers.jsonPatchOp"),
    (JSON, b'[{"op": 1}]', 400, f"{UNREADABLE} number into Go struct field jsonPatchOp.op of type"),
    (JSON, b'[{"op": "nonsense", "path": "/data"}]', 422, "the server rejected our request due to"),
    (STRATEGIC, b"{", 400, "unexpected end of JSON input"),
    (STRATEGIC, b'"text"', 400, "json: cannot unmarshal string into Go value of type map[string]"),
    ("application/json", b"{}", 415, "the body of the request was in an unknown format"),
    ("text/plain", b"{}", 415, "the body of the request was in an unknown format"),
]


async def test_bad_patches_have_no_effect() -> None:
    async with api_cluster() as cluster:
        await cluster.http("POST", CM, {"metadata": {"name": "a"}, "data": {"k": "v"}})
        before = cluster.store.revision
        for kind, body, status, words in BAD_PATCHES:
            answer = await cluster.http("PATCH", f"{CM}/a", body, content_type=kind)
            assert answer.status == status, answer.message
            prefixed = words.startswith("no kind")
            assert words in answer.message if prefixed else answer.message.startswith(words)
            assert cluster.store.revision == before
        for kind, body in ((STRATEGIC, b"null"), (JSON, b"null"), (JSON, b"[]")):
            answer = await cluster.http("PATCH", f"{CM}/a", body, content_type=kind)
            assert (answer.status, cluster.store.revision) == (200, before)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("force=false", "force: Forbidden: may not be specified for non-apply patch"),
        ("dryRun=Some", 'dryRun: Unsupported value: ["Some"]: supported values: "All"'),
        ("fieldManager=a%0ab", 'fieldManager: Invalid value: "a\\nb": invalid character U+000A (at '
         "position 1)"),
        (f"fieldManager={'x' * 129}", "fieldManager: Too long: may not be more than 128 bytes"),
        ("fieldValidation=x&dryRun=", '[dryRun: Unsupported value: [""]: supported values: "All", '
         'fieldValidation: Unsupported value: "x": supported values: "Ignore", "Strict", "Warn"]'),
    ],
)  # fmt: skip
async def test_options_of_patches_are_checked(query: str, words: str) -> None:
    async with api_cluster() as cluster:
        await cluster.http("POST", CM, {"metadata": {"name": "a"}})
        answer = await patch(cluster, f"{CM}/a?{query}", {"data": {"a": "b"}}, MERGE)
        prefix = 'PatchOptions.meta.k8s.io "" is invalid: '
        assert (answer.status, answer.message) == (422, prefix + words)


async def test_apply_creates_merges_and_removes() -> None:
    async with api_cluster() as cluster:
        path = f"{DEPLOYMENTS}/d"
        config = deployment(replicas=2)
        assert (await patch(cluster, path, config, APPLY)).status == 422
        made = await patch(cluster, f"{path}?fieldManager=one", config, APPLY)
        assert made.status == 201
        again = await patch(cluster, f"{path}?fieldManager=one", config, APPLY)
        assert again.json["metadata"]["resourceVersion"] == made.json["metadata"]["resourceVersion"]
        config["spec"]["template"]["spec"]["containers"].pop()
        less = (await patch(cluster, f"{path}?fieldManager=one", config, APPLY)).json
        assert [c["name"] for c in less["spec"]["template"]["spec"]["containers"]] == ["a"]
        assert less["spec"]["replicas"] == 2


async def test_appliers_conflict_unless_forced() -> None:
    async with api_cluster() as cluster:
        path = f"{DEPLOYMENTS}/d"
        await patch(cluster, f"{path}?fieldManager=one", deployment(replicas=2), APPLY)
        scale = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 5}}
        refused = await patch(cluster, f"{path}?fieldManager=two", scale, APPLY)
        assert refused.status == 409
        assert refused.message == (
            'Apply failed with 1 conflict: conflict with "one": .spec.replicas'
        )
        forced = await patch(cluster, f"{path}?fieldManager=two&force=true", scale, APPLY)
        assert forced.json["spec"]["replicas"] == 5
        # What the other took is no longer the first one's to remove.
        config = deployment()
        kept = await patch(cluster, f"{path}?fieldManager=one", config, APPLY)
        assert kept.json["spec"]["replicas"] == 5
        managers = {entry["manager"] for entry in kept.json["metadata"]["managedFields"]}
        assert managers == {"one", "two"}


async def test_apply_knows_list_items_by_all_their_keys() -> None:
    async with api_cluster() as cluster:
        path = "/api/v1/namespaces/default/services/dns?fieldManager=one"
        ports = [
            {"name": "udp", "port": 53, "protocol": "UDP"},
            {"name": "tcp", "port": 53, "protocol": "TCP"},
        ]
        config = {"apiVersion": "v1", "kind": "Service", "spec": {"ports": ports}}
        made = await patch(cluster, path, config, APPLY)
        assert made.status == 201, made.message
        again = (await patch(cluster, path, config, APPLY)).json
        assert [port["name"] for port in again["spec"]["ports"]] == ["udp", "tcp"]
        ports.pop(0)
        less = (await patch(cluster, path, config, APPLY)).json
        assert [port["name"] for port in less["spec"]["ports"]] == ["tcp"]
        unnamed = {**config, "spec": {"ports": [{"name": "x"}]}}
        assert (await patch(cluster, path, unnamed, APPLY)).status == 422


async def test_a_null_that_a_patch_adds_is_not_kept() -> None:
    async with api_cluster() as cluster:
        await cluster.http("POST", "/api/v1/nodes", {"metadata": {"name": "n"}})
        patch = [{"op": "add", "path": "/", "value": None}]
        answer = await cluster.http(
            "PATCH", "/api/v1/nodes/n", patch, content_type="application/json-patch+json"
        )
        assert answer.status == 200
        assert "" not in answer.json


async def test_a_strategic_patch_is_read_into_the_type_there_is() -> None:
    async with api_cluster() as cluster:
        await cluster.http("POST", "/api/v1/nodes", {"metadata": {"name": "n"}})
        patch = {"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"labels": {"a": "b"}}}
        kinds = {}
        for media in ("strategic-merge-patch", "merge-patch"):
            answer = await cluster.http(
                "PATCH", "/api/v1/nodes/n", patch, content_type=f"application/{media}+json"
            )
            kinds[media] = (answer.status, answer.json["kind"])
        assert kinds["strategic-merge-patch"] == (200, "Node")
        assert kinds["merge-patch"][0] >= 400
