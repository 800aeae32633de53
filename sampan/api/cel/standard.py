"""The standard functions of CEL, declared: what the checker knows of operators, and what the rest
does. Operators themselves are in `operators`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from . import conversions
from .functions import (
    Functions,
    Overload,
    function,
    method,
    regex_cost,
    size_of,
    table,
    tenth,
    walk_first,
)
from .regexes import compiled
from .times import local
from .types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    NULL,
    STRING,
    TIMESTAMP,
    UINT,
    A,
    B,
    list_of,
    map_of,
    optional_of,
    type_of,
)
from .values import NANOS, Duration, Timestamp

NUMBERS = (INT, UINT, DOUBLE)


def _never(*args: Any) -> Any:
    """Operators are run by the planner, not by their declarations."""
    raise NotImplementedError


def _rows(name: str, *signatures: Sequence[Any]) -> list[tuple[str, Overload]]:
    return [(name, function(item[:-1], item[-1], _never)) for item in signatures]


def _operators() -> list[tuple[str, Overload]]:
    same = [(item, item, item) for item in NUMBERS]
    moments = ((DURATION, DURATION, DURATION), (TIMESTAMP, DURATION, TIMESTAMP))
    rows = _rows(
        "_+_", *same, (STRING, STRING, STRING), (BYTES, BYTES, BYTES),
        (list_of(A), list_of(A), list_of(A)), *moments, (DURATION, TIMESTAMP, TIMESTAMP),
    )  # fmt: skip
    rows += _rows("_-_", *same, *moments, (TIMESTAMP, TIMESTAMP, DURATION))
    rows += _rows("_*_", *same) + _rows("_/_", *same)
    rows += _rows("_%_", (INT, INT, INT), (UINT, UINT, UINT))
    rows += _rows("-_", (INT, INT), (DOUBLE, DOUBLE), (DURATION, DURATION))
    rows += _rows("!_", (BOOL, BOOL))
    for name in ("_&&_", "_||_"):
        rows += _rows(name, (BOOL, BOOL, BOOL))
    for name in ("_==_", "_!=_"):
        rows += _rows(name, (A, A, BOOL), *((a, b, BOOL) for a in NUMBERS for b in NUMBERS))
    for name in ("_<_", "_<=_", "_>_", "_>=_"):
        rows += _rows(
            name, *((a, b, BOOL) for a in NUMBERS for b in NUMBERS),
            *((item, item, BOOL) for item in (BOOL, STRING, BYTES, TIMESTAMP, DURATION)),
        )  # fmt: skip
    rows += _rows("_?_:_", (BOOL, A, A, A))
    rows += _rows("@in", (A, list_of(A), BOOL), (A, map_of(A, B), BOOL))
    rows += _rows(
        "_[_]", (list_of(A), INT, A), (map_of(A, B), A, B),
        (optional_of(list_of(A)), INT, optional_of(A)),
        (optional_of(map_of(A, B)), A, optional_of(B)),
    )  # fmt: skip
    rows += _rows(
        "_[?_]", (list_of(A), INT, optional_of(A)), (map_of(A, B), A, optional_of(B)),
        (optional_of(list_of(A)), INT, optional_of(A)),
        (optional_of(map_of(A, B)), A, optional_of(B)),
    )  # fmt: skip
    return rows


def _conversions() -> list[tuple[str, Overload]]:
    rows: list[tuple[str, Overload]] = []
    for name, result, call, sources in (
        ("int", INT, conversions.to_int, (INT, UINT, DOUBLE, STRING, TIMESTAMP, DURATION)),
        ("uint", UINT, conversions.to_uint, (UINT, INT, DOUBLE, STRING)),
        ("double", DOUBLE, conversions.to_double, (DOUBLE, INT, UINT, STRING)),
        ("bool", BOOL, conversions.to_bool, (BOOL, STRING)),
        ("string", STRING, conversions.to_string,
         (STRING, BOOL, BYTES, DOUBLE, DURATION, INT, TIMESTAMP, UINT)),
        ("bytes", BYTES, conversions.to_bytes, (BYTES, STRING)),
        ("duration", DURATION, conversions.to_duration, (DURATION, INT, STRING)),
        ("timestamp", TIMESTAMP, conversions.to_timestamp, (TIMESTAMP, INT, STRING)),
    ):  # fmt: skip
        for source in sources:
            walks = (source, result) in ((STRING, BYTES), (BYTES, STRING))
            rows.append((name, function((source,), result, call, walk_first if walks else None)))
    rows.append(("dyn", function((A,), DYN, lambda value: value)))
    rows.append(("type", function((A,), type_of(A), conversions.to_type)))
    return rows


def _size() -> list[tuple[str, Overload]]:
    rows = []
    for of in (STRING, BYTES, list_of(A), map_of(A, B)):
        rows.append(("size", function((of,), INT, len)))
        rows.append(("size", method((of,), INT, len)))
    return rows


def _matches(text: str, pattern: str) -> bool:
    # In bytes the library need not work out where the match is.
    return compiled(pattern).search(text.encode()) is not None


def _contains_cost(args: Sequence[Any], result: Any) -> int:
    return tenth(size_of(args[0])) * tenth(size_of(args[1]))


def _matches_cost(args: Sequence[Any], result: Any) -> int:
    return regex_cost(size_of(args[0]), size_of(args[1]))


def _strings() -> list[tuple[str, Overload]]:
    both = (STRING, STRING)
    return [
        ("contains", method(both, BOOL, lambda text, part: part in text, _contains_cost)),
        ("startsWith", method(both, BOOL, str.startswith, walk_first)),
        ("endsWith", method(both, BOOL, str.endswith, walk_first)),
        ("matches", method(both, BOOL, _matches, _matches_cost)),
        ("matches", function(both, BOOL, _matches, _matches_cost)),
    ]


def _part(pick: Any) -> Any:
    def part(moment: Timestamp, zone: str = "UTC") -> int:
        return int(pick(local(moment, zone)))

    return part


def _day_of_year(at: datetime) -> int:
    return at.timetuple().tm_yday - 1


PARTS: dict[str, Any] = {
    "getFullYear": _part(lambda at: at.year),
    "getMonth": _part(lambda at: at.month - 1),
    "getDayOfYear": _part(_day_of_year),
    "getDate": _part(lambda at: at.day),
    "getDayOfMonth": _part(lambda at: at.day - 1),
    "getDayOfWeek": _part(lambda at: at.isoweekday() % 7),
    "getHours": _part(lambda at: at.hour),
    "getMinutes": _part(lambda at: at.minute),
    "getSeconds": _part(lambda at: at.second),
}


def _toward_zero(number: int, unit: int) -> int:
    return -(-number // unit) if number < 0 else number // unit


def _milliseconds_of(moment: Timestamp, zone: str = "UTC") -> int:
    return moment.nanos % NANOS // 1_000_000


def _spans() -> list[tuple[str, Overload]]:
    def counting(unit: int) -> Any:
        def count(span: Duration) -> int:
            return _toward_zero(span.nanos, unit)

        return count

    def milliseconds(span: Duration) -> int:
        return _toward_zero(span.nanos, 1_000_000)

    return [
        ("getHours", method((DURATION,), INT, counting(3600 * NANOS))),
        ("getMinutes", method((DURATION,), INT, counting(60 * NANOS))),
        ("getSeconds", method((DURATION,), INT, counting(NANOS))),
        ("getMilliseconds", method((DURATION,), INT, milliseconds)),
    ]


def _times() -> list[tuple[str, Overload]]:
    rows = []
    for name, call in {**PARTS, "getMilliseconds": _milliseconds_of}.items():
        rows.append((name, method((TIMESTAMP,), INT, call)))
        rows.append((name, method((TIMESTAMP, STRING), INT, call)))
    return rows + _spans()


def standard() -> Functions:
    """All of it."""
    rows = _operators() + _conversions() + _size() + _strings() + _times()
    return table(*rows)


LITERAL_TYPES = {
    bool: BOOL, int: INT, float: DOUBLE, str: STRING, bytes: BYTES, type(None): NULL,
}  # fmt: skip
