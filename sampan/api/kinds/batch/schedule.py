"""Syntax of cron schedules, with the complaints of upstream's parser (robfig/cron v3)."""

from __future__ import annotations

from ...times import TimeError, parse_duration_s
from ..formats import DIGITS_64

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
NAMES = {
    "month": {name: number for number, name in enumerate(_MONTHS, 1)},
    "week": {name: number for number, name in enumerate(_DAYS)},
}
FIELDS = (
    (0, 59, None), (0, 23, None), (1, 31, None), (1, 12, "month"), (0, 6, "week"),
)  # fmt: skip
WORDS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")


def schedule_problem(text: str) -> str:
    """What is wrong with a schedule, "" if nothing."""
    if not text:
        return "empty spec string"
    rest = text
    if text.startswith(("TZ=", "CRON_TZ=")):
        rest = text.partition(" ")[2].strip()
    if rest.startswith("@"):
        if rest.startswith("@every "):
            return _every_problem(rest)
        if rest in WORDS:
            return ""
        return f"unrecognized descriptor: {rest}"
    parts = rest.split()
    if len(parts) != len(FIELDS):
        return f"expected exactly 5 fields, found {len(parts)}: [{' '.join(parts)}]"
    for part, (low, high, names) in zip(parts, FIELDS, strict=True):
        for item in part.split(","):
            problem = _range_problem(item, low, high, NAMES.get(names or "", {}))
            if problem:
                return problem
    return ""


def _range_problem(text: str, low: int, high: int, names: dict[str, int]) -> str:
    span, slash, step = text.partition("/")
    if "/" in step:
        return f"too many slashes: {text}"
    if slash and (problem := _number_problem(step)):
        return problem
    if slash and int(step) == 0:
        return f"step of range should be a positive number: {text}"
    first, dash, last = span.partition("-")
    if first in ("*", "?") and not dash:
        return ""
    if "-" in last:
        return f"too many hyphens: {text}"
    bounds = []
    for item in (first, last) if dash else (first,):
        value = names.get(item.lower())
        if value is None:
            problem = _number_problem(item)
            if problem:
                return problem
            value = int(item)
        bounds.append(value)
    start, end = bounds[0], bounds[-1]
    if start < low:
        return f"beginning of range ({start}) below minimum ({low}): {text}"
    if end > high:
        return f"end of range ({end}) above maximum ({high}): {text}"
    if start > end:
        return f"beginning of range ({start}) beyond end of range ({end}): {text}"
    return ""


def _number_problem(text: str) -> str:
    why = ""
    if not text.isascii() or not text.isdigit():
        why = "invalid syntax"
    elif len(text.lstrip("0")) >= DIGITS_64:
        why = "value out of range"
    return why and f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": {why}'


def _every_problem(text: str) -> str:
    try:
        parse_duration_s(text.removeprefix("@every "))
    except TimeError as error:
        return f"failed to parse duration {text}: {error}"
    return ""
