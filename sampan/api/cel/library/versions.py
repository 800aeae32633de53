"""Quantities and semantic versions (library quantity.go, semverlib.go)."""

from __future__ import annotations

import re
from functools import total_ordering
from typing import Any

from sampan.wire.quantity import NANO, QuantityError, parse

from ..errors import EvaluationError
from ..functions import Functions, function, method, table, walk_first
from ..types import BOOL, DOUBLE, INT, STRING, Type
from ..values import INT_MAX, INT_MIN, Opaque

QUANTITY, SEMVER = Type("kubernetes.Quantity"), Type("kubernetes.Semver")
MAX_SEMVER = 256
"""Characters of a version: longer ones are nobody's."""
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?"
)


class Amount(Opaque):
    """A quantity, in billionths."""

    __slots__ = ("nanos",)
    type_name = QUANTITY.name

    def __init__(self, nanos: int) -> None:
        self.nanos = nanos

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Amount) and self.nanos == other.nanos

    def __hash__(self) -> int:
        return hash(self.nanos)


@total_ordering
class Version(Opaque):
    """A semantic version; what follows + does not count."""

    __slots__ = ("key", "numbers")
    type_name = SEMVER.name

    def __init__(self, numbers: tuple[int, int, int], before: str | None) -> None:
        self.numbers = numbers
        # A version without a pre-release comes after those with one; numbers before words.
        parts = tuple(
            (0, int(part), "") if part.isdecimal() else (1, 0, part)
            for part in (before.split(".") if before else ())
        )
        self.key = (numbers, not parts, parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self.key == other.key

    def __lt__(self, other: Version) -> bool:
        return self.key < other.key

    def __hash__(self) -> int:
        return hash(self.key)


def to_quantity(text: str) -> Amount:
    """The quantity of a text. Raises EvaluationError."""
    try:
        return Amount(parse(text).nanos)
    except QuantityError as error:
        raise EvaluationError(str(error)) from None


def _is_quantity(text: str) -> bool:
    try:
        parse(text)
    except QuantityError:
        return False
    return True


def _is_integer(amount: Amount) -> bool:
    whole, rest = divmod(amount.nanos, NANO)
    return rest == 0 and INT_MIN <= whole <= INT_MAX


def _as_integer(amount: Amount) -> int:
    if not _is_integer(amount):
        raise EvaluationError("cannot convert value to integer")
    return amount.nanos // NANO


def _other(value: Amount | int) -> int:
    return value.nanos if isinstance(value, Amount) else value * NANO


def _add(amount: Amount, other: Amount | int) -> Amount:
    return Amount(amount.nanos + _other(other))


def _sub(amount: Amount, other: Amount | int) -> Amount:
    return Amount(amount.nanos - _other(other))


def _order(one: Any, other: Any) -> int:
    return int(one > other) - int(one < other)


def _compare_amounts(one: Amount, other: Amount) -> int:
    return _order(one.nanos, other.nanos)


def to_semver(text: str, normalize: bool = False) -> Version:
    if normalize:
        text = _normal(text)
    found = _SEMVER.fullmatch(text) if len(text) <= MAX_SEMVER else None
    if found is None:
        why = "No Major.Minor.Patch elements found" if text.count(".") < 2 else "invalid version"
        raise EvaluationError(why)
    return Version((int(found[1]), int(found[2]), int(found[3])), found[4])


def _normal(text: str) -> str:
    """Without v and leading zeros, with minor and patch."""
    parts = text[:MAX_SEMVER].removeprefix("v").split(".", 2)
    for at, part in enumerate(parts):
        if len(part) > 1:
            stripped = part.lstrip("0")
            parts[at] = stripped if stripped[:1].isdecimal() else f"0{stripped}"
    if len(parts) < 3 and any(mark in parts[-1] for mark in "+-"):
        raise EvaluationError("short version cannot contain PreRelease/Build meta data")
    return ".".join([*parts, "0", "0"][: max(3, len(parts))])


def _is_semver(text: str, normalize: bool = False) -> bool:
    try:
        to_semver(text, normalize)
    except EvaluationError:
        return False
    return True


def _amounts() -> list[Any]:
    amount = (QUANTITY, QUANTITY)
    rows = [
        ("quantity", function((STRING,), QUANTITY, to_quantity, walk_first)),
        ("isQuantity", function((STRING,), BOOL, _is_quantity, walk_first)),
        ("sign", method((QUANTITY,), INT, lambda item: _order(item.nanos, 0))),
        ("isInteger", method((QUANTITY,), BOOL, _is_integer)),
        ("asInteger", method((QUANTITY,), INT, _as_integer)),
        ("asApproximateFloat", method((QUANTITY,), DOUBLE, lambda item: item.nanos / NANO)),
        ("isLessThan", method(amount, BOOL, lambda a, b: a.nanos < b.nanos)),
        ("isGreaterThan", method(amount, BOOL, lambda a, b: a.nanos > b.nanos)),
        ("compareTo", method(amount, INT, _compare_amounts)),
    ]
    for other in (QUANTITY, INT):
        rows.append(("add", method((QUANTITY, other), QUANTITY, _add)))
        rows.append(("sub", method((QUANTITY, other), QUANTITY, _sub)))
    return rows


def functions() -> Functions:
    """The declarations."""
    version = (SEMVER, SEMVER)
    rows = [
        ("isLessThan", method(version, BOOL, lambda a, b: a < b)),
        ("isGreaterThan", method(version, BOOL, lambda a, b: a > b)),
        ("compareTo", method(version, INT, _order)),
        ("major", method((SEMVER,), INT, lambda item: item.numbers[0])),
        ("minor", method((SEMVER,), INT, lambda item: item.numbers[1])),
        ("patch", method((SEMVER,), INT, lambda item: item.numbers[2])),
    ]
    for params in ((STRING,), (STRING, BOOL)):
        rows.append(("semver", function(params, SEMVER, to_semver, walk_first)))
        rows.append(("isSemver", function(params, BOOL, _is_semver, walk_first)))
    return table(*_amounts(), *rows)
