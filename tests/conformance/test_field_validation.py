"""Strict field validation (as upstream's test/e2e/apimachinery/field_validation.go)."""

from __future__ import annotations

from tests.kit.cluster import Answer
from tests.kit.definitions import DEFINITIONS, FREE, Schema, definition

from .bench import APPLY, DEPLOYMENTS, Bench

STRICT = "fieldManager=field_validation_mgr&fieldValidation=Strict"
PORT: Schema = {
    "type": "object",
    "required": ["containerPort", "protocol"],
    "properties": {
        "containerPort": {"format": "int32", "type": "integer"},
        "hostIP": {"type": "string"},
        "hostPort": {"format": "int32", "type": "integer"},
        "name": {"type": "string"},
        "protocol": {"type": "string"},
    },
}
SPEC: Schema = {
    "type": "object",
    "properties": {
        "foo": {"type": "string"},
        "cronSpec": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"},
        "ports": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
            "items": PORT,
        },
    },
}
EMBEDDED: Schema = {
    "type": "object",
    "x-kubernetes-embedded-resource": True,
    "properties": {
        "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
        "spec": {"type": "object"},
    },
}
OPEN: Schema = {**SPEC, "x-kubernetes-preserve-unknown-fields": True}
REST = """  cronSpec: "* * * * */5"
  ports:
  - name: x
    containerPort: 80
    protocol: TCP
"""


async def apply(bench: Bench, schema: Schema, rest: str) -> Answer:
    """Apply an object of a definition whose two versions have the schema."""
    versions = [
        {"name": name, "served": True, "storage": name == "v1beta1",
         "schema": {"openAPIV3Schema": schema}} for name in ("v1beta1", "v1beta2")
    ]  # fmt: skip
    await bench.create(DEFINITIONS, definition(*versions, plural="noxus", scope="Cluster"))
    body = f"\napiVersion: example.com/v1beta1\nkind: Noxu\nmetadata:\n  name: mytest\n{rest}{REST}"
    path = f"/apis/example.com/v1beta1/noxus/mytest?{STRICT}"
    return await bench.http("PATCH", path, body.encode(), content_type=APPLY)


def with_spec(spec: Schema) -> Schema:
    return {"type": "object", "properties": {"spec": spec}}


async def test_unknown_and_duplicate_fields_of_a_typed_object(bench: Bench) -> None:
    body = b"""{"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "my-dep", "labels": {"app": "nginx"}},
        "spec": {"unknownField": "foo", "replicas": 2, "replicas": 3,
            "selector": {"matchLabels": {"app": "nginx"}},
            "template": {"metadata": {"labels": {"app": "nginx"}},
                "spec": {"containers": [{"name": "nginx", "image": "nginx:latest"}]}}}}"""
    answer = await bench.refused(400, "POST", f"{DEPLOYMENTS}?{STRICT}", body)
    assert (
        'strict decoding error: unknown field "spec.unknownField", duplicate field "spec.replicas"'
    ) in answer.message


async def test_unknown_metadata_of_a_typed_object(bench: Bench) -> None:
    body = b"""{"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "my-dep", "unknownMeta": "foo", "labels": {"app": "nginx"}},
        "spec": {"selector": {"matchLabels": {"app": "nginx"}},
            "template": {"metadata": {"labels": {"app": "nginx"}},
                "spec": {"containers": [{"name": "nginx", "image": "nginx:latest"}]}}}}"""
    answer = await bench.refused(400, "POST", f"{DEPLOYMENTS}?{STRICT}", body)
    assert 'strict decoding error: unknown field "metadata.unknownMeta"' in answer.message


async def test_a_valid_custom_resource(bench: Bench) -> None:
    answer = await apply(bench, with_spec(SPEC), "spec:\n  foo: foo1\n")
    assert answer.status == 201, answer.message
    assert answer.json["spec"]["ports"] == [{"name": "x", "containerPort": 80, "protocol": "TCP"}]


async def test_anything_goes_without_a_schema(bench: Bench) -> None:
    answer = await apply(bench, FREE, "spec:\n  unknown: uk1\n")
    assert answer.status == 201, answer.message
    assert answer.json["spec"]["unknown"] == "uk1"


async def test_unknown_fields_of_a_custom_resource(bench: Bench) -> None:
    answer = await apply(bench, with_spec(SPEC), "unknownField: unknown\nspec:\n  foo: foo1\n")
    assert ".unknownField: field not declared in schema" in answer.message


async def test_unknown_metadata_of_custom_and_embedded_objects(bench: Bench) -> None:
    spec = {**OPEN, "properties": {**OPEN["properties"], "template": EMBEDDED}}
    rest = (
        "  unknownMeta: unknown\nspec:\n  template:\n    apiversion: foo/v1\n    kind: Sub\n"
        "    metadata:\n        unknownSubMeta: unknown\n        name: subobject\n"
        "        namespace: default\n  foo: foo1\n"
    )
    answer = await apply(bench, with_spec(spec), rest)
    assert answer.status >= 400
    assert ".spec.template.metadata.unknownSubMeta: field not declared in schema" in answer.message
    assert ".metadata.unknownMeta: field not declared in schema" in answer.message


async def test_duplicates_where_unknown_fields_are_kept(bench: Bench) -> None:
    rest = "spec:\n  unknown: uk1\n  foo: foo1\n  foo: foo2\n"
    answer = await apply(bench, with_spec(OPEN), rest)
    assert answer.status >= 400
    assert 'line 9: key "foo" already set in map' in answer.message
