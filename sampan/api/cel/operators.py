"""What operators do to values: tables by the types of both sides, so that dispatch is a lookup."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .errors import EvaluationError, no_such_key, no_such_overload
from .values import (
    INT_MAX,
    INT_MIN,
    NONE,
    UINT_MAX,
    Duration,
    Fields,
    ListMap,
    ListSet,
    Optional,
    Timestamp,
    Uint,
    key_of,
    same,
)

Binary = Callable[[Any, Any], Any]
Table = Mapping[tuple[type, type], Binary]


def checked(number: int) -> int:
    if INT_MIN <= number <= INT_MAX:
        return number
    raise EvaluationError("integer overflow")


def checked_uint(number: int) -> Uint:
    if 0 <= number <= UINT_MAX:
        return Uint(number)
    raise EvaluationError("unsigned integer overflow")


def _int_divide(a: int, b: int) -> int:
    if b == 0:
        raise EvaluationError("division by zero")
    quotient = abs(a) // abs(b)
    return checked(-quotient if (a < 0) != (b < 0) else quotient)


def _int_modulo(a: int, b: int) -> int:
    if b == 0:
        raise EvaluationError("modulus by zero")
    rest = abs(a) % abs(b)
    return -rest if a < 0 else rest


def _uint_divide(a: int, b: int) -> Uint:
    if b == 0:
        raise EvaluationError("division by zero")
    return Uint(int(a) // int(b))


def _uint_modulo(a: int, b: int) -> Uint:
    if b == 0:
        raise EvaluationError("modulus by zero")
    return Uint(int(a) % int(b))


def _float_divide(a: float, b: float) -> float:
    if b != 0:
        return a / b
    if a == 0 or a != a:
        return float("nan")
    negative = (a < 0) != (str(b)[0] == "-")
    return float("-inf") if negative else float("inf")


def _add_sets(a: list[Any], b: list[Any]) -> ListSet:
    """Union, in the order they come (KEP-2876)."""
    out = ListSet(a)
    out.extend(item for item in b if not any(same(item, other) for other in a))
    return out


def _add_maps(a: ListMap, b: list[Any]) -> ListMap:
    """Items of the second replace those of the first with the same keys, in their places."""
    places = {key_of(item, a.keys): at for at, item in enumerate(a)}
    out = ListMap(a, a.keys)
    for item in b:
        at = places.get(key_of(item, a.keys))
        if at is None:
            out.append(item)
        else:
            out[at] = item
    return out


def _plain(a: list[Any], b: list[Any]) -> list[Any]:
    return [*a, *b]


_LISTS = (list, ListSet, ListMap)

ADD: Table = {
    (int, int): lambda a, b: checked(a + b),
    (Uint, Uint): lambda a, b: checked_uint(int(a) + int(b)),
    (float, float): lambda a, b: a + b,
    (str, str): lambda a, b: a + b,
    (bytes, bytes): lambda a, b: a + b,
    **{(one, other): _plain for one in _LISTS for other in _LISTS},
    **{(ListSet, other): _add_sets for other in _LISTS},
    **{(ListMap, other): _add_maps for other in _LISTS},
    (Duration, Duration): lambda a, b: Duration(a.nanos + b.nanos),
    (Timestamp, Duration): lambda a, b: Timestamp(a.nanos + b.nanos),
    (Duration, Timestamp): lambda a, b: Timestamp(a.nanos + b.nanos),
}
SUBTRACT: Table = {
    (int, int): lambda a, b: checked(a - b),
    (Uint, Uint): lambda a, b: checked_uint(int(a) - int(b)),
    (float, float): lambda a, b: a - b,
    (Duration, Duration): lambda a, b: Duration(a.nanos - b.nanos),
    (Timestamp, Duration): lambda a, b: Timestamp(a.nanos - b.nanos),
    (Timestamp, Timestamp): lambda a, b: Duration(a.nanos - b.nanos),
}
MULTIPLY: Table = {
    (int, int): lambda a, b: checked(a * b),
    (Uint, Uint): lambda a, b: checked_uint(int(a) * int(b)),
    (float, float): lambda a, b: a * b,
}
DIVIDE: Table = {
    (int, int): _int_divide, (Uint, Uint): _uint_divide, (float, float): _float_divide,
}  # fmt: skip
MODULO: Table = {(int, int): _int_modulo, (Uint, Uint): _uint_modulo}

_NUMBERS = (int, Uint, float)
ORDERED: frozenset[tuple[type, type]] = frozenset(
    {(one, other) for one in _NUMBERS for other in _NUMBERS}
    | {(str, str), (bytes, bytes), (bool, bool)}
)
MOMENTS = frozenset({(Duration, Duration), (Timestamp, Timestamp)})

ARITHMETIC: Mapping[str, Table] = {
    "_+_": ADD, "_-_": SUBTRACT, "_*_": MULTIPLY, "_/_": DIVIDE, "_%_": MODULO,
}  # fmt: skip
COMPARISONS: Mapping[str, Binary] = {
    "_<_": lambda a, b: a < b,
    "_<=_": lambda a, b: a <= b,
    "_>_": lambda a, b: a > b,
    "_>=_": lambda a, b: a >= b,
}


def compare(test: Binary, a: Any, b: Any) -> bool:
    """An ordering of two values."""
    pair = (type(a), type(b))
    if pair in ORDERED:
        return bool(test(a, b))
    if pair in MOMENTS:
        return bool(test(a.nanos, b.nanos))
    raise no_such_overload()


def negate(value: Any) -> Any:
    if type(value) is int:
        return checked(-value)
    if type(value) is float:
        return -value
    if type(value) is Duration:
        return Duration(-value.nanos)
    raise no_such_overload()


def contains(value: Any, where: Any) -> bool:
    """`value in where`."""
    if isinstance(where, list):
        return any(same(value, item) for item in where)
    if isinstance(where, dict):
        key = _key(value)
        return key is not None and key in where
    raise no_such_overload()


def _key(value: Any) -> Any:
    """A map key: whole doubles are the integers they equal."""
    if type(value) is float:
        return int(value) if value.is_integer() else None
    return value if isinstance(value, str | int | bool) else None


def index(where: Any, at: Any) -> Any:
    """`where[at]`."""
    if isinstance(where, list):
        position = _position(at)
        if 0 <= position < len(where):
            return where[position]
        raise EvaluationError(f"index out of bounds: {position}")
    if isinstance(where, dict):
        key = _key(at)
        if key in where:
            return where[key]
        raise no_such_key(at)
    if type(where) is Fields and type(at) is str:
        return where.find(at)
    if type(where) is Optional:
        return Optional(index(where.value, at)) if where.present and _has(where.value, at) else NONE
    raise no_such_overload()


def index_optional(where: Any, at: Any) -> Optional:
    """`where[?at]`."""
    if type(where) is Optional:
        return index_optional(where.value, at) if where.present else NONE
    if not isinstance(where, list | dict):
        raise no_such_overload()
    return Optional(index(where, at)) if _has(where, at) else NONE


def _has(where: Any, at: Any) -> bool:
    if isinstance(where, list):
        return 0 <= _position(at) < len(where)
    return isinstance(where, dict) and _key(at) in where


def _position(at: Any) -> int:
    if type(at) in (int, Uint):
        return int(at)
    if type(at) is float and at.is_integer():
        return int(at)
    raise EvaluationError(f"unsupported index type '{type(at).__name__}' in list")
