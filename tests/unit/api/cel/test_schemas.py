"""Types from schemas and definitions, names of properties, and what rules cost at most."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.cel import CompileError, compile, kubernetes
from sampan.api.cel.definitions import type_of_definition
from sampan.api.cel.estimate import estimate
from sampan.api.cel.names import escape, unescape
from sampan.api.cel.schemas import adapt, needs_adapting, type_of_schema
from sampan.api.cel.sizes import sizes_of_schema
from sampan.api.cel.typechecking import Known, expression_warnings, rules_of

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "a.b-c/d": {"type": "string"},
        "namespace": {"type": "string"},
        "when": {"type": "string", "format": "date-time"},
        "span": {"type": "string", "format": "duration"},
        "raw": {"type": "string", "format": "byte"},
        "port": {"x-kubernetes-int-or-string": True},
        "ratio": {"type": "number"},
        "marks": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "items": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
            "items": {"type": "object", "properties": {"n": {"type": "string"},
                                                       "v": {"type": "integer"}}},
        },
        "free": {"type": "object", "additionalProperties": {"type": "integer"}},
    },
}  # fmt: skip
VALUE = {
    "a.b-c/d": "x", "namespace": "n", "when": "2024-01-01T00:00:00Z", "span": "90s",
    "raw": "aGk=", "port": "http", "ratio": 1, "marks": ["a", "b"],
    "items": [{"n": "a", "v": 1}, {"n": "b", "v": 2}], "free": {"k": 3},
}  # fmt: skip


def run(source: str) -> Any:
    type_ = type_of_schema(SCHEMA)
    assert type_ is not None
    program = compile(source, kubernetes().extend({"self": type_}))
    return program.evaluate({"self": adapt(VALUE, SCHEMA)})


@pytest.mark.parametrize(
    "source",
    [
        "self.a__dot__b__dash__c__slash__d == 'x' && self.__namespace__ == 'n'",
        "self.when < timestamp('2025-01-01T00:00:00Z') && self.span == duration('1m30s')",
        "self.raw == b'hi' && self.port == 'http' && type(self.ratio) == double",
        "self.marks == ['b', 'a'] || self.marks + ['a', 'c'] == ['a', 'b', 'c']",
        "(self.items + self.items.map(i, i)).size() == 2",
        "self.free.all(k, k == 'k' && self.free[k] == 3) && self.free.k == 3",
    ],
)
def test_values_are_seen_as_their_schema_says(source: str) -> None:
    assert run(source) is True


@pytest.mark.parametrize("source", ["self.gone", "self.when == 'x'", "self.free.k == 'x'"])
def test_what_a_schema_does_not_say_does_not_compile(source: str) -> None:
    with pytest.raises(CompileError):
        run(source)


def test_needs_adapting() -> None:
    assert needs_adapting(SCHEMA)
    assert not needs_adapting({"type": "object", "properties": {"a": {"type": "string"}}})


@pytest.mark.parametrize(
    ("name", "identifier"),
    [
        ("a", "a"),
        ("a__b", "a__underscores__b"),
        ("a.b/c-d", "a__dot__b__slash__c__dash__d"),
        ("in", "__in__"),
        ("1a", None),
        ("a b", None),
    ],
)
def test_names(name: str, identifier: str | None) -> None:
    assert escape(name) == identifier
    if identifier is not None:
        assert unescape(identifier) == name


def most(schema: dict[str, Any], rule: str) -> int:
    type_ = type_of_schema(schema)
    assert type_ is not None
    program = compile(rule, kubernetes().extend({"self": type_}))
    return estimate(program, {"self": sizes_of_schema(schema)}).most


def test_costs_follow_the_limits_of_the_schema() -> None:
    items: dict[str, Any] = {"type": "array", "items": {"type": "string", "maxLength": 10}}
    rule = "self.all(x, self.all(y, x == y))"
    assert most(items, rule) > 10_000_000
    assert most({**items, "maxItems": 10}, rule) < 10_000
    text = {"type": "string", "maxLength": 100}
    assert most(text, "self.matches('^a+$')") < most({"type": "string"}, "self.matches('^a+$')")
    assert most(text, "self == 'abc'") == 2
    assert most({"type": "integer"}, "self > 0 && self < 9") == 4
    # The estimate is never below what it then costs.
    assert most({**items, "maxItems": 3}, "self.map(x, x + 'a').join(',').size() > 0") > 50


NUMBERS = {"type": "array", "items": {"type": "number"}}
TEXT = {"type": "string"}
THING = {"type": "object", "properties": {"a": TEXT, "b": NUMBERS}}


def each_in(**values: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values}


@pytest.mark.parametrize(
    ("schema", "rule", "cost"),
    [
        ({**NUMBERS, "maxItems": 50}, "self[1] == 0.0", 2),
        (NUMBERS, "self.all(x, x == 0.0)", 6_291_454),
        ({**NUMBERS, "maxItems": 10}, "self.all(x, self.all(y, self.all(z, true)))", 3552),
        ({"type": "array", "items": THING}, "self[0] == null", 2),
        ({"type": "array", "items": TEXT}, "self[1] == self[1]", 314_577),
        ({"type": "array", "items": each_in(type="number"), "maxItems": 12},
         "self.all(x, x.y == 25.2)", 74),
        (each_in(type="string", format="date-time"), "self['a'] == self['b']", 8),
        (each_in(type="string", format="duration"), "self['a'] == self['b']", 8),
        (each_in(**TEXT), "self.all(x, x.contains(self[x]))", 2_752_507),
        (TEXT, "self.find('[0-9]+') == ''", 629_147),
        ({"type": "array", "items": TEXT}, "self.isSorted() == true", 329_854_432_052),
        ({**TEXT, "enum": ["A", "LongValue"]}, "self.contains('A')", 2),
        (THING, "self == self", 2),
        ({**each_in(**TEXT), "maxProperties": 8}, "self.all(k, k.split('/')[0].size() < 253)", 58),
    ],
)  # fmt: skip
def test_costs_are_upstreams(schema: dict[str, Any], rule: str, cost: int) -> None:
    """The figures of its TestCostEstimation, and what it takes for free: whole objects and the keys
    of maps, of which many definitions have rules."""
    assert most(schema, rule) == cost


def test_a_kind_refers_to_itself() -> None:
    type_ = type_of_definition("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1"
                               ".CustomResourceDefinition")  # fmt: skip
    source = "object.spec.versions.all(v, has(v.schema.openAPIV3Schema.not.not.not))"
    assert compile(source, kubernetes().extend({"object": type_}))


def test_policies_are_checked_against_kinds() -> None:
    spec = {
        "matchConstraints": {
            "resourceRules": [
                {"apiGroups": ["apps"], "apiVersions": ["v1"],
                 "resources": ["deployments", "deployments/scale"]},
                {"apiGroups": ["*"], "apiVersions": ["v1"], "resources": ["pods"]},
            ]
        },
        "variables": [{"name": "want", "expression": "object.spec.replicas"}],
        "validations": [
            {"expression": "variables.want > 1 && object.metadata.name != ''"},
            {"expression": "object.spec.replica > 1", "messageExpression": "object.nothing"},
        ],
    }  # fmt: skip
    assert rules_of(spec) == [("apps", "v1", "deployments")]
    known = Known("apps/v1, Kind=Deployment", type_of_definition("io.k8s.api.apps.v1.Deployment"))
    first, second = expression_warnings(spec, [known], None)
    assert first == {
        "fieldRef": "spec.validations[1].expression",
        "warning": "apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'replica'\n"
        " | object.spec.replica > 1\n | ...........^\n",
    }
    assert second["fieldRef"] == "spec.validations[1].messageExpression"
