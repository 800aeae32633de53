"""Timestamps and durations: their texts, and the parts of a date."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from ..times import TimeError, parse_duration_ns
from .errors import EvaluationError
from .values import NANOS, Duration, Timestamp

_TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:([Zz])|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
_OFFSET = re.compile(r"([+-]?)([0-9]{1,2}):([0-9]{2})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_duration(text: str) -> Duration:
    """Go's time.ParseDuration."""
    try:
        return Duration(parse_duration_ns(text))
    except TimeError as error:
        raise EvaluationError(str(error)) from None


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
