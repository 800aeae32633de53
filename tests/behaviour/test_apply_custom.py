"""Server-side apply of custom resources: their schema says how they merge."""

from __future__ import annotations

from typing import Any

from tests.kit.cluster import Cluster, api_cluster
from tests.kit.definitions import DEFINITIONS, MERGE, WIDGETS, definition, version

from .test_apply import apply
from .test_ownership import managed

ITEM = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "value": {"type": "string"}},
}
SPEC: dict[str, Any] = {
    "type": "object",
    "properties": {
        "size": {"type": "integer", "default": 3},
        "items": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": ITEM,
        },
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "whole": {
            "type": "object",
            "x-kubernetes-map-type": "atomic",
            "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        },
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "list": {"type": "array", "items": {"type": "string"}},
    },
}


def config(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Widget", "spec": spec}


async def define(cluster: Cluster, spec: dict[str, Any] = SPEC) -> None:
    body = definition(version(spec=spec, subresources={"status": {}}))
    made = await cluster.http("POST", DEFINITIONS, body)
    assert made.status == 201, made.message


async def test_custom_resources_are_owned_by_their_schema() -> None:
    async with api_cluster() as cluster:
        await define(cluster)
        spec = {
            "items": [{"name": "x", "value": "1"}],
            "tags": ["t"],
            "whole": {"a": "1"},
            "free": {"deep": {"er": [1]}},
            "list": ["l"],
        }
        body = {"metadata": {"name": "w"}} | config(**spec)
        made = await cluster.http("POST", f"{WIDGETS}?fieldManager=me", body)
        assert managed(made)["me", "Update", ""] == {
            "f:spec": {
                ".": {},
                "f:free": {".": {}, "f:deep": {".": {}, "f:er": {}}},
                "f:items": {
                    ".": {},
                    'k:{"name":"x"}': {".": {}, "f:name": {}, "f:value": {}},
                },
                "f:list": {},
                "f:size": {},
                "f:tags": {".": {}, 'v:"t"': {}},
                "f:whole": {},
            }
        }


async def test_appliers_share_lists_and_free_forms() -> None:
    async with api_cluster() as cluster:
        await define(cluster)
        path = f"{WIDGETS}/w"
        one = config(items=[{"name": "x", "value": "1"}], tags=["a"], free={"x": {"y": 1}})
        two = config(items=[{"name": "y", "value": "2"}], tags=["b"], free={"x": {"z": 2}})
        assert (await apply(cluster, path, one)).status == 201
        both = await apply(cluster, path, two, "two")
        assert both.json["spec"]["items"] == [*one["spec"]["items"], *two["spec"]["items"]]
        assert both.json["spec"]["tags"] == ["a", "b"]
        assert both.json["spec"]["free"] == {"x": {"y": 1, "z": 2}}
        less = await apply(cluster, path, config(tags=["a"]))
        assert less.json["spec"] == {**two["spec"], "tags": ["a", "b"], "size": 3}
        whole = await apply(cluster, path, config(whole={"a": "1"}), "two")
        assert whole.json["spec"]["whole"] == {"a": "1"}
        refused = await apply(cluster, path, config(whole={"b": "1"}), "one")
        assert refused.message == ('Apply failed with 1 conflict: conflict with "two": .spec.whole')
        unknown = await apply(cluster, path, config(nope=1))
        assert (unknown.status, unknown.message) == (
            400,
            "failed to create typed patch object (/; example.com/v1, Kind=Widget): "
            ".spec.nope: field not declared in schema",
        )


async def test_status_of_a_custom_resource_is_applied_apart() -> None:
    async with api_cluster() as cluster:
        await define(cluster)
        path = f"{WIDGETS}/w"
        await apply(cluster, path, config(size=1))
        status = {"apiVersion": "example.com/v1", "kind": "Widget", "status": {"phase": "x"}}
        labels = {"metadata": {"labels": {"a": "b"}}, "spec": {"size": 9}}
        shown = await apply(cluster, f"{path}/status", status | labels, "two")
        assert shown.status == 200, shown.message
        assert shown.json["spec"] == {"size": 1}
        assert set(managed(shown)["two", "Apply", "status"]) <= {"f:status"}


async def test_what_became_whole_is_owned_as_a_whole() -> None:
    """Upstream's reconcileManagedFieldsWithSchemaChanges."""
    async with api_cluster() as cluster:
        await define(cluster)
        path = f"{WIDGETS}/w"
        await apply(cluster, path, config(items=[{"name": "x", "value": "1"}]))
        change = version(
            spec={
                **SPEC,
                "properties": {
                    **SPEC["properties"],
                    "items": {"type": "array", "items": ITEM},
                },
            },
            subresources={"status": {}},
        )
        patch = {"spec": {"versions": [change]}}
        name = (await cluster.http("GET", DEFINITIONS)).json["items"][0]["metadata"]["name"]
        changed = await cluster.http("PATCH", f"{DEFINITIONS}/{name}", patch, content_type=MERGE)
        assert changed.status == 200, changed.message
        other = await apply(cluster, path, config(items=[{"name": "y"}]), "two")
        assert other.message == ('Apply failed with 1 conflict: conflict with "one": .spec.items')


async def test_values_of_another_type_are_told_before_they_are_validated() -> None:
    async with api_cluster() as cluster:
        await define(cluster)
        answer = await apply(cluster, f"{WIDGETS}/w", config(size="x", list="y"))
        assert (answer.status, answer.message) == (
            400,
            "failed to create typed patch object (/; example.com/v1, Kind=Widget): errors:\n"
            "  .spec.size: expected numeric (int or float), got string\n"
            "  .spec.list: expected list, got &{y}",
        )


async def test_what_was_applied_in_another_version_goes_with_it() -> None:
    v2 = WIDGETS.replace("/v1/", "/v2/")
    async with api_cluster() as cluster:
        body = definition(version(spec=SPEC), version("v2", spec=SPEC, storage=False))
        assert (await cluster.http("POST", DEFINITIONS, body)).status == 201
        first = config(items=[{"name": "a"}, {"name": "b"}, {"name": "c"}], free={"x": 1}, list=[])
        assert (await apply(cluster, f"{WIDGETS}/w", first)).status == 201
        second = {**config(items=[{"name": "b"}]), "apiVersion": "example.com/v2"}
        assert (await apply(cluster, f"{v2}/w", second, "two")).status == 200
        third = {**config(items=[{"name": "d"}]), "apiVersion": "example.com/v2"}
        answer = await apply(cluster, f"{v2}/w", third)
        # What the other holds stays, in whichever version it holds it.
        assert answer.json["spec"] == {"size": 3, "items": [{"name": "b"}, {"name": "d"}]}
        back = await apply(cluster, f"{WIDGETS}/w", config(list=["x"]))
        assert back.json["spec"] == {"size": 3, "items": [{"name": "b"}], "list": ["x"]}
        assert [who["apiVersion"] for who in back.json["metadata"]["managedFields"]] == [
            "example.com/v1",
            "example.com/v2",
        ]
