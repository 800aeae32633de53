"""JSON values as Go sees and prints them."""

from __future__ import annotations

from typing import Any

import orjson


def go_json(value: Any) -> str:
    """Compact JSON with sorted keys, as encoding/json writes maps."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def go_number(value: float) -> str:
    """A float64 as Go's %v prints it: 5, 0.5, 1e+21."""
    if isinstance(value, int):
        value = float(value) if abs(value) >= 10**21 else value
        if isinstance(value, int):
            return str(value)
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    digits = repr(value)
    mantissa, mark, exponent = digits.partition("e")
    return f"{mantissa}e{int(exponent):+03d}" if mark else digits


def same(left: Any, right: Any) -> bool:
    """Deep equality of JSON values; true is not 1, and 1 is 1.0."""
    if left is right:
        return True
    kind, other = type(left), type(right)
    if kind is dict and other is dict:
        return len(left) == len(right) and all(
            name in right and same(item, right[name]) for name, item in left.items()
        )
    if kind is list and other is list:
        return len(left) == len(right) and all(map(same, left, right))
    if (kind is bool) != (other is bool):
        return False
    return bool(left == right)
