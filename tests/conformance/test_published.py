"""Custom resources in the published OpenAPI, and what kubectl makes of it (as upstream's
test/e2e/apimachinery/crd_publish_openapi.go)."""

from __future__ import annotations

from typing import Any

from tests.kit.definitions import DEFINITIONS, Schema, definition, version

from .bench import JSON_PATCH, Bench, Obj
from .kubectl import Kubectl

FOO: Schema = {
    "description": "Foo CRD for Testing",
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "description": "Specification of Foo",
            "properties": {
                "bars": {
                    "description": "List of Bars and their specs.",
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"description": "Name of Bar.", "type": "string"},
                            "age": {"description": "Age of Bar.", "type": "string"},
                            "feeling": {"description": "Whether Bar is feeling great.",
                                        "type": "string", "enum": ["Great", "Down"]},
                            "bazs": {"description": "List of Bazs.", "type": "array",
                                     "items": {"type": "string"}},
                        },
                    },
                },
            },
        },
        "status": {"description": "Status of Foo", "type": "object"},
    },
}  # fmt: skip
OPEN: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
EMBEDDED: Schema = {
    "description": "preserve-unknown-properties in nested field for Testing",
    "type": "object",
    "properties": {
        "spec": {**OPEN, "description": "Specification of Waldo"},
        "status": {**OPEN, "description": "Status of Waldo"},
    },
}


def with_schema(name: str, schema: Schema, **changes: Any) -> Obj:
    return version(name, schema={"openAPIV3Schema": schema}, **changes)


def foo(**fields: Any) -> Obj:
    return {"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": "test"}, **fields}


async def published(bench: Bench) -> dict[str, Obj]:
    """The definitions of OpenAPI v2, by name."""
    definitions: dict[str, Obj] = (await bench.get("/openapi/v2"))["definitions"]
    return definitions


async def check(bench: Bench, name: str, schema: Schema) -> None:
    """The definition is there as its schema says, in v2 and in v3."""
    found = (await published(bench))[name]
    group, _, rest = name.rpartition(".")
    api, _, group_version = group.rpartition(".")
    path = f"/openapi/v3/apis/{'.'.join(reversed(api.split('.')))}/{group_version}"
    third = (await bench.get(path))["components"]["schemas"][f"{group}.{rest}"]
    for made in (found, third):
        assert made.get("description") == schema.get("description")
        if made is found and schema.get("x-kubernetes-preserve-unknown-fields"):
            # OpenAPI v2 cannot say that other fields are allowed beside these, so it names none.
            assert "properties" not in made
            continue
        for key, value in schema.get("properties", {}).items():
            assert made["properties"][key]["description"] == value["description"]
        (kind,) = made["x-kubernetes-group-version-kind"]
        assert kind["kind"] == rest


async def accepted(kubectl: Kubectl, body: Obj) -> None:
    (await kubectl("create", "-f", "-", given=body)).ok
    (await kubectl("delete", "foos", "test")).ok
    (await kubectl("apply", "-f", "-", given=body)).ok
    (await kubectl("delete", "foos", "test")).ok


async def test_with_a_validation_schema(bench: Bench, kubectl: Kubectl) -> None:
    await bench.create(DEFINITIONS, definition(with_schema("v1", FOO), plural="foos"))
    await check(bench, "com.example.v1.Foo", FOO)
    bar = {"name": "test-bar", "feeling": "Great"}
    await accepted(kubectl, foo(spec={"bars": [{**bar, "bazs": ["test-baz"]}]}))
    for verb in ("create", "apply"):
        unknown = foo(spec={"foo": True})
        assert "unknown field" in (await kubectl(verb, "-f", "-", given=unknown)).failed
        missing = foo(spec={"bars": [{"age": "10"}]})
        said = (await kubectl(verb, "-f", "-", given=missing)).failed
        assert "spec.bars[0].name: Required value" in said
    wrong = foo(spec={"bars": [{**bar, "feeling": "NonExistentValue"}]})
    said = (await kubectl("create", "-f", "-", given=wrong)).failed
    assert 'Unsupported value: "NonExistentValue"' in said
    said = (await kubectl("explain", "foos")).ok
    assert "Foo CRD for Testing" in said
    assert "Specification of Foo" in said
    said = (await kubectl("explain", "foos.spec.bars")).ok
    for words in ("List of Bars and their specs.", "age", "bazs", "-required-", "Name of Bar."):
        assert words in said
    assert "does not exist" in (await kubectl("explain", "foos.spec.bars2")).failed


async def test_without_a_validation_schema(bench: Bench, kubectl: Kubectl) -> None:
    await bench.create(DEFINITIONS, definition(with_schema("v1", OPEN), plural="foos"))
    await check(bench, "com.example.v1.Foo", OPEN)
    await accepted(kubectl, foo(a={"b": [{"c": "d"}]}))
    said = (await kubectl("explain", "foos")).ok
    assert "KIND:       Foo" in said
    assert "DESCRIPTION:\n    <empty>" in said


async def test_with_unknown_fields_kept_at_the_root(bench: Bench, kubectl: Kubectl) -> None:
    """As upstream: beside known properties."""
    schema = {**OPEN, "properties": {"spec": {"type": "object", "description": "Known"}}}
    await bench.create(DEFINITIONS, definition(with_schema("v1", schema), plural="foos"))
    await check(bench, "com.example.v1.Foo", schema)
    await accepted(kubectl, foo(a={"b": [{"c": "d"}]}))
    made = await bench.create("/apis/example.com/v1/namespaces/default/foos", foo(a={"b": "c"}))
    assert made["a"] == {"b": "c"}
    assert "KIND:       Foo" in (await kubectl("explain", "foos")).ok


async def test_with_unknown_fields_kept_inside(bench: Bench, kubectl: Kubectl) -> None:
    await bench.create(DEFINITIONS, definition(with_schema("v1", EMBEDDED), plural="foos"))
    await check(bench, "com.example.v1.Foo", EMBEDDED)
    await accepted(kubectl, foo(spec={"b": [{"c": "d"}]}))
    said = (await kubectl("explain", "foos")).ok
    assert "preserve-unknown-properties in nested field for Testing" in said
    assert "Specification of Waldo" in said


async def test_definitions_of_different_groups(bench: Bench) -> None:
    for group in ("a.example.com", "b.example.com"):
        body = definition(with_schema("v1", FOO), plural="foos", group=group)
        await bench.create(DEFINITIONS, body)
    for name in ("com.example.a.v1.Foo", "com.example.b.v1.Foo"):
        await check(bench, name, FOO)


async def test_versions_of_one_group(bench: Bench) -> None:
    """In one definition, and in two."""
    both = (with_schema("v2", FOO), with_schema("v3", FOO, storage=False))
    await bench.create(DEFINITIONS, definition(*both, plural="foos"))
    await bench.create(DEFINITIONS, definition(with_schema("v4", EMBEDDED), plural="bars"))
    await check(bench, "com.example.v2.Foo", FOO)
    await check(bench, "com.example.v3.Foo", FOO)
    await check(bench, "com.example.v4.Bar", EMBEDDED)


async def test_kinds_of_one_version(bench: Bench) -> None:
    await bench.create(DEFINITIONS, definition(with_schema("v1", FOO), plural="foos"))
    await bench.create(DEFINITIONS, definition(with_schema("v1", EMBEDDED), plural="bars"))
    await check(bench, "com.example.v1.Foo", FOO)
    await check(bench, "com.example.v1.Bar", EMBEDDED)


async def test_a_version_is_renamed(bench: Bench) -> None:
    both = (with_schema("v2", FOO), with_schema("v3", FOO, storage=False))
    await bench.create(DEFINITIONS, definition(*both, plural="foos"))
    patch = [{"op": "test", "path": "/spec/versions/1/name", "value": "v3"},
             {"op": "replace", "path": "/spec/versions/1/name", "value": "v4"}]  # fmt: skip
    await bench.patch(f"{DEFINITIONS}/foos.example.com", patch, JSON_PATCH)
    await check(bench, "com.example.v4.Foo", FOO)
    assert "com.example.v3.Foo" not in await published(bench)
    await check(bench, "com.example.v2.Foo", FOO)


async def test_a_version_is_served_no_more(bench: Bench) -> None:
    both = (with_schema("v5", FOO), with_schema("v6alpha1", FOO, storage=False))
    await bench.create(DEFINITIONS, definition(*both, plural="foos"))
    await check(bench, "com.example.v6alpha1.Foo", FOO)
    patch = [{"op": "replace", "path": "/spec/versions/1/served", "value": False}]
    await bench.patch(f"{DEFINITIONS}/foos.example.com", patch, JSON_PATCH)
    assert "com.example.v6alpha1.Foo" not in await published(bench)
    await check(bench, "com.example.v5.Foo", FOO)
