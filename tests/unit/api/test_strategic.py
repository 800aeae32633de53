from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api.schema import definition_of, merge_info, strategic_patch
from sampan.wire.patch import PatchError

POD = definition_of("", "v1", "Pod")
DEPLOYMENT = definition_of("apps", "v1", "Deployment")


def spec(*containers: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": list(containers), **fields}}


A_IS_TRUE = {"type": "A", "status": "True"}
CASES: list[tuple[str, str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    (
        "containers merge by name, new ones come first as the patch says",
        POD,
        spec({"name": "a", "image": "1"}, {"name": "b", "image": "1"}),
        spec({"name": "c", "image": "1"}, {"name": "a", "image": "2"}),
        spec({"name": "c", "image": "1"}, {"name": "a", "image": "2"}, {"name": "b", "image": "1"}),
    ),
    (
        "an element is deleted by its key",
        POD,
        spec({"name": "a"}, {"name": "b"}),
        spec({"name": "a", "$patch": "delete"}),
        spec({"name": "b"}),
    ),
    (
        "a list is replaced",
        POD,
        spec({"name": "a"}, {"name": "b"}),
        spec({"name": "c"}, {"$patch": "replace"}),
        spec({"name": "c"}),
    ),
    (
        "a map is replaced, null deletes",
        POD,
        {"metadata": {"labels": {"a": "1"}, "annotations": {"x": "1", "y": "2"}}},
        {"metadata": {"labels": {"$patch": "replace", "b": "2"}, "annotations": {"x": None}}},
        {"metadata": {"labels": {"b": "2"}, "annotations": {"y": "2"}}},
    ),
    (
        "atomic lists are replaced",
        POD,
        spec({"name": "a", "command": ["x", "y"]}, tolerations=[{"key": "a"}]),
        spec({"name": "a", "command": ["z"]}, tolerations=[{"key": "b"}]),
        spec({"name": "a", "command": ["z"]}, tolerations=[{"key": "b"}]),
    ),
    (
        "sets of strings merge, and lose what they are told to",
        POD,
        {"metadata": {"finalizers": ["a", "b"]}},
        {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}},
        {"metadata": {"finalizers": ["c", "b"]}},
    ),
    (
        "the order is set, the server's own kept in place",
        POD,
        spec({"name": "a"}, {"name": "x"}, {"name": "b"}),
        {
            "spec": {
                "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
                "containers": [{"name": "b", "image": "2"}],
            }
        },
        spec({"name": "x"}, {"name": "b", "image": "2"}, {"name": "a"}),
    ),
    (
        "only the keys to retain stay",
        DEPLOYMENT,
        {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}},
        {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}},
        {"spec": {"strategy": {"type": "Recreate"}}},
    ),
    (
        "ports merge by containerPort, nested in containers",
        POD,
        spec({"name": "a", "ports": [{"containerPort": 80, "name": "x"}, {"containerPort": 81}]}),
        spec({"name": "a", "ports": [{"containerPort": 80, "name": "y"}]}),
        spec({"name": "a", "ports": [{"containerPort": 80, "name": "y"}, {"containerPort": 81}]}),
    ),
    (
        "volumes drop their old source",
        POD,
        spec(volumes=[{"name": "v", "emptyDir": {}}]),
        spec(
            volumes=[
                {"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}
            ]
        ),
        spec(volumes=[{"name": "v", "hostPath": {"path": "/"}}]),
    ),
    (
        "conditions merge by type",
        POD,
        {"status": {"conditions": [A_IS_TRUE, {"type": "B", "status": "True"}]}},
        {"status": {"conditions": [{"type": "B", "status": "False"}]}},
        {"status": {"conditions": [A_IS_TRUE, {"type": "B", "status": "False"}]}},
    ),
    (
        "a new value loses nulls and directives",
        POD,
        {},
        {"spec": {"containers": [{"name": "a", "tty": None}, {"name": "b", "$patch": "delete"}]}},
        {"spec": {"containers": [{"name": "a"}]}},
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("definition", "original", "patch", "want"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_strategic_merge(definition: str, original: Any, patch: Any, want: Any) -> None:
    kept = copy.deepcopy((original, patch))
    assert strategic_patch(original, patch, definition) == want
    assert (original, patch) == kept


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        (spec({"image": "x"}), "does not contain declared merge key: name"),
        (spec({"name": "a", "$patch": "turn"}), "unknown patch type: turn"),
        ({"metadata": {"$patch": "merge"}}, "unknown patch type: merge"),
        ({"spec": {"$retainKeys": "x"}}, "invalid patch format of retainKeys"),
        ({"spec": {"$setElementOrder/containers": 1}}, "invalid patch format of setElementOrder"),
        ({"spec": {"$deleteFromPrimitiveList/x": 1}}, "invalid patch format of primitive list"),
        (
            {"spec": {"$setElementOrder/containers": [], "containers": [{"name": "a"}]}},
            "doesn't match",
        ),
        ({"spec": {"containers": [1]}}, "list element types are not identical"),
        ([], "invalid JSON document"),
    ],
)
def test_senseless_patches(patch: Any, message: str) -> None:
    with pytest.raises(PatchError, match=message):
        strategic_patch({"metadata": {}, **spec({"name": "a"})}, patch, POD)


def test_what_is_untouched_is_shared() -> None:
    original = {"metadata": {"name": "a"}, **spec({"name": "a"}, {"name": "b"})}
    got = strategic_patch(original, spec({"name": "a", "image": "x"}), POD)
    assert got["metadata"] is original["metadata"]
    assert got["spec"]["containers"][1] is original["spec"]["containers"][1]


def test_merge_info() -> None:
    found = merge_info(POD, "spec", "containers", "ports")
    assert found is not None
    assert (found.strategy, found.key) == ("merge", "containerPort")
    assert merge_info(POD, "spec", "nope") is None


NAMES = st.sampled_from("abcd")
CONTAINERS = st.lists(
    st.fixed_dictionaries({"name": NAMES}, optional={"image": NAMES}),
    unique_by=lambda item: item["name"],
    max_size=4,
)


@given(CONTAINERS, CONTAINERS)
def test_merging_lists_by_key(current: list[dict[str, str]], items: list[dict[str, str]]) -> None:
    got = strategic_patch(spec(*current), spec(*items), POD)["spec"]["containers"]
    merged = {item["name"]: item for item in current}
    for item in items:
        merged[item["name"]] = merged.get(item["name"], {}) | item
    assert {item["name"]: item for item in got} == merged
    assert len(got) == len(merged)
    order = [item["name"] for item in got if item["name"] in {item["name"] for item in items}]
    assert order == [item["name"] for item in items]
    again = strategic_patch(spec(*got), spec(*items), POD)["spec"]["containers"]
    assert again == got


FIELDS = st.sampled_from(
    ["metadata", "spec", "containers", "name", "labels", "finalizers", "ports", "containerPort",
     "$patch", "$retainKeys", "$setElementOrder/containers", "$deleteFromPrimitiveList/finalizers",
     "$setElementOrder/finalizers", "tolerations", "unknown"]
)  # fmt: skip
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(0, 2)
    | st.sampled_from(["a", "b", "delete", "replace"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=14,
)
OBJECTS = st.dictionaries(FIELDS, VALUES, max_size=3)


@given(OBJECTS, VALUES)
def test_any_patch_applies_or_complains(original: dict[str, Any], patch: Any) -> None:
    kept = copy.deepcopy((original, patch))
    try:
        strategic_patch(original, patch, POD)
    except PatchError:
        pass
    assert (original, patch) == kept
