"""What must hold of every kind, on objects made at random from the schema.

Defaults are idempotent and change nothing they are given twice; validation never fails, whatever
the object says; a row has a cell for every column.
"""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from sampan.api.decoding import decode
from sampan.api.descriptor import Descriptor
from sampan.api.resources import builtin
from sampan.api.schema import definitions

RESOURCES = {f"{item.group or 'core'}/{item.version}/{item.kind}": item for item in builtin()}
DEPTH = 9
SAMPLES = 60
"""Objects per kind: enough to reach every branch of most kinds, in a few seconds for all."""
NOW_S = 1_700_000_000.0
WORDS = (
    "", "a", "x-1", "Upper", "a.b/c", "Always", "None", "RollingUpdate", "10.0.0.1", "80", "50%",
    "1Gi", "-1", "..", "/tmp", "true", "Recreate", "LoadBalancer", "Exists", "In", "kubernetes",
)  # fmt: skip
DECODED = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": ("0", "80", "1Gi", "-1", "0.5"),
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": ("2023-11-14T22:13:20.000000Z",),
}
"""What decoding lets through: kinds never see anything else."""
TIME = "2023-11-14T22:13:20Z"


def made(schema: dict[str, Any], rng: random.Random, depth: int) -> Any:
    """A value that fits `schema`, with about half of its optional fields."""
    if schema.get("$ref") in DECODED:
        return rng.choice(DECODED[schema["$ref"]])
    if "$ref" in schema:
        return made(definitions()[schema["$ref"]], rng, depth)
    if "oneOf" in schema or schema.get("format") == "int-or-string":
        return rng.choice([*WORDS, 0, 1, 5, -3])
    kind = schema.get("type")
    if kind == "array":
        size = 0 if depth <= 0 else rng.randrange(3)
        return [made(schema["items"], rng, depth - 1) for _ in range(size)]
    if kind == "object" or "properties" in schema:
        if "additionalProperties" in schema and isinstance(schema["additionalProperties"], dict):
            keys = [word for word in WORDS if word][: rng.randrange(4)]
            return {key: made(schema["additionalProperties"], rng, depth - 1) for key in keys}
        if depth <= 0:
            return {}
        fields = schema.get("properties", {})
        return {
            key: made(value, rng, depth - 1)
            for key, value in fields.items()
            if rng.random() < 0.5 or key in schema.get("required", ())
        }
    if kind == "integer":
        return rng.choice([0, 1, 2, 80, -1, 70000])
    if kind == "number":
        return 1.5
    if kind == "boolean":
        return rng.random() < 0.5
    if schema.get("format") == "date-time":
        return TIME
    return rng.choice(WORDS)


def sample(resource: Descriptor, rng: random.Random) -> dict[str, Any]:
    obj = made(definitions()[resource.definition], rng, DEPTH)
    obj["kind"], obj["apiVersion"] = resource.kind, resource.api_version
    obj["metadata"] = {"name": "x", "namespace": "ns", "uid": "u", "creationTimestamp": TIME}
    return obj


def admitted(resource: Descriptor, rng: random.Random) -> dict[str, Any]:
    obj = sample(resource, rng)
    if resource.rules.prepare is not None:
        resource.rules.prepare(obj, None)
    resource.rules.default(obj)
    return obj


@pytest.mark.parametrize("name", RESOURCES)
def test_any_object_defaults_validates_and_prints(name: str) -> None:
    resource = RESOURCES[name]
    rules = resource.rules
    rng = random.Random(name)
    for _ in range(SAMPLES):
        obj, other = admitted(resource, rng), admitted(resource, rng)
        again = copy.deepcopy(obj)
        rules.default(again)
        assert again == obj
        for check in (rules.validate, rules.validate_status, *rules.validate_parts.values()):
            causes = check(obj, None) + check(obj, other)
            assert all(cause.path is not None and cause.text for cause in causes)
        assert again == obj, "validation changes nothing"
        assert all(isinstance(value, str) for value in rules.fields(obj).values())
        if rules.cells is not None:
            assert len(rules.cells(obj, NOW_S)) == len(rules.columns)
        if rules.prepare is not None:
            rules.prepare(other, obj)


@pytest.mark.parametrize("name", [key for key, item in RESOURCES.items() if item.rules.stored_as])
def test_views_of_one_store_lose_nothing(name: str) -> None:
    resource = RESOURCES[name]
    rules = resource.rules
    assert rules.stored_as is not None
    assert rules.from_stored is not None
    assert rules.to_stored is not None
    group, version = rules.stored_as
    stored_as = RESOURCES[f"{group or 'core'}/{version}/{resource.kind}"]
    assert stored_as.storage == resource.storage
    rng = random.Random(name)
    for _ in range(SAMPLES):
        stored = decode(stored_as.definition, admitted(stored_as, rng)).obj
        before = copy.deepcopy(stored)
        view = rules.from_stored(stored)
        assert view["apiVersion"] == resource.api_version
        back = rules.to_stored(view)
        assert stored == before
        assert _order_free(back) == _order_free(stored)


def _order_free(obj: dict[str, Any]) -> dict[str, Any]:
    """Without empty values, and metrics in any order: a view may move one to the front."""
    out = {key: value for key, value in copy.deepcopy(obj).items() if value not in (None, {}, [])}
    for part, field in (("spec", "metrics"), ("status", "currentMetrics")):
        items = (out.get(part) or {}).get(field)
        if items:
            out[part][field] = sorted(items, key=str)
    for part in ("spec", "status"):
        if isinstance(out.get(part), dict):
            out[part] = {k: v for k, v in out[part].items() if v not in (None, {}, [])}
    return out


@pytest.mark.parametrize("name", RESOURCES)
def test_selectable_fields_are_known_for_an_empty_object(name: str) -> None:
    resource = RESOURCES[name]
    empty = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": {}}
    assert all(isinstance(value, str) for value in resource.rules.fields(empty).values())
