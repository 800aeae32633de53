"""When a schedule's time comes: the calendar of cronsim, in the time zone of the cron job. Pure.

A schedule means wall-clock times, as upstream's parser (robfig/cron v3) takes it: what falls into
the hour that is skipped in spring does not happen, what falls into the hour that comes twice in
autumn happens twice. The library is asked within stretches of one offset to UTC, and imported when
the first schedule is.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol
from zoneinfo import ZoneInfo

from sampan.api.kinds.batch.schedule import FIELDS, NAMES, schedule_problem
from sampan.api.times import parse_duration_s

DESCRIPTORS = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0", "@daily": "0 0 * * *", "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}  # fmt: skip

CACHED = 1024
"""Schedules that are kept parsed; there are seldom more in a cluster, and more only cost time."""
PROBE_S = 7 * 86400
"""No time zone changes its offset twice within a week."""
HORIZON_S = 5 * 366 * 86400
"""What does not come within five years never does (robfig/cron's limit)."""


class ScheduleError(ValueError):
    """The text is no schedule; the message is upstream's."""


class Schedule(Protocol):
    def next_s(self, after_s: float) -> float | None:
        """The first time after this one (seconds since the epoch); None if there is none."""
        ...


class Every:
    """A fixed interval, whatever the calendar says ("@every 90m")."""

    def __init__(self, interval_s: float) -> None:
        self.interval_s = max(1, int(interval_s))

    def next_s(self, after_s: float) -> float | None:
        return int(after_s) + self.interval_s


class Calendar:
    """Five fields, in a time zone (None is UTC)."""

    def __init__(self, fields: str, zone: ZoneInfo | None) -> None:
        self.fields = _plain(fields)
        self.zone = zone

    def next_s(self, after_s: float) -> float | None:
        after = int(after_s // 1)
        limit = after + HORIZON_S
        offset = self._offset_s(after)
        while True:
            wall = _next_wall(self.fields, after + offset)
            if wall is None or wall - offset > limit:
                return None
            found = wall - offset
            change = self._first_change(after, found, offset)
            if change is None:
                return found
            # From there the same wall-clock times are other moments.
            after, offset = change - 1, self._offset_s(change)

    def _offset_s(self, when: int) -> int:
        if self.zone is None:
            return 0
        offset = datetime.fromtimestamp(when, self.zone).utcoffset()
        return int(offset.total_seconds()) if offset is not None else 0

    def _first_change(self, after: int, end: int, offset: int) -> int | None:
        """The first second in (after, end] whose offset is another one."""
        if self.zone is None:
            return None
        low = after
        while low < end:
            high = min(end, low + PROBE_S)
            if low > after or self._offset_s(low + 1) == offset:
                if self._offset_s(high) == offset:
                    low = high
                    continue
                return _bisect(low, high, lambda when: self._offset_s(when) != offset)
            return low + 1
        return None


def _bisect(low: int, high: int, changed: Callable[[int], bool]) -> int:
    """The first that has changed, of (low, high] whose last has."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if changed(middle) else (middle, high)
    return high


def _next_wall(fields: str, after: int) -> int | None:
    """The first match after this wall-clock time, both as if in UTC."""
    from cronsim import CronSim, CronSimError

    try:
        found = next(CronSim(fields, datetime.fromtimestamp(after, UTC).replace(tzinfo=None)))
    except (CronSimError, StopIteration, OverflowError):
        # Days that no month has.
        return None
    return int(found.replace(tzinfo=UTC).timestamp())


@lru_cache(maxsize=CACHED)
def read_schedule(text: str, zone: str = "") -> Schedule:
    """A schedule in a time zone ("": UTC); one that names a zone itself has that one.

    Raises ScheduleError."""
    problem = schedule_problem(text)
    if problem:
        raise ScheduleError(problem)
    if text.startswith(("TZ=", "CRON_TZ=")):
        name, _, text = text.partition(" ")
        zone, text = name.partition("=")[2], text.strip()
    if text.startswith("@every "):
        return Every(parse_duration_s(text.removeprefix("@every ")))
    return Calendar(DESCRIPTORS.get(text, text), zone_named(zone) if zone else None)


def zone_named(name: str) -> ZoneInfo:
    """Raises ScheduleError, in Go's words."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ScheduleError(f"unknown time zone {name}") from None


def _plain(fields: str) -> str:
    """The fields as lists and ranges, so that every dialect reads them alike: in robfig's a
    step makes of `*` a range like any other, and of a single number the start of one."""
    return " ".join(
        _plain_field(field, low, high, NAMES.get(names or "", {}))
        for field, (low, high, names) in zip(fields.split(), FIELDS, strict=True)
    )


def _plain_field(text: str, low: int, high: int, names: dict[str, int]) -> str:
    numbers: set[int] = set()
    for item in text.lower().split(","):
        span, slash, step = item.partition("/")
        every = int(step) if slash else 1
        first, dash, last = span.partition("-")
        if first in ("*", "?"):
            if every == 1:
                return "*"
            start, end = low, high
        else:
            start = names.get(first) if first in names else int(first)  # type: ignore[assignment]
            end = (names.get(last) if last in names else int(last)) if dash else start  # type: ignore[assignment]
            if slash and not dash:
                end = high
        numbers.update(range(start, end + 1, every))
    return ",".join(map(str, sorted(numbers)))
