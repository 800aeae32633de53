"""RFC 3339 times as upstream writes them: seconds (Time) and microseconds (MicroTime), in UTC.

Seconds since the epoch are floats or ints; texts are canonical ("2026-01-02T03:04:05Z",
"2026-01-02T03:04:05.000000Z"). Reading is lenient exactly where Go's parser is.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

CACHED_TEXTS = 4096
"""Texts remembered: heartbeats and conditions repeat theirs; older ones are parsed again."""

LAYOUT = "2006-01-02T15:04:05Z07:00"
MICRO_LAYOUT = "2006-01-02T15:04:05.000000Z07:00"

_PARTS = (
    ("2006", r"(\d{4})"), ("-", "-"), ("01", r"(\d{2})"), ("-", "-"), ("02", r"(\d{2})"),
    ("T", "T"), ("15", r"(\d{2})"), (":", ":"), ("04", r"(\d{2})"), (":", ":"), ("05", r"(\d{2})"),
)  # fmt: skip
_ZONE = r"(Z|[+-]\d{2}:\d{2})"
_TIME = re.compile("".join(part for _, part in _PARTS) + r"(?:[.,](\d+))?" + _ZONE, re.ASCII)
_MICRO_TIME = re.compile("".join(part for _, part in _PARTS) + r"\.(\d{6})" + _ZONE, re.ASCII)


class TimeError(ValueError):
    """The text is no time; the message is Go's."""


def format_time(seconds: float) -> str:
    """Seconds since the epoch -> "2026-01-02T03:04:05Z", cut to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def format_micro_time(seconds: float) -> str:
    """Seconds since the epoch -> "2026-01-02T03:04:05.678901Z"."""
    micros = round(seconds * 1_000_000)
    whole, rest = divmod(micros, 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{rest:06d}Z"


def parse_time(text: str) -> float:
    """Either form -> seconds since the epoch. Raises TimeError."""
    return _read(text, _TIME, LAYOUT).timestamp()


@lru_cache(maxsize=CACHED_TEXTS)
def canonical_time(text: str) -> str:
    """A Time as it is stored: in UTC, without fraction. Raises TimeError."""
    return _text(_read(text, _TIME, LAYOUT)) + "Z"


@lru_cache(maxsize=CACHED_TEXTS)
def canonical_micro_time(text: str) -> str:
    """A MicroTime as it is stored: in UTC, six digits. Raises TimeError."""
    moment = _read(text, _MICRO_TIME, MICRO_LAYOUT)
    return f"{_text(moment)}.{moment.microsecond:06d}Z"


def _text(moment: datetime) -> str:
    return (
        f"{moment.year:04d}-{moment.month:02d}-{moment.day:02d}"
        f"T{moment.hour:02d}:{moment.minute:02d}:{moment.second:02d}"
    )


def _read(text: str, pattern: re.Pattern[str], layout: str) -> datetime:
    match = pattern.fullmatch(text)
    if match is None:
        raise TimeError(_explain(text, layout))
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    micros = int((match[7] or "")[:6].ljust(6, "0"))
    for value, low, high, what in (
        (month, 1, 12, "month"), (hour, 0, 23, "hour"), (minute, 0, 59, "minute"),
        (second, 0, 59, "second"),
    ):  # fmt: skip
        if not low <= value <= high:
            raise TimeError(f'parsing time "{text}": {what} out of range')
    try:
        moment = datetime(year, month, day, hour, minute, second, micros, _zone(match[8]))
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise TimeError(f'parsing time "{text}": day out of range') from None


def _zone(text: str) -> timezone:
    if text == "Z":
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[4:6]))
    return timezone(-offset if text[0] == "-" else offset)


def _explain(text: str, layout: str) -> str:
    """Which element of the layout the text fails at, as Go's time.Parse says it."""
    rest = text
    for element, pattern in _PARTS:
        match = re.match(pattern, rest, re.ASCII)
        if match is None:
            return f'parsing time "{text}" as "{layout}": cannot parse "{rest}" as "{element}"'
        rest = rest[match.end() :]
    if layout == MICRO_LAYOUT:
        match = re.match(r"\.\d{6}", rest, re.ASCII)
        if match is None:
            return f'parsing time "{text}" as "{layout}": cannot parse "{rest}" as ".000000"'
    else:
        match = re.match(r"[.,]\d+", rest, re.ASCII)
    rest = rest[match.end() :] if match else rest
    match = re.match(_ZONE, rest, re.ASCII)
    if match is None:
        return f'parsing time "{text}" as "{layout}": cannot parse "{rest}" as "Z07:00"'
    return f'parsing time "{text}": extra text: "{rest[match.end() :]}"'


_DURATION = re.compile(r"[-+]?(?:0|(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)")
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
_MAX_DURATION_NS = 2**63 - 1
"""What fits in 64 bits: 292 years."""
_MAX_DIGITS = 19
"""Digits of a part of a duration that are looked at: no span in nanoseconds has more, and an hour
has 3.6e12 of them, so that what is finer adds nothing. Python's parser takes no thousands."""
MAX_SHOWN = 200
"""Characters of a bad duration that its error shows."""
_UNITS_NS = {
    "ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 1_000_000,
    "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip


def parse_duration_s(text: str) -> float:
    """Seconds of a duration as Go writes it ("1m30s"). Raises TimeError, in Go's words."""
    return parse_duration_ns(text) / 1e9


def parse_duration_ns(text: str) -> int:
    """The same in nanoseconds, exactly."""
    total = _MAX_DURATION_NS + 1
    if _DURATION.fullmatch(text):
        total = sum(_part_ns(*part) for part in _PART.findall(text))
    if total > _MAX_DURATION_NS:
        raise TimeError(f'time: invalid duration "{text[:MAX_SHOWN]}"')
    return -total if text[0] == "-" else total


def _part_ns(whole: str, fraction: str, unit: str) -> int:
    scale, digits, finer = _UNITS_NS[unit], whole.lstrip("0"), fraction[:_MAX_DIGITS]
    if len(digits) > _MAX_DIGITS:
        return _MAX_DURATION_NS + 1
    parts: int = 10 ** len(finer)
    return int(digits or "0") * scale + int(finer or "0") * scale // parts
