from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sampan.api.structural.defaults import defaulter
from sampan.api.structural.prune import pruner

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "size": {"type": "integer", "default": 3},
                "maybe": {"type": "string", "nullable": True},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "half": {
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": True,
                    "properties": {"known": {"type": "object", "properties": {"a": {}}}},
                },
                "map": {
                    "type": "object",
                    "additionalProperties": {
                        "type": "object",
                        "properties": {"x": {"type": "integer", "default": 1}},
                    },
                },
                "list": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"x": {"type": "integer"}}},
                },
                "pod": {
                    "type": "object",
                    "x-kubernetes-embedded-resource": True,
                    "properties": {"spec": {"type": "object"}},
                },
            },
        }
    },
}


def prune(spec: Any) -> tuple[Any, list[str]]:
    problems: list[str] = []
    obj = {"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "a"}, "spec": spec}
    kept = pruner(SCHEMA)(obj, None, problems)
    assert kept["metadata"] == {"name": "a"}
    return kept["spec"], problems


def test_a_clean_object_is_returned_itself() -> None:
    obj = {"kind": "K", "spec": {"name": "a", "list": [{"x": 1}], "free": {"q": [1]}}}
    assert pruner(SCHEMA)(obj, None, []) is obj


def test_unknown_fields_go_and_are_named_by_their_paths() -> None:
    spec, problems = prune({"nme": 1, "list": [{"x": 1}, {"y": 2}], "map": {"k": {"z": 1}}})
    assert spec == {"list": [{"x": 1}, {}], "map": {"k": {}}}
    assert sorted(problems) == [
        'unknown field "spec.list[1].y"',
        'unknown field "spec.map.k.z"',
        'unknown field "spec.nme"',
    ]


def test_the_input_is_left_alone() -> None:
    given_obj = {"spec": {"list": [{"y": 2}], "nme": 1}}
    before = copy.deepcopy(given_obj)
    assert pruner(SCHEMA)(given_obj, None, []) == {"spec": {"list": [{}]}}
    assert given_obj == before


def test_what_preserves_unknown_fields_is_pruned_only_where_it_is_described() -> None:
    spec, _ = prune({"free": {"a": {"b": 1}}, "half": {"x": {"y": 1}, "known": {"a": 1, "b": 2}}})
    assert spec == {"free": {"a": {"b": 1}}, "half": {"x": {"y": 1}, "known": {"a": 1}}}


def test_embedded_objects_keep_what_every_object_has() -> None:
    spec, problems = prune({"pod": {"kind": "Pod", "apiVersion": "v1", "metadata": {}, "x": 1}})
    assert spec == {"pod": {"kind": "Pod", "apiVersion": "v1", "metadata": {}}}
    assert problems == ['unknown field "spec.pod.x"']


def test_nulls_stay_only_where_they_may_be_or_stand_for_a_default() -> None:
    spec, problems = prune({"name": None, "size": None, "maybe": None})
    assert spec == {"size": None, "maybe": None}
    assert problems == []


def test_defaults_fill_what_is_absent_or_null() -> None:
    default = defaulter(SCHEMA)
    assert default is not None
    obj: Any = {"spec": {"size": None, "map": {"a": {}, "b": {"x": 2}}}}
    default(obj)
    assert obj == {"spec": {"size": 3, "map": {"a": {"x": 1}, "b": {"x": 2}}}}


def test_a_default_is_never_shared_between_objects() -> None:
    default = defaulter({"properties": {"a": {"type": "object", "default": {"b": []}}}})
    assert default is not None
    one: Any = {}
    two: Any = {}
    default(one)
    default(two)
    one["a"]["b"].append(1)
    assert two == {"a": {"b": []}}


def test_a_schema_without_defaults_walks_nothing() -> None:
    assert defaulter({"properties": {"a": {"type": "string"}, "b": {"items": {}}}}) is None


LEAVES = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a"])
NAMES = st.sampled_from(
    ["name", "size", "maybe", "free", "half", "map", "list", "pod", "x", "known", "spec", "zz"]
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_pruning_twice_is_pruning_once(spec: Any) -> None:
    once, _ = prune(spec)
    twice, problems = prune(once)
    assert twice == once
    assert problems == []


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_defaulting_twice_is_defaulting_once(spec: Any) -> None:
    default = defaulter(SCHEMA)
    assert default is not None
    obj = {"spec": spec}
    default(obj)
    before = copy.deepcopy(obj)
    default(obj)
    assert obj == before
