"""Levels of priority: who may wait."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.server.fairness.levels import Entry, Level, Pool, enqueue, level_of, pick

QUEUED = {"type": "Queue", "queuing": {"queues": 2, "handSize": 1, "queueLengthLimit": 3}}


def made(response: Any, old: Level | None = None) -> Level:
    spec = {"type": "Limited", "limited": {"limitResponse": response}}
    level = level_of({"metadata": {"name": "l"}, "spec": spec}, old)
    level.nominal = level.most = 5
    return level


def entry(seats: int) -> Entry:
    attributes: Any = None
    return Entry("f", "s", seats, 0.0, lambda: None, attributes, None)


@pytest.mark.parametrize("seats", [0, 1])
def test_no_more_wait_for_their_turn_than_there_are_seats(seats: int) -> None:
    level = made({"type": "Reject"})
    pool = Pool([level])
    taken = [enqueue(level, entry(seats), 1, pool) for _ in range(9)]
    assert taken == [True] * 5 + [False] * 4
    assert level.waiting == 5
    for left in (4, 3, 2, 1, 0):
        found = pick([level], pool)
        assert found is not None
        assert found[0] is level
        assert level.waiting == left
    assert pick([level], pool) is None


def test_without_queues_nobody_waits_for_a_seat() -> None:
    level = made({"type": "Reject"})
    level.seats = 5
    assert not enqueue(level, entry(1), 1, Pool([level]))
    queued = made(QUEUED)
    queued.seats = 5
    assert enqueue(queued, entry(1), 1, Pool([queued]))


def test_those_that_wait_stay_when_the_level_gets_queues() -> None:
    level = made({"type": "Reject"})
    assert enqueue(level, entry(1), 1, Pool([level]))
    after = made(QUEUED, level)
    assert after.waiting == 1
    assert pick([after], Pool([after])) is not None
    assert after.waiting == 0
