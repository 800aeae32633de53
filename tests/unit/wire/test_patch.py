from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.wire.patch import PatchError, json_patch, merge_patch
from sampan.wire.values import without_nulls

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "c", "a/b", "~"]), inner, max_size=3)
    ),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("target", "patch", "want"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a"], {"b": 1}, {"b": 1}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"a": 1}, ["x"], ["x"]),
        ({}, {"a": [{"b": None}]}, {"a": [{}]}),
    ],
)
def test_merge_patch_as_in_rfc_7386(target: Any, patch: Any, want: Any) -> None:
    assert merge_patch(target, patch) == want


def diff(old: Any, new: Any) -> Any:
    """A merge patch from old to new, for objects without nulls."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    out = {name: None for name in old if name not in new}
    for name, value in new.items():
        if name not in old or old[name] != value or type(old[name]) is not type(value):
            out[name] = diff(old.get(name), value)
    return out


@given(JSON, JSON)
def test_merge_patch_reaches_its_target_and_changes_nothing_given(old: Any, new: Any) -> None:
    old, new = without_nulls(old), without_nulls(new)
    patch = diff(old, new)
    kept = copy.deepcopy((old, patch))
    assert merge_patch(old, patch) == new
    assert (old, patch) == kept


def test_what_a_merge_patch_leaves_alone_is_shared() -> None:
    old = {"spec": {"a": [1]}, "status": {}}
    assert merge_patch(old, {"status": {"x": 1}})["spec"] is old["spec"]


GOOD: list[tuple[Any, list[dict[str, Any]], Any]] = [
    ({"a": 1}, [{"op": "add", "path": "/b", "value": 2}], {"a": 1, "b": 2}),
    ({"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2, 3]}),
    ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}], {"a": [1, 2]}),
    ({"a": 1, "b": 2}, [{"op": "remove", "path": "/a"}], {"b": 2}),
    ({"a": [1, 2]}, [{"op": "replace", "path": "/a/0", "value": None}], {"a": [None, 2]}),
    (
        {"a": {"x": 1}, "b": {}},
        [{"op": "move", "from": "/a/x", "path": "/b/y"}],
        {"a": {}, "b": {"y": 1}},
    ),
    ({"a": {"x": 1}}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": {"x": 1}, "b": {"x": 1}}),
    ({"a": 1}, [{"op": "test", "path": "/a", "value": 1}], {"a": 1}),
    ({}, [{"op": "test", "path": "/a", "value": None}], {}),
    ({"a/b": 1}, [{"op": "remove", "path": "/a~1b"}], {}),
    ({"m~n": 2}, [{"op": "remove", "path": "/m~0n"}], {}),
    ({"a": 1}, [{"op": "replace", "path": "", "value": [1]}], [1]),
    ({}, [{"op": "replace", "path": "/a", "value": 1}], {"a": 1}),
    ({}, [{"op": "copy", "from": "/a", "path": "/b"}], {"b": None}),
    ({"a": [1]}, [{"op": "add", "path": "/a/-1", "value": 2}], {"a": [1, 2]}),
    ({"a": [1, 2]}, [{"op": "remove", "path": "/a/-1"}], {"a": [1]}),
]  # fmt: skip


@pytest.mark.parametrize(("obj", "operations", "want"), GOOD)
def test_json_patch(obj: Any, operations: list[dict[str, Any]], want: Any) -> None:
    before = copy.deepcopy(obj)
    assert json_patch(obj, operations) == want
    assert obj == before


BAD: list[tuple[Any, Any, int, str]] = [
    ({}, {}, 400, "json: cannot unmarshal object into Go value of type jsonpatch.Patch"),
    ({}, [1], 400, "json: cannot unmarshal number into Go value of type jsonpatch.Operation"),
    (
        {},
        [{"op": "remove", "path": "/a"}],
        422,
        "error in remove for path: '/a': Unable to remove nonexistent key: a: missing value",
    ),
    (
        {},
        [{"op": "replace", "path": "/a/b", "value": 1}],
        422,
        "replace operation does not apply: doc is missing path: /a/b: missing value",
    ),
    (
        {"a": [1]},
        [{"op": "replace", "path": "/a/1", "value": 1}],
        422,
        "replace operation does not apply: doc is missing key: /a/1: missing value",
    ),
    (
        {"a": 1},
        [{"op": "test", "path": "/a", "value": True}],
        422,
        "testing value /a failed: test failed",
    ),
    (
        {"a": [1]},
        [{"op": "add", "path": "/a/5", "value": 1}],
        422,
        "error in add for path: '/a/5': Unable to access invalid index: 5: invalid index "
        "referenced",
    ),
    (
        {"a": [1]},
        [{"op": "add", "path": "/a/x", "value": 1}],
        422,
        "error in add for path: '/a/x': value was not a proper array index: 'x': strconv.Atoi: "
        'parsing "x": invalid syntax',
    ),
    ({}, [{"op": "jump", "path": "/a"}], 422, "Unexpected kind: jump"),
    ({}, [{"op": "add", "value": 1}], 422, "add operation failed to decode path: missing value"),
    (
        {"a": {}},
        [{"op": "move", "from": "/a", "path": "/a/b"}],
        422,
        "move operation does not apply: doc is missing destination path: /a/b: missing value",
    ),
    (
        {},
        [{"op": "add", "path": "/a", "value": 1}] * 10_001,
        413,
        "The allowed maximum operations in a JSON patch is 10000, got 10001",
    ),
]


@pytest.mark.parametrize(("obj", "operations", "code", "message"), BAD)
def test_json_patch_complaints(obj: Any, operations: Any, code: int, message: str) -> None:
    with pytest.raises(PatchError) as caught:
        json_patch(obj, operations)
    assert (caught.value.code, caught.value.message) == (code, message)


def test_copies_cannot_double_without_end() -> None:
    operations = [{"op": "copy", "from": "/a", "path": f"/a/{i}"} for i in range(40)]
    with pytest.raises(PatchError, match="accumulated size increase of copy") as caught:
        json_patch({"a": {"x": "y" * 1000}}, operations)
    assert caught.value.code == 413


OPERATIONS = st.lists(
    st.fixed_dictionaries(
        {
            "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]),
            "path": st.sampled_from(["", "/a", "/a/b", "/a/0", "/b/-", "/c/1", "x"]),
        },
        optional={"value": JSON, "from": st.sampled_from(["/a", "/b/0", "/c"])},
    ),
    max_size=4,
)


@given(JSON, OPERATIONS)
def test_any_json_patch_applies_or_complains(obj: Any, operations: Any) -> None:
    before = copy.deepcopy(obj)
    try:
        json_patch(obj, operations)
    except PatchError:
        pass
    assert obj == before


def containers(value: Any) -> set[int]:
    """The identities of every dict and list in a value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = {id(value)} if isinstance(value, dict | list) else set()
    return own.union(*map(containers, inner))


@given(JSON, JSON, OPERATIONS)
def test_a_result_shares_nothing_with_the_patch(obj: Any, patch: Any, operations: Any) -> None:
    assert not containers(merge_patch(obj, patch)) & containers(patch)
    try:
        got = json_patch(obj, operations)
    except PatchError:
        return
    assert not containers(got) & containers(operations)


def test_a_copied_value_is_its_own() -> None:
    got = json_patch({"a": {"x": []}}, [{"op": "copy", "from": "/a", "path": "/b"}])
    assert got["a"] is not got["b"]
    assert got["a"]["x"] is not got["b"]["x"]
