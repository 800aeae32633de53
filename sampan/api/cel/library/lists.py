"""Lists (Kubernetes' isSorted, sum, min, max, indexOf) and sets (cel-go ext.Sets)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from ..errors import EvaluationError
from ..functions import Functions, elements_first, function, method, table, weight
from ..operators import ADD, COMPARISONS, compare
from ..types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    INT,
    STRING,
    TIMESTAMP,
    UINT,
    A,
    list_of,
)
from ..values import Duration, Uint, same

ORDERED = (INT, UINT, DOUBLE, BOOL, DURATION, TIMESTAMP, STRING, BYTES)
LESS = COMPARISONS["_<_"]


def _is_sorted(items: list[Any]) -> bool:
    return not any(compare(LESS, later, item) for item, later in pairwise(items))


def _extreme(name: str, later_wins: Any) -> Any:
    def pick(items: list[Any]) -> Any:
        if not items:
            raise EvaluationError(f"{name} called on empty list")
        best = items[0]
        for item in items[1:]:
            if later_wins(best, item):
                best = item
        return best

    return pick


def _sum(zero: Any) -> Any:
    def add(items: list[Any]) -> Any:
        total = zero
        for item in items:
            call = ADD.get((type(total), type(item)))
            if call is None:
                raise EvaluationError("no such overload")
            total = call(total, item)
        return total

    return add


def _index_of(items: list[Any], value: Any) -> int:
    return next((at for at, item in enumerate(items) if same(item, value)), -1)


def _last_index_of(items: list[Any], value: Any) -> int:
    for at in range(len(items) - 1, -1, -1):
        if same(items[at], value):
            return at
    return -1


def _contains(whole: list[Any], part: list[Any]) -> bool:
    return all(any(same(item, other) for other in whole) for item in part)


def _equivalent(one: list[Any], other: list[Any]) -> bool:
    return _contains(one, other) and _contains(other, one)


def _intersects(one: list[Any], other: list[Any]) -> bool:
    return any(same(item, second) for item in one for second in other)


def _elements(items: list[Any]) -> int:
    """Elements, each as heavy as it is if it is a list or map itself."""
    return sum(weight(item) if isinstance(item, list | dict) else 1 for item in items)


def _searching(args: Sequence[Any], result: Any) -> int:
    return _elements(args[0])


def _product(args: Sequence[Any], result: Any) -> int:
    return 1 + _elements(args[0]) * _elements(args[1])


def _two_products(args: Sequence[Any], result: Any) -> int:
    return 1 + 2 * _elements(args[0]) * _elements(args[1])


def functions() -> Functions:
    """The declarations."""
    rows: list[Any] = []
    for of in ORDERED:
        for name, result, call in (
            ("isSorted", BOOL, _is_sorted),
            ("min", of, _extreme("min", lambda best, item: compare(LESS, item, best))),
            ("max", of, _extreme("max", lambda best, item: compare(LESS, best, item))),
        ):
            rows.append((name, method((list_of(of),), result, call, elements_first)))
    for of, zero in ((INT, 0), (UINT, Uint(0)), (DOUBLE, 0.0), (DURATION, Duration(0))):
        rows.append(("sum", method((list_of(of),), of, _sum(zero), elements_first)))
    either = (list_of(A), A)
    both = (list_of(A), list_of(A))
    return table(
        *rows,
        ("indexOf", method(either, INT, _index_of, _searching)),
        ("lastIndexOf", method(either, INT, _last_index_of, _searching)),
        ("sets.contains", function(both, BOOL, _contains, _product)),
        ("sets.equivalent", function(both, BOOL, _equivalent, _two_products)),
        ("sets.intersects", function(both, BOOL, _intersects, _product)),
    )
