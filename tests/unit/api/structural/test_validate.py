from __future__ import annotations

import time
from typing import Any

import pytest

from sampan.api.structural.listtypes import list_checker
from sampan.api.structural.validate import ABSENT, validator


def complaints(schema: Any, value: Any, old: Any = ABSENT) -> list[str]:
    root = {"type": "object", "properties": {"spec": {"type": "object", "properties": schema}}}
    out: list[Any] = []
    before = old if old is ABSENT else {"spec": old}
    validator(root)({"spec": value}, before, None, out)
    return [str(cause) for cause in out]


# (schema of spec.x, value, complaint) in upstream's words.
CASES: list[tuple[dict[str, Any], Any, str]] = [
    (
        {"type": "integer"},
        "s",
        'spec.x: Invalid value: "string": spec.x in body must be of type integer: "string"',
    ),
    (
        {"type": "string"},
        None,
        'spec.x: Invalid value: "null": spec.x in body must be of type string: "null"',
    ),
    (
        {"x-kubernetes-int-or-string": True},
        1.5,
        'spec.x: Invalid value: "number": spec.x in body must be of type integer,string: "number"',
    ),
    (
        {"type": "integer", "maximum": 10},
        11,
        "spec.x: Invalid value: 11: spec.x in body should be less than or equal to 10",
    ),
    (
        {"type": "number", "minimum": 0.5, "exclusiveMinimum": True},
        0.5,
        "spec.x: Invalid value: 0.5: spec.x in body should be greater than 0.5",
    ),
    (
        {"type": "integer", "multipleOf": 3},
        4,
        "spec.x: Invalid value: 4: spec.x in body should be a multiple of 3",
    ),
    (
        {"type": "string", "pattern": "^a+$"},
        "b",
        "spec.x: Invalid value: \"b\": spec.x in body should match '^a+$'",
    ),
    (
        {"type": "string", "minLength": 2},
        "a",
        'spec.x: Invalid value: "a": spec.x in body should be at least 2 chars long',
    ),
    ({"type": "string", "maxLength": 2}, "abc", "spec.x: Too long: may not be more than 2 bytes"),
    (
        {"type": "string", "enum": ["a", "b"]},
        "c",
        'spec.x: Unsupported value: "c": supported values: "a", "b"',
    ),
    (
        {"type": "string", "format": "ipv4"},
        "1.2.3",
        'spec.x: Invalid value: "1.2.3": spec.x in body must be of type ipv4: "1.2.3"',
    ),
    (
        {"type": "array", "maxItems": 1, "items": {"type": "string"}},
        ["a", "b"],
        "spec.x: Too many: 2: must have at most 1 item",
    ),
    (
        {"type": "array", "minItems": 1, "items": {"type": "string"}},
        [],
        "spec.x: Invalid value: 0: spec.x in body should have at least 1 items",
    ),
    (
        {"type": "array", "items": {"type": "object", "required": ["k"]}},
        [{"k": 1}, {}],
        "spec.x[1].k: Required value",
    ),
    (
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"k": 1},
        'spec.x.k: Invalid value: "integer": spec.x.k in body must be of type string: "integer"',
    ),
    (
        {"type": "string", "not": {"enum": ["a"]}},
        "a",
        '<nil>: Invalid value: "": "spec.x" must not validate the schema (not)',
    ),
]


@pytest.mark.parametrize(("schema", "value", "words"), CASES)
def test_complaints_are_worded_as_upstreams(schema: Any, value: Any, words: str) -> None:
    assert complaints({"x": schema}, {"x": value}) == [words]
    assert complaints({"x": schema}, {}) == []


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer"}, 1.0),
        ({"type": "number"}, 1),
        ({"type": "string", "nullable": True}, None),
        ({"x-kubernetes-int-or-string": True}, "5%"),
        ({"type": "string", "format": "nonsense"}, "anything"),
        ({"type": "string", "format": "date-time"}, "2026-01-02T03:04:05Z"),
        ({"type": "string", "format": "duration"}, "1h30m"),
        ({"type": "string", "format": "duration"}, "3 weeks 1 min"),
        ({"type": "string", "enum": ["é"], "maxLength": 1}, "é"),
        ({"type": "integer", "oneOf": [{"minimum": 5}, {"maximum": 2}]}, 1),
    ],
)
def test_good_values(schema: Any, value: Any) -> None:
    assert complaints({"x": schema}, {"x": value}) == []


def test_junctors_name_what_came_closest() -> None:
    schema = {"x": {"type": "integer", "oneOf": [{"minimum": 5}, {"multipleOf": 2}]}}
    assert complaints(schema, {"x": 3}) == [
        '<nil>: Invalid value: "": "spec.x" must validate one and only one schema (oneOf). '
        "Found none valid",
        "spec.x: Invalid value: 3: spec.x in body should be greater than or equal to 5",
    ]
    assert "Found 2 valid alternatives" in complaints(schema, {"x": 6})[0]


def test_updates_leave_alone_what_was_bad_before() -> None:
    schema = {
        "x": {"type": "string", "enum": ["a"]},
        "l": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"v": {"type": "integer", "maximum": 3}}},
        },
        "m": {"type": "array", "items": {"type": "integer", "maximum": 3}},
    }
    old = {"x": "old", "l": [{"k": "1", "v": 9}, {"k": "2", "v": 9}], "m": [9]}
    assert complaints(schema, {**old, "y": 1}, old) == []
    changed = {"x": "new", "l": [{"k": "2", "v": 9}, {"k": "1", "v": 8}], "m": [9, 1]}
    assert [text.partition(":")[0] for text in complaints(schema, changed, old)] == [
        "spec.x",
        "spec.l[1].v",
        "spec.m[0]",
    ]


def test_a_pattern_that_would_backtrack_is_answered_in_linear_time() -> None:
    began = time.process_time()
    assert complaints({"x": {"type": "string", "pattern": "^(a+)+$"}}, {"x": "a" * 5000 + "b"})
    assert time.process_time() - began < 1


def test_sets_and_keyed_lists_hold_nothing_twice() -> None:
    check = list_checker(
        {
            "properties": {
                "s": {"x-kubernetes-list-type": "set", "items": {"type": "string"}},
                "m": {
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["port", "proto"],
                    "items": {"properties": {"proto": {"default": "TCP"}}},
                },
            }
        }
    )
    assert check is not None
    obj = {"s": ["a", "b", "a"], "m": [{"port": 1}, {"port": 1, "proto": "TCP"}, {"port": 2}]}
    assert [str(cause) for cause in check(obj)] == [
        's[2]: Duplicate value: "a"',
        'm[1]: Duplicate value: {"port":1,"proto":"TCP"}',
    ]
    assert list_checker({"properties": {"a": {"type": "array"}}}) is None


@pytest.mark.parametrize("text", ["1" * 300_000, "1 " * 100_000 + "!", "1.5h" * 50_000 + "x"])
def test_what_is_no_duration_is_told_in_linear_time(text: str) -> None:
    began = time.process_time()
    found = complaints({"x": {"type": "string", "format": "duration"}}, {"x": text})
    assert len(found) == text.endswith(("1", "!"))
    assert time.process_time() - began < 5
