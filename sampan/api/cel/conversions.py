"""Conversions between types: int(x), string(x) and their like."""

from __future__ import annotations

import re
from math import isfinite, trunc
from typing import Any

from .errors import EvaluationError, no_such_overload
from .operators import checked, checked_uint
from .times import format_timestamp, parse_duration, parse_timestamp
from .values import INT_MAX, NANOS, UINT_MAX, Duration, Timestamp, TypeValue, Uint, type_name

_DECIMAL = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(
    r"[+-]?(?:\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?|(inf|infinity|nan))", re.I | re.A
)
TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
MAX_DIGITS = 40
"""Digits looked at: no 64-bit number has more, and Python's own parser takes quadratic time."""


def to_int(value: Any) -> int:
    if isinstance(value, bool):
        raise no_such_overload()
    if isinstance(value, float):
        if not isfinite(value) or not -(2.0**63) < value < 2.0**63:
            raise EvaluationError("integer overflow")
        return trunc(value)
    if isinstance(value, int):
        return checked(int(value))
    if isinstance(value, str):
        if len(value) > MAX_DIGITS or not _DECIMAL.fullmatch(value):
            raise EvaluationError(f'strconv.ParseInt: parsing "{value[:100]}": invalid syntax')
        number = int(value)
        if not -INT_MAX - 1 <= number <= INT_MAX:
            raise EvaluationError(f'strconv.ParseInt: parsing "{value}": value out of range')
        return number
    if isinstance(value, Timestamp):
        return value.nanos // NANOS
    if isinstance(value, Duration):
        return value.nanos
    raise no_such_overload()


def to_uint(value: Any) -> Uint:
    if isinstance(value, float):
        if not isfinite(value) or not 0 <= value < 2.0**64:
            raise EvaluationError("unsigned integer overflow")
        return Uint(trunc(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return checked_uint(int(value))
    if isinstance(value, str):
        if len(value) > MAX_DIGITS or not value.isdecimal() or not value.isascii():
            raise EvaluationError(f'strconv.ParseUint: parsing "{value[:100]}": invalid syntax')
        number = int(value)
        if number > UINT_MAX:
            raise EvaluationError(f'strconv.ParseUint: parsing "{value}": value out of range')
        return Uint(number)
    raise no_such_overload()


def to_double(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        found = _FLOAT.fullmatch(value)
        if found is None:
            raise EvaluationError(f'strconv.ParseFloat: parsing "{value[:100]}": invalid syntax')
        number = float(value)
        if not isfinite(number) and not found[1]:
            raise EvaluationError(
                f'strconv.ParseFloat: parsing "{value[:100]}": value out of range'
            )
        return number
    raise no_such_overload()


def to_string(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return format_double(value)
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise EvaluationError("invalid UTF-8 in bytes, cannot convert to string") from None
    if isinstance(value, Timestamp):
        return format_timestamp(value)
    if isinstance(value, Duration):
        return str(value)
    raise no_such_overload()


def format_double(value: float) -> str:
    """Go's strconv.FormatFloat(v, 'g', -1, 64)."""
    if value != value:
        return "NaN"
    if not isfinite(value):
        return "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    if "e" not in text:
        whole = text.removesuffix(".0")
        digits = whole.lstrip("-")
        if "." not in digits and len(digits) > 21:
            text = f"{value:.17e}"
        elif 0 < abs(value) < 1e-4:
            text = f"{value:e}"
        else:
            return whole
    mantissa, exponent = text.split("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return (
        f"{mantissa}e{exponent[0] if exponent[0] in '+-' else '+'}{exponent.lstrip('+-').zfill(2)}"
    )


def to_bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode(errors="replace")
    raise no_such_overload()


def to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        if value in TRUE:
            return True
        if value in FALSE:
            return False
        raise EvaluationError(f'strconv.ParseBool: parsing "{value[:100]}": invalid syntax')
    raise no_such_overload()


def to_duration(value: Any) -> Duration:
    if isinstance(value, Duration):
        return value
    if isinstance(value, str):
        return parse_duration(value)
    if type(value) is int:
        return Duration(value)
    raise no_such_overload()


def to_timestamp(value: Any) -> Timestamp:
    if isinstance(value, Timestamp):
        return value
    if isinstance(value, str):
        return parse_timestamp(value)
    if type(value) is int:
        return Timestamp(value * NANOS)
    raise no_such_overload()


def to_type(value: Any) -> TypeValue:
    return TypeValue(type_name(value))
