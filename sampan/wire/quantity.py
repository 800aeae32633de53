"""Resource quantities ("100m", "1.5Gi", "2e3"), exact, as k8s.io/apimachinery api/resource.

A quantity is an integer number of billionths (nano) and the format its text had, so sums and
comparisons never round. Anything finer than a billionth is rounded away from zero, and values are
capped at 2**63-1, as upstream does.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

NANO = 10**9
MILLI = 10**6
"""Billionths in a thousandth."""
MAX_NANOS = (2**63 - 1) * NANO
MAX_DIGITS = 1000
"""More than any value needs; longer texts would cost time that grows with their square."""
MAX_EXACT_DIGITS = 18
"""Digits upstream keeps in an int64; longer numbers take its slow path."""
CACHED_TEXTS = 8192
"""Distinct texts remembered: clusters use the same few hundred; older ones are parsed again."""

DECIMAL, BINARY, EXPONENT = "DecimalSI", "BinarySI", "DecimalExponent"

BAD_FORMAT = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)
BAD_SUFFIX = "unable to parse quantity's suffix"

_DECIMAL_POWERS = {
    "n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18,
}  # fmt: skip
_DECIMAL_SUFFIXES = {power: suffix for suffix, power in _DECIMAL_POWERS.items()}
_BINARY_POWERS = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_BINARY_SUFFIXES = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")

_SHAPE = re.compile(r"([+-]?)(?=[0-9.])([0-9]*)(?:\.([0-9]*))?([eEinumkKMGTP]*[-+]?[0-9]*)")
_EXPONENT = re.compile(r"[eE]([-+]?[0-9]{1,9})")


class QuantityError(ValueError):
    """The text is no quantity; the message is upstream's."""


class Quantity(NamedTuple):
    nanos: int
    format: str

    def __str__(self) -> str:
        return text_of(self.nanos, self.format)


def parse(value: str | int | float) -> Quantity:
    """The quantity of a JSON value; numbers count as their decimal text. Raises QuantityError."""
    return _parse(value if type(value) is str else str(value))


@lru_cache(maxsize=CACHED_TEXTS)
def _parse(text: str) -> Quantity:
    # The length first: a shape that fails costs its square.
    match = _SHAPE.fullmatch(text) if len(text) <= MAX_DIGITS else None
    if match is None:
        raise QuantityError(BAD_FORMAT)
    sign, whole, fraction, suffix = match.groups()
    fraction = fraction or ""
    if not whole and not fraction:
        raise QuantityError(BAD_FORMAT)
    base, power, form = _scale(suffix)
    digits = int(whole + fraction)
    if base == 2:
        nanos = _ceil_div((digits * NANO) << power, 10 ** len(fraction))
    else:
        nanos = _shift(digits, power + 9 - len(fraction))
    nanos = min(nanos, MAX_NANOS)
    return Quantity(-nanos if sign == "-" else nanos, form)


def _scale(suffix: str) -> tuple[int, int, str]:
    """(base, power, format) of a suffix."""
    if suffix in _DECIMAL_POWERS:
        return 10, _DECIMAL_POWERS[suffix], DECIMAL
    if suffix in _BINARY_POWERS:
        return 2, _BINARY_POWERS[suffix], BINARY
    match = _EXPONENT.fullmatch(suffix)
    if match is None:
        raise QuantityError(BAD_SUFFIX)
    return 10, int(match[1]), EXPONENT


def _shift(digits: int, power: int) -> int:
    """digits * 10**power, rounded up, without ever computing a huge power."""
    if digits == 0:
        return 0
    if power >= 0:
        return digits * 10**power if power <= 40 else MAX_NANOS
    if -power > 40 + len(str(digits)):
        return 1
    return _ceil_div(digits, 10**-power)


def _ceil_div(value: int, divisor: int) -> int:
    return -(-value // divisor)


def text_of(nanos: int, form: str = DECIMAL) -> str:
    """Upstream's canonical text: no fraction, the largest suffix that keeps it exact."""
    if nanos == 0:
        return "0"
    if form == BINARY and abs(nanos) >= 1024 * NANO and nanos % NANO == 0:
        value, power = nanos // NANO, 0
        while value % 1024 == 0 and power < len(_BINARY_SUFFIXES) - 1:
            value //= 1024
            power += 1
        return f"{value}{_BINARY_SUFFIXES[power]}"
    value, power = nanos, -9
    while value % 1000 == 0 and power < 18:
        value //= 1000
        power += 3
    if form == EXPONENT:
        return f"{value}e{power}" if power else str(value)
    return f"{value}{_DECIMAL_SUFFIXES[power]}"


@lru_cache(maxsize=CACHED_TEXTS)
def canonical(text: str) -> str:
    """The text as upstream writes it back: canonical, unless it takes the text for canonical
    already by a quick look (so "1.001G" and "+1" stay). Raises QuantityError."""
    value = _parse(text)
    return text if _looks_canonical(text) else str(value)


def _looks_canonical(text: str) -> bool:
    match = _SHAPE.fullmatch(text)
    assert match is not None  # it has been parsed
    _, whole, fraction, suffix = match.groups()
    base, power, _ = _scale(suffix)
    digits = (whole.lstrip("0") or "0") + (fraction or "")
    power -= len(fraction or "")
    return (
        base == 10
        and len(digits) <= MAX_EXACT_DIGITS
        and power >= -9
        and power % 3 == 0
        and digits[0] != "0"
        and not digits.endswith("000")
    )


def nanos(value: str | int | float) -> int:
    return parse(value).nanos


def whole(value: str | int | float) -> int:
    """The value as an integer, rounded away from zero (Quantity.Value)."""
    return _round(parse(value).nanos, NANO)


def milli(value: str | int | float) -> int:
    """The value in thousandths, rounded away from zero (Quantity.MilliValue)."""
    return _round(parse(value).nanos, MILLI)


def _round(amount: int, unit: int) -> int:
    return _ceil_div(amount, unit) if amount >= 0 else -_ceil_div(-amount, unit)


def milli_text(amount: int) -> str:
    """The text of so many thousandths (CPU)."""
    return text_of(amount * MILLI, DECIMAL)


def whole_text(amount: int, form: str = BINARY) -> str:
    """The text of so many units (bytes in BINARY)."""
    return text_of(amount * NANO, form)


def add(left: str | int | float, right: str | int | float) -> str:
    """The sum's text, in the format of the left one (of the right one when left is zero)."""
    a, b = parse(left), parse(right)
    return text_of(a.nanos + b.nanos, a.format if a.nanos else b.format)


def compare(left: str | int | float, right: str | int | float) -> int:
    """-1, 0 or 1."""
    a, b = parse(left).nanos, parse(right).nanos
    return (a > b) - (a < b)
