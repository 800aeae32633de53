"""Plans: comparing, merging and pruning by a schema, held against a plain reading of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api.descriptor import Structure
from sampan.server.ownership.fieldsets import paths
from sampan.server.ownership.lists import merge_lists
from sampan.server.ownership.nodes import Fields, Untrackable
from sampan.server.ownership.plans import custom_plan, definition_plan
from sampan.server.ownership.remembered import KNOWN, Remembered
from tests.kit.fieldsets import of_paths

SPEC = {
    "type": "object",
    "properties": {
        "count": {"type": "integer"},
        "inner": {"type": "object", "properties": {"x": {"type": "string"}}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "whole": {
            "type": "object",
            "x-kubernetes-map-type": "atomic",
            "properties": {"x": {"type": "string"}},
        },
        "list": {"type": "array", "items": {"type": "string"}},
        "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "items": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "value": {"type": "integer"}},
            },
        },
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}
PLAN = custom_plan({"type": "object", "properties": {"spec": SPEC}})

TEXT = st.sampled_from(["a", "b"])
NAMES = {"name": st.sampled_from(["p", "q", "r"])}
ITEMS = st.lists(
    st.fixed_dictionaries(NAMES, optional={"value": st.integers(0, 1)}),
    max_size=3,
    unique_by=lambda item: item["name"],
)  # fmt: skip
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "count": st.integers(0, 1),
        "inner": st.fixed_dictionaries({}, optional={"x": TEXT}),
        "labels": st.dictionaries(TEXT, TEXT, max_size=2),
        "whole": st.fixed_dictionaries({}, optional={"x": TEXT}),
        "list": st.lists(TEXT, max_size=2),
        "set": st.lists(TEXT, max_size=2, unique=True),
        "items": ITEMS,
        "free": st.dictionaries(TEXT, st.one_of(TEXT, st.dictionaries(TEXT, TEXT)), max_size=2),
    },
)


def leaf(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if name[:2] == "f:":
            value = value[name[2:]]
        elif name[:2] == "k:":
            value = next(item for item in value if f'k:{{"name":"{item["name"]}"}}' == name)
        else:
            return name
    return value


def is_whole(value: Any, path: tuple[str, ...]) -> bool:
    """Is it a leaf: nothing below it is owned on its own?"""
    return path[-1] in ("f:whole", "f:list") or not isinstance(value, dict | list) or not value


def is_changed(old: Any, new: Any, path: tuple[str, ...]) -> bool:
    if old == new:
        return False
    return type(old) is not type(new) or (is_whole(old, path) and is_whole(new, path))


@given(VALUES, VALUES)
def test_a_difference_is_what_comes_changes_and_goes(old: Any, new: Any) -> None:
    one, other = {"spec": old}, {"spec": new}
    changed, removed = PLAN.diff(one, other) if one != other else (None, None)
    before = set(paths(PLAN.diff({"spec": {}}, one)[0] or {})) if old else set()
    after = set(paths(PLAN.diff({"spec": {}}, other)[0] or {})) if new else set()
    both = {path for path in before & after if is_changed(leaf(one, path), leaf(other, path), path)}
    assert (changed or {}) == of_paths(after - before | both)
    assert (removed or {}) == of_paths(before - after)


@given(VALUES, VALUES)
def test_a_merge_has_all_of_the_configuration(old: Any, new: Any) -> None:
    one, other = {"spec": old}, {"spec": new}
    copy = repr(one)
    merged = PLAN.merge(one, other)
    assert repr(one) == copy
    wanted = PLAN.owned(other) or {}
    for path in paths(wanted):
        assert path in set(paths(PLAN.diff({}, merged)[0] or {})) or not leaf(merged, path)
        if is_whole(leaf(other, path), path) and leaf(other, path):
            assert leaf(merged, path) == leaf(other, path)


@given(VALUES, VALUES)
def test_what_is_pruned_is_what_was_applied_and_is_no_more(last: Any, now: Any) -> None:
    applied = {"spec": last}
    owned = PLAN.owned(applied) or {}
    held = PLAN.owned({"spec": now}) or {}
    merged = PLAN.merge(applied, {"spec": now})
    pruned = PLAN.prune(merged, owned, held)
    left = PLAN.owned(pruned) or {} if isinstance(pruned, dict) else {}
    assert set(paths(left)) <= set(paths(held))
    whole = {path for path in paths(held) if is_whole(leaf(merged, path), path)}
    assert {path for path in whole if leaf(merged, path)} <= set(paths(left))


def test_structs_that_are_always_there_are_not_owned() -> None:
    plan = definition_plan("io.k8s.api.apps.v1.Deployment")
    template = {"spec": {"containers": [{"name": "a"}]}}
    fields, _ = plan.diff({}, {"spec": {"strategy": {"rollingUpdate": {"maxSurge": 1}},
                                        "template": template}})  # fmt: skip
    assert fields == {
        "f:spec": {
            "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}},
            "f:template": {
                "f:spec": {
                    "f:containers": {'k:{"name":"a"}': {".": {}, "f:name": {}, "f:resources": {}}}
                }
            },
        }
    }
    plan = definition_plan("io.k8s.api.core.v1.ReplicationController")
    fields, _ = plan.diff({}, {"spec": {"template": {"spec": {"hostPID": True, "containers": []}}}})
    assert fields == {
        "f:spec": {
            "f:template": {
                ".": {},
                "f:metadata": {},
                "f:spec": {".": {}, "f:hostPID": {}, "f:containers": {}},
            }
        }
    }


def test_what_comes_twice_is_owned_as_a_whole() -> None:
    once, twice = {"name": "p", "value": 1}, {"name": "p", "value": 2}

    def diff(old: list[Any], new: list[Any]) -> Any:
        return PLAN.diff({"spec": {"items": old}}, {"spec": {"items": new}})

    whole = {"f:spec": {"f:items": {'k:{"name":"p"}': {}}}}
    parts = {"f:spec": {"f:items": {'k:{"name":"p"}': {".": {}, "f:name": {}, "f:value": {}}}}}
    assert diff([once], [once, twice]) == (whole, parts)
    assert diff([once, twice], [once]) == (parts, whole)
    assert diff([once, twice], [twice, once]) == (whole, None)
    with pytest.raises(Untrackable, match='omits all key fields \\["name"\\]'):
        diff([], [{"value": 1}])


@pytest.mark.parametrize(
    ("old", "new", "merged"),
    [
        ("abc", "d", "abcd"),
        ("abc", "b", "abc"),
        ("abc", "cb", "acb"),
        ("abc", "xay", "xabcy"),
        ("abc", "axc", "abxc"),
        ("", "ab", "ab"),
        ("abcd", "da", "bcda"),
    ],
)
def test_lists_merge_in_the_order_of_the_configuration(old: str, new: str, merged: str) -> None:
    result = merge_lists(list(old), list(new), str, lambda before, item: item)
    assert "".join(result) == merged


def test_a_plan_lives_as_long_as_its_structure() -> None:
    structure = Structure({"type": "object"}, lambda value, strict, duplicates: value)
    assert structure != Structure(structure.schema, structure.decode)


def test_what_is_remembered_of_a_pod_is_what_would_be_found() -> None:
    plan = definition_plan("io.k8s.api.core.v1.Pod")
    spec = plan.child("spec").node
    assert isinstance(spec, Remembered)
    for image in ("a", "b", "a"):
        new = {"containers": [{"name": "c", "image": image, "env": [{"name": image}]}]}
        assert spec.diff({}, new) == Fields.diff(spec, {}, new)
        # From something the difference is its own.
        assert spec.diff(new, {"containers": []}) == Fields.diff(spec, new, {"containers": []})
    first = spec.diff({}, {"nodeName": "a"})
    assert spec.diff({}, {"nodeName": "a"}) is first
    for number in range(KNOWN):
        spec.diff({}, {"nodeName": f"n{number}"})
    assert spec.diff({}, {"nodeName": "a"}) is not first
