"""Custom resources are served as built-in ones are, from the very write that defines them."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.server.exchange import User
from sampan.store.memory import MemoryStore
from tests.kit.cluster import Cluster, api_cluster
from tests.kit.definitions import (
    DEFINITIONS,
    FREE,
    MERGE,
    WIDGETS,
    conditions,
    definition,
    version,
    widget,
)

SPEC: dict[str, Any] = {
    "type": "object",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "maximum": 9},
        "color": {"type": "string", "enum": ["red", "blue"], "default": "red"},
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
    },
}
STATUS = {"subresources": {"status": {}}}


async def define(cluster: Cluster, *versions: Any, **spec: Any) -> Any:
    made = await cluster.http("POST", DEFINITIONS, definition(*versions, **spec))
    assert made.status == 201, made.message
    return made.json


async def test_a_definition_is_established_and_served_by_its_own_write() -> None:
    async with api_cluster() as cluster:
        assert (await cluster.http("GET", WIDGETS)).status == 404
        made = await define(cluster, version(spec=SPEC))
        assert conditions(made) == {
            "NamesAccepted": ("True", "NoConflicts"),
            "Established": ("True", "InitialNamesAccepted"),
        }
        assert made["status"]["acceptedNames"] == {
            "plural": "widgets",
            "singular": "widget",
            "kind": "Widget",
            "listKind": "WidgetList",
        }
        assert made["status"]["storedVersions"] == ["v1"]
        empty = await cluster.http("GET", WIDGETS)
        assert (empty.json["kind"], empty.json["items"]) == ("WidgetList", [])
        legacy = (await cluster.http("GET", "/apis/example.com/v1")).json["resources"]
        assert [item["name"] for item in legacy] == ["widgets"]
        names = {item["name"] for item in (await cluster.http("GET", "/apis")).json["groups"]}
        assert "example.com" in names


async def test_objects_are_pruned_defaulted_and_validated_in_upstreams_words() -> None:
    async with api_cluster() as cluster:
        await define(cluster, version(spec=SPEC))
        made = await cluster.http("POST", WIDGETS, widget(size=1, nope=True))
        assert made.status == 201
        assert made.json["spec"] == {"size": 1, "color": "red"}
        assert made.json["metadata"]["generation"] == 1
        assert made.headers["Warning"] == '299 - "unknown field \\"spec.nope\\""'
        strict = await cluster.http(
            "POST", f"{WIDGETS}?fieldValidation=Strict", widget("b", size=1, nope=True)
        )
        assert (strict.status, strict.message) == (
            400,
            'Widget in version "v1" cannot be handled as a Widget: strict decoding error: '
            'unknown field "spec.nope"',
        )
        bad = await cluster.http("POST", WIDGETS, widget("b", size="x", color="green"))
        assert (bad.status, bad.message) == (
            422,
            'Widget.example.com "b" is invalid: [spec.size: Invalid value: "string": spec.size '
            'in body must be of type integer: "string", spec.color: Unsupported value: "green": '
            'supported values: "red", "blue"]',
        )
        causes = bad.json["details"]["causes"]
        assert [cause["reason"] for cause in causes] == [
            "FieldValueTypeInvalid",
            "FieldValueNotSupported",
        ]
        twice = await cluster.http("POST", WIDGETS, widget("b", size=1, tags=["x", "x"]))
        assert 'spec.tags[1]: Duplicate value: "x"' in twice.message
        labels = widget("b", size=1)
        labels["metadata"]["labels"] = {"a": 1}
        wrong = await cluster.http("POST", WIDGETS, labels)
        assert wrong.status == 400
        assert "cannot unmarshal number into Go struct field ObjectMeta.labels" in wrong.message
        text = await cluster.http("POST", WIDGETS, widget("b") | {"metadata": "x"})
        assert "cannot unmarshal string into Go value of type v1.ObjectMeta" in text.message
        other = {"kind": "Gadget", "apiVersion": "example.com/v9"}
        turned = await cluster.http("PATCH", f"{WIDGETS}/a", other, content_type=MERGE)
        assert (turned.status, turned.message) == (
            422,
            'Widget.example.com "a" is invalid: [kind: Invalid value: "Gadget": must be Widget, '
            'apiVersion: Invalid value: "example.com/v9": must be example.com/v1]',
        )


async def test_status_is_written_apart_and_generation_counts_the_rest() -> None:
    async with api_cluster() as cluster:
        await define(cluster, version(spec=SPEC, **STATUS))
        body = {**widget(size=1), "status": {"phase": "mine"}}
        assert "status" not in (await cluster.http("POST", WIDGETS, body)).json
        part = {"status": {"phase": "up"}, "spec": {"size": 5}}
        made = (await cluster.http("PATCH", f"{WIDGETS}/a/status", part, content_type=MERGE)).json
        assert (made["status"], made["spec"]["size"]) == ({"phase": "up"}, 1)
        assert made["metadata"]["generation"] == 1
        part = {"status": {"phase": "down"}, "spec": {"size": 5}}
        made = (await cluster.http("PATCH", f"{WIDGETS}/a", part, content_type=MERGE)).json
        assert (made["status"], made["spec"]["size"]) == ({"phase": "up"}, 5)
        assert made["metadata"]["generation"] == 2


async def test_without_a_status_subresource_status_is_a_field_like_others() -> None:
    async with api_cluster() as cluster:
        await define(cluster)
        body = {**widget(), "status": {"phase": "mine"}}
        assert (await cluster.http("POST", WIDGETS, body)).json["status"] == {"phase": "mine"}
        part = {"status": {"phase": "x"}}
        made = (await cluster.http("PATCH", f"{WIDGETS}/a", part, content_type=MERGE)).json
        assert made["metadata"]["generation"] == 2
        refused = await cluster.http("PATCH", f"{WIDGETS}/a/status", part, content_type=MERGE)
        assert refused.status == 404


async def test_scale_shows_and_sets_replicas_where_the_definition_says() -> None:
    scale = {
        "specReplicasPath": ".spec.size",
        "statusReplicasPath": ".status.have",
        "labelSelectorPath": ".status.selector",
    }
    async with api_cluster() as cluster:
        await define(cluster, version(spec=SPEC, subresources={"status": {}, "scale": scale}))
        await cluster.http("POST", WIDGETS, widget(size=2))
        part = {"status": {"have": 1, "selector": "a=b"}}
        await cluster.http("PATCH", f"{WIDGETS}/a/status", part, content_type=MERGE)
        shown = (await cluster.http("GET", f"{WIDGETS}/a/scale")).json
        assert (shown["kind"], shown["spec"]) == ("Scale", {"replicas": 2})
        assert shown["status"] == {"replicas": 1, "selector": "a=b"}
        part = {"spec": {"replicas": 5}}
        await cluster.http("PATCH", f"{WIDGETS}/a/scale", part, content_type=MERGE)
        assert (await cluster.http("GET", f"{WIDGETS}/a")).json["spec"]["size"] == 5
        part = {"spec": {"replicas": 10}}
        over = await cluster.http("PATCH", f"{WIDGETS}/a/scale", part, content_type=MERGE)
        assert "spec.size in body should be less than or equal to 9" in over.message


async def test_tables_have_the_definitions_columns() -> None:
    columns = [
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "priority": 1},
        {
            "name": "Ready",
            "type": "string",
            "jsonPath": '.status.conditions[?(@.type=="Ready")].status',
        },
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    async with api_cluster() as cluster:
        await define(cluster, version(additionalPrinterColumns=columns))
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        await cluster.http("POST", WIDGETS, {**widget(size=3), "status": ready})
        await cluster.http("POST", WIDGETS, widget("b", size="wrong"))
        shown = (await cluster.http("GET", WIDGETS, accept=table)).json
        head = [(item["name"], item["type"], item["priority"]) for item in
                shown["columnDefinitions"]]  # fmt: skip
        assert head == [
            ("Name", "string", 0),
            ("Size", "integer", 1),
            ("Ready", "string", 0),
            ("Age", "date", 0),
        ]
        rows = [row["cells"][:3] for row in shown["rows"]]
        assert rows == [["a", 3, "True"], ["b", None, None]]


async def test_selectable_fields_select() -> None:
    fields = [{"jsonPath": ".spec.color"}]
    async with api_cluster() as cluster:
        await define(cluster, version(spec=SPEC, selectableFields=fields))
        await cluster.http("POST", WIDGETS, widget("a", size=1))
        await cluster.http("POST", WIDGETS, widget("b", size=1, color="blue"))
        for color, name in (("red", "a"), ("blue", "b")):
            found = await cluster.http("GET", f"{WIDGETS}?fieldSelector=spec.color={color}")
            assert [item["metadata"]["name"] for item in found.json["items"]] == [name]
        other = await cluster.http("GET", f"{WIDGETS}?fieldSelector=spec.size=1")
        assert (other.status, other.message) == (400, "field label not supported: spec.size")
        watch = cluster.stream(f"{WIDGETS}?watch=1&fieldSelector=spec.color=red")
        assert (await anext(watch))["object"]["metadata"]["name"] == "a"
        part = {"spec": {"color": "blue"}}
        await cluster.http("PATCH", f"{WIDGETS}/a", part, content_type=MERGE)
        assert (await anext(watch))["type"] == "DELETED"
        await watch.aclose()  # type: ignore[attr-defined]


async def test_rules_are_checked_and_see_what_was() -> None:
    rules = {
        "type": "object",
        "properties": {
            "least": {"type": "integer"},
            "most": {"type": "integer"},
            "name": {
                "type": "string",
                "maxLength": 20,
                "x-kubernetes-validations": [
                    {"rule": "self == oldSelf", "message": "fixed", "reason": "FieldValueForbidden"}
                ],
            },
        },
        "x-kubernetes-validations": [
            {
                "rule": "self.least <= self.most",
                "messageExpression": "'%d is more than %d'.format([self.least, self.most])",
                "fieldPath": ".least",
            }
        ],
    }
    async with api_cluster() as cluster:
        await define(cluster, version(spec=rules))
        bad = await cluster.http("POST", WIDGETS, widget(least=3, most=1, name="x"))
        assert bad.message == (
            'Widget.example.com "a" is invalid: spec.least: Invalid value: 3 is more than 1'
        )
        good = await cluster.http("POST", WIDGETS, widget(least=0, most=1, name="x"))
        assert good.status == 201
        part = {"spec": {"name": "y"}}
        refused = await cluster.http("PATCH", f"{WIDGETS}/a", part, content_type=MERGE)
        assert refused.message == 'Widget.example.com "a" is invalid: spec.name: Forbidden: fixed'
        wrong = await cluster.http("POST", WIDGETS, widget("b", least="q", most=1))
        assert wrong.message.endswith(
            '<nil>: Invalid value: "null": some validation rules were not checked because the '
            "object was invalid; correct the existing errors to complete validation]"
        )


async def test_rules_say_nothing_of_what_an_update_leaves_alone() -> None:
    loose = version()
    async with api_cluster() as cluster:
        made = await define(cluster, loose)
        await cluster.http("POST", WIDGETS, widget(list=["bad"], other=1))
        strict = {
            "type": "object",
            "properties": {
                "list": {
                    "type": "array",
                    "maxItems": 5,
                    "items": {"type": "string", "maxLength": 9},
                    "x-kubernetes-validations": [{"rule": "self.all(x, x.startsWith('ok'))"}],
                },
                "other": {"type": "integer"},
            },
        }
        made["spec"]["versions"] = [version(spec=strict)]
        changed = await cluster.http("PUT", f"{DEFINITIONS}/widgets.example.com", made)
        assert changed.status == 200, changed.message
        part: Any = {"spec": {"other": 2}}
        assert (await cluster.http("PATCH", f"{WIDGETS}/a", part, content_type=MERGE)).status == 200
        part = {"spec": {"list": ["bad", "ok"]}}
        refused = await cluster.http("PATCH", f"{WIDGETS}/a", part, content_type=MERGE)
        assert "spec.list: Invalid value: failed rule: self.all" in refused.message


async def test_server_side_apply_merges_by_the_schemas_lists() -> None:
    keyed = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string"}, "v": {"type": "integer"}},
        },
    }
    apply = "application/apply-patch+yaml"
    async with api_cluster() as cluster:
        await define(cluster, version(spec={"type": "object", "properties": {"items": keyed}}))
        for manager, name in (("one", "x"), ("two", "y")):
            body = widget(items=[{"name": name, "v": 1}])
            path = f"{WIDGETS}/a?fieldManager={manager}"
            made = await cluster.http("PATCH", path, body, content_type=apply)
            assert made.status in (200, 201), made.message
        assert made.json["spec"]["items"] == [{"name": "x", "v": 1}, {"name": "y", "v": 1}]
        body = widget(items=[{"name": "x", "v": 2}])
        taken = await cluster.http("PATCH", path, body, content_type=apply)
        assert (taken.status, taken.json["reason"]) == (409, "Conflict")


async def test_strategic_patches_are_no_media_type_of_custom_resources() -> None:
    async with api_cluster() as cluster:
        await define(cluster)
        await cluster.http("POST", WIDGETS, widget())
        strategic = "application/strategic-merge-patch+json"
        answer = await cluster.http("PATCH", f"{WIDGETS}/a", {}, content_type=strategic)
        assert answer.status == 415


async def test_a_watch_goes_on_when_the_schema_changes() -> None:
    async with api_cluster() as cluster:
        made = await define(cluster, version(spec=SPEC))
        watch = cluster.stream(f"{WIDGETS}?watch=1")
        await cluster.http("POST", WIDGETS, widget(size=1))
        assert (await anext(watch))["type"] == "ADDED"
        made["spec"]["versions"] = [version(spec=FREE)]
        await cluster.http("PUT", f"{DEFINITIONS}/widgets.example.com", made)
        await cluster.http("POST", WIDGETS, widget("b", size="large"))
        assert (await anext(watch))["object"]["spec"] == {"size": "large"}
        await watch.aclose()  # type: ignore[attr-defined]


async def test_what_is_stored_is_read_by_the_schema_of_now() -> None:
    async with api_cluster() as cluster:
        made = await define(cluster)
        await cluster.http("POST", WIDGETS, widget(size=1, gone="soon"))
        made["spec"]["versions"] = [version(spec=SPEC)]
        await cluster.http("PUT", f"{DEFINITIONS}/widgets.example.com", made)
        wanted = {"size": 1, "color": "red"}
        assert (await cluster.http("GET", f"{WIDGETS}/a")).json["spec"] == wanted
        listed = (await cluster.http("GET", WIDGETS)).json["items"]
        assert [item["spec"] for item in listed] == [wanted]
        watch = cluster.stream(f"{WIDGETS}?watch=1")
        assert (await anext(watch))["object"]["spec"] == wanted
        await watch.aclose()  # type: ignore[attr-defined]


async def test_after_a_restart_everything_is_served_before_the_first_request() -> None:
    store = MemoryStore()
    async with api_cluster(store=store) as cluster:
        await define(cluster, version(spec=SPEC))
        await cluster.http("POST", WIDGETS, widget(size=1))
    async with api_cluster(store=store) as cluster:
        assert (await cluster.http("GET", f"{WIDGETS}/a")).json["spec"]["size"] == 1
        bad = await cluster.http("POST", WIDGETS, widget("b"))
        assert bad.message == 'Widget.example.com "b" is invalid: spec.size: Required value'
    await store.close()


async def test_access_is_granted_as_for_built_in_kinds() -> None:
    async with api_cluster() as cluster:
        await define(cluster)
        role = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "reader"},
            "rules": [{"apiGroups": ["example.com"], "resources": ["widgets"], "verbs": ["list"]}],
        }
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "reader"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "reader",
            },
            "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}],
        }
        await cluster.http("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", role)
        await cluster.http(
            "POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding
        )
        jane = User("jane", ("system:authenticated",))
        assert (await cluster.http("GET", WIDGETS, user=jane)).status == 200
        refused = await cluster.http("POST", WIDGETS, widget(), user=jane)
        assert (refused.status, refused.message) == (
            403,
            'widgets.example.com is forbidden: User "jane" cannot create resource "widgets" in '
            'API group "example.com" in the namespace "default"',
        )


@pytest.mark.parametrize("scope", ["Namespaced", "Cluster"])
async def test_scope(scope: str) -> None:
    async with api_cluster() as cluster:
        await define(cluster, scope=scope)
        plain = "/apis/example.com/v1/widgets"
        there, elsewhere = (WIDGETS, plain) if scope == "Namespaced" else (plain, WIDGETS)
        assert (await cluster.http("POST", there, widget())).status == 201
        assert (await cluster.http("POST", elsewhere, widget("b"))).status in (404, 405)
