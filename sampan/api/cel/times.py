"""Timestamps and durations: their texts, and the parts of a date."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from .errors import EvaluationError
from .values import NANOS, Duration, Timestamp

UNITS = {
    "ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 1_000_000,
    "s": NANOS, "m": 60 * NANOS, "h": 3600 * NANOS,
}  # fmt: skip
_DURATION = re.compile(r"[-+]?(?:0|(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)")
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
MAX_DIGITS = 19
"""Digits of a part of a duration that are looked at: no span in nanoseconds has more."""
_TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:([Zz])|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
_OFFSET = re.compile(r"([+-]?)([0-9]{1,2}):([0-9]{2})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_duration(text: str) -> Duration:
    """Go's time.ParseDuration."""
    if not _DURATION.fullmatch(text):
        raise EvaluationError(f'time: invalid duration "{text}"')
    total = 0
    for whole, fraction, unit in _PART.findall(text):
        scale, digits = UNITS[unit], whole.lstrip("0")
        if len(digits) > MAX_DIGITS:
            raise EvaluationError(f'time: invalid duration "{text[:100]}"')
        total += int(digits or 0) * scale
        # An hour has 3.6e12 nanoseconds: what is finer than that adds nothing.
        fraction = fraction[:MAX_DIGITS]
        if fraction:
            total += int(fraction) * scale // 10 ** len(fraction)
    return Duration(-total if text[0] == "-" else total)


def parse_timestamp(text: str) -> Timestamp:
    """RFC 3339."""
    found = _TIMESTAMP.fullmatch(text)
    wrong = EvaluationError(
        f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}" as "2006"'
    )
    if found is None:
        raise wrong
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise wrong from None
    seconds = (moment - _EPOCH) // timedelta(seconds=1)
    if found[9]:
        shift = int(found[10]) * 3600 + int(found[11]) * 60
        seconds += shift if found[9] == "-" else -shift
    return Timestamp(seconds * NANOS + int((found[7] or "0").ljust(9, "0")))


def format_timestamp(moment: Timestamp) -> str:
    """RFC 3339 in UTC, as many digits of the fraction as there are."""
    seconds, nanos = divmod(moment.nanos, NANOS)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    return f"{text}{fraction}Z"


def local(moment: Timestamp, zone: str) -> datetime:
    """The moment on the clock of a zone: a name, or an offset such as -07:00."""
    try:
        return (_EPOCH + timedelta(seconds=moment.nanos // NANOS)).astimezone(_zone(zone))
    except OverflowError:  # the year 0 or 10000 there
        raise EvaluationError("timestamp overflow") from None


@lru_cache(maxsize=64)
def _zone(name: str) -> Any:
    if name in ("UTC", ""):
        return UTC
    found = _OFFSET.fullmatch(name)
    if found:
        shift = timedelta(hours=int(found[2]), minutes=int(found[3]))
        if shift >= timedelta(hours=24):
            raise EvaluationError(f"unknown time zone {name}")
        return timezone(-shift if found[1] == "-" else shift)
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise EvaluationError(f"unknown time zone {name}") from None
