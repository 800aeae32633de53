"""The algebra of sets of fields, held against sets of paths."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sampan.server.ownership.fieldsets import (
    FieldSet,
    Path,
    common,
    intern_set,
    is_readable,
    minus,
    minus_below,
    path_text,
    paths,
    union,
)
from tests.kit.fieldsets import of_paths

NAMES = ("f:a", "f:b", 'k:{"name":"a"}', 'v:"x"')
SETS = st.sets(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map(tuple), max_size=8)


def naive(fields: FieldSet) -> set[Path]:
    return set(paths(fields))


@given(SETS)
def test_a_set_is_its_paths(left: set[Path]) -> None:
    assert naive(of_paths(left)) == left
    assert is_readable(of_paths(left))


@given(SETS, SETS)
def test_union(left: set[Path], right: set[Path]) -> None:
    one, other = of_paths(left), of_paths(right)
    result = union(one, other)
    assert naive(result) == left | right
    assert result == of_paths(left | right)
    assert (result is one) == (right <= left)


@given(SETS, SETS)
def test_minus_takes_members_and_leaves_what_is_below(left: set[Path], right: set[Path]) -> None:
    one, other = of_paths(left), of_paths(right)
    result = minus(one, other)
    assert naive(result) == left - right
    assert result == of_paths(left - right)
    assert (result is one) == (not left & right)


@given(SETS, SETS)
def test_minus_below_takes_everything_under_a_member(left: set[Path], right: set[Path]) -> None:
    result = minus_below(of_paths(left), of_paths(right))
    kept = {path for path in left if not any(path[: len(gone)] == gone for gone in right)}
    assert result == of_paths(kept)


@given(SETS, SETS)
def test_common(left: set[Path], right: set[Path]) -> None:
    result = common(of_paths(left), of_paths(right))
    assert result == of_paths(left & right)


@given(SETS, SETS)
def test_operands_stay_as_they_are(left: set[Path], right: set[Path]) -> None:
    one, other = of_paths(left), of_paths(right)
    for operation in (union, minus, minus_below, common):
        operation(one, other)
    assert (one, other) == (of_paths(left), of_paths(right))


def test_equal_sets_are_one_set() -> None:
    assert intern_set({"f:interned": {"f:b": {}}}) is intern_set({"f:interned": {"f:b": {}}})


def test_paths_read_as_upstream_prints_them() -> None:
    path = ("f:spec", "f:ports", 'k:{"port":80,"protocol":"TCP"}', "f:name")
    assert path_text(path) == '.spec.ports[port=80,protocol="TCP"].name'
    assert path_text(("f:metadata", "f:finalizers", 'v:"a"')) == '.metadata.finalizers[="a"]'


def test_what_is_no_set_is_told() -> None:
    for value in ([], {"x": {}}, {"k:{": {}}, {"f:a": 1}, {"k:[]": {}}, {"i:x": {}}):
        assert not is_readable(value)
    deep: FieldSet = {}
    for _ in range(200):
        deep = {"f:a": deep}
    assert not is_readable(deep)
