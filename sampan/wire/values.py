"""JSON values: equality as JSON has it, and copies that share nothing."""

from __future__ import annotations

from typing import Any

Value = Any


def same(left: Value, right: Value) -> bool:
    """JSON equality: unlike Python's, true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def fresh(value: Value) -> Value:
    """A deep copy. What a patch puts into an object must be the object's own: whoever defaults it
    changes it in place, and the patch may be applied again."""
    if type(value) is dict:
        return {name: fresh(item) for name, item in value.items()}
    if type(value) is list:
        return [fresh(item) for item in value]
    return value


def without_nulls(value: Value) -> Value:
    """A deep copy without the nulls of its maps."""
    if type(value) is dict:
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    if type(value) is list:
        return [without_nulls(item) for item in value]
    return value
