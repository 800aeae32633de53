"""When schedules come: calendars, time zones, the hours that are skipped and that come twice."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from sampan.controllers.cronjob_schedule import ScheduleError, read_schedule

NEW_YORK = "America/New_York"


def moment(text: str) -> float:
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=found.tzinfo or UTC).timestamp()


def told(when_s: float | None, zone: str = "") -> str:
    if when_s is None:
        return "never"
    return datetime.fromtimestamp(when_s, ZoneInfo(zone) if zone else UTC).isoformat()


# robfig/cron's own expectations of these schedules, of five fields.
@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("*/15 * * * *", "2012-07-09T14:45", "2012-07-09T15:00"),
        ("*/15 * * * *", "2012-07-09T14:59:59", "2012-07-09T15:00"),
        ("20-35/15 * * * *", "2012-07-09T15:45", "2012-07-09T16:20"),
        ("5/15 * * * *", "2012-07-09T15:51", "2012-07-09T16:05"),
        ("0 0 */5 Apr,Aug,Oct Mon", "2012-07-09T23:35", "2012-08-01T00:00"),
        ("0 0 * Feb Mon", "2012-07-09T23:35", "2013-02-04T00:00"),
        ("0 0 * feb mon", "2016-07-09T23:35", "2017-02-06T00:00"),
        ("0 0 29 2 ?", "2012-07-09T23:35", "2016-02-29T00:00"),
        ("0 0 1,15 * Sun", "2012-07-15T00:00", "2012-07-22T00:00"),
        ("0 0 * * Mon", "2012-07-15T00:00", "2012-07-16T00:00"),
        ("0 0 */10 * Sun", "2012-07-15T00:00", "2012-07-21T00:00"),
        ("5-5/2 * * * *", "2012-07-15T00:05", "2012-07-15T01:05"),
        ("@hourly", "2012-07-15T00:00:30", "2012-07-15T01:00"),
        ("@weekly", "2012-07-16T00:00", "2012-07-22T00:00"),
        ("@yearly", "2012-07-16T00:00", "2013-01-01T00:00"),
        ("@every 1h30m", "2012-07-16T00:00:10.5", "2012-07-16T01:30:10"),
        ("TZ=Asia/Tokyo 0 9 * * *", "2012-07-16T00:00", "2012-07-17T00:00"),
    ],
)  # fmt: skip
def test_calendar(schedule: str, after: str, expected: str) -> None:
    found = read_schedule(schedule).next_s(moment(after))
    assert told(found) == datetime.fromisoformat(expected).replace(tzinfo=UTC).isoformat()


@pytest.mark.parametrize("schedule", ["0 0 31 2 *", "0 0 31 4,6 ?"])
def test_days_that_no_month_has(schedule: str) -> None:
    assert read_schedule(schedule).next_s(moment("2012-07-16")) is None


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        # Spring: what would be in the skipped hour is not.
        ("30 2 11 Mar ?", "2012-03-11T00:00-05:00", "2013-03-11T02:30-04:00"),
        ("0 2 * * ?", "2012-03-11T00:00-05:00", "2012-03-12T02:00-04:00"),
        ("0 * * * ?", "2012-03-11T01:00-05:00", "2012-03-11T03:00-04:00"),
        ("0 3 * * ?", "2012-03-11T00:00-05:00", "2012-03-11T03:00-04:00"),
        # Autumn: what is in the hour that comes twice is there twice.
        ("30 2 04 Nov ?", "2012-11-04T00:00-04:00", "2012-11-04T02:30-05:00"),
        ("30 1 04 Nov ?", "2012-11-04T01:45-04:00", "2012-11-04T01:30-05:00"),
        ("0 * * * ?", "2012-11-04T01:00-04:00", "2012-11-04T01:00-05:00"),
        ("0 1 * * ?", "2012-11-04T00:00-04:00", "2012-11-04T01:00-04:00"),
        ("0 1 * * ?", "2012-11-04T01:00-04:00", "2012-11-04T01:00-05:00"),
        ("0 1 * * ?", "2012-11-04T01:00-05:00", "2012-11-05T01:00-05:00"),
    ],
)
def test_daylight_saving(schedule: str, after: str, expected: str) -> None:
    found = read_schedule(schedule, NEW_YORK).next_s(moment(after))
    assert told(found, NEW_YORK) == datetime.fromisoformat(expected).isoformat()


@pytest.mark.parametrize("zone", [NEW_YORK, "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata"])
def test_it_is_the_next_minute_whose_wall_clock_fits(zone: str) -> None:
    """Held against the definition, minute by minute, around every change of a year."""
    chosen, generator = ZoneInfo(zone), random.Random(7)
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    hours = [begin + timedelta(hours=number) for number in range(8784)]
    changes = [
        hour
        for hour, later in itertools.pairwise(hours)
        if hour.astimezone(chosen).utcoffset() != later.astimezone(chosen).utcoffset()
    ] or hours[:1]
    for change in changes:
        for _ in range(12):
            minute, hour = generator.randrange(60), generator.randrange(4)
            schedule = read_schedule(f"{minute} {hour} * * *", zone)
            start = change - timedelta(minutes=generator.randrange(300), seconds=17)
            at = start.replace(second=0)
            while True:
                at += timedelta(minutes=1)
                wall = at.astimezone(chosen)
                if (wall.hour, wall.minute) == (hour, minute):
                    break
            assert schedule.next_s(start.timestamp()) == at.timestamp(), (minute, hour, start)


@pytest.mark.parametrize(
    ("text", "zone", "problem"),
    [
        ("* * * *", "", "expected exactly 5 fields, found 4: [* * * *]"),
        ("0 0 * * *", "Mars/Olympus", "unknown time zone Mars/Olympus"),
        ("@every 1x", "", 'failed to parse duration @every 1x: time: invalid duration "1x"'),
    ],
)
def test_what_is_no_schedule(text: str, zone: str, problem: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        read_schedule(text, zone)
    assert str(caught.value) == problem
