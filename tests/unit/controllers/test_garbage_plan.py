"""What becomes of an object when its owners go, as a table."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.controllers.garbage_plan import Action, Nothing, Remove, Unlink, plan

A = {"uid": "a", "name": "a", "blockOwnerDeletion": True}
B = {"uid": "b", "name": "b"}


@pytest.mark.parametrize(
    ("states", "finalizers", "dependents", "want"),
    [
        ({"a": "solid", "b": "solid"}, [], 0, Nothing()),
        ({"a": "solid", "b": "dangling"}, [], 0, Unlink([A])),
        ({"a": "waiting", "b": "solid"}, [], 3, Unlink([B])),
        ({"a": "dangling", "b": "dangling"}, [], 0, Remove("Background")),
        ({"a": "dangling", "b": "dangling"}, ["orphan"], 2, Remove("Orphan")),
        ({"a": "dangling", "b": "dangling"}, ["foregroundDeletion"], 2, Remove("Foreground")),
        ({"a": "waiting", "b": "dangling"}, [], 2, Remove("Foreground")),
        ({"a": "waiting", "b": "dangling"}, [], 0, Remove("Background")),
    ],
)
def test_fate(states: Any, finalizers: list[str], dependents: int, want: Action) -> None:
    obj = {"metadata": {"ownerReferences": [A, B], "finalizers": finalizers}}
    assert plan(obj, states, False, dependents) == want


def test_a_cycle_in_the_foreground_is_unblocked() -> None:
    obj = {"metadata": {"ownerReferences": [A]}}
    found = plan(obj, {"a": "waiting"}, True, 1)
    assert found == Remove("Foreground", [{"uid": "a", "name": "a"}])


def test_an_object_without_owners_is_let_be() -> None:
    assert plan({"metadata": {}}, {}, False, 0) == Nothing()
