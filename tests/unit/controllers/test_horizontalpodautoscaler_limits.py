"""How fast autoscalers may change their targets: lives as transcripts, one line per sync."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api.errors import Object
from sampan.controllers.horizontalpodautoscaler_limits import (
    Asked,
    History,
    begin,
    limit,
    note_change,
)
from tests.kit.transcript import hold

LEAST, MOST, PERIOD_S = 1, 100, 15.0


def rules(*policies: tuple[str, int, int], **more: Any) -> Object:
    kept = [{"type": kind, "value": value, "periodSeconds": s} for kind, value, s in policies]
    return {"selectPolicy": "Max", "policies": kept, **more}


UP = rules(("Pods", 4, 15), ("Percent", 100, 15), stabilizationWindowSeconds=0)
DOWN = rules(("Percent", 100, 15))


def live(behavior: Object | None, wishes: Iterable[int], start: int = 10) -> str:
    """Every 15 s the metrics ask for the next number; what it comes to."""
    history, current, lines = History(), start, []
    for number, wish in enumerate(wishes):
        now_s = 1000.0 + number * PERIOD_S
        begin(history, current, now_s)
        found = limit(Asked(current, wish, LEAST, MOST), behavior, history, now_s)
        why = ", ".join(item.reason for item in (found.able, found.limited))
        lines.append(
            f"{number * PERIOD_S:4.0f} s  {current:3} wants {wish:3} gets {found.replicas:3}"
            f"  {why}\n"
        )
        if found.replicas != current:
            note_change(history, behavior, found.replicas - current, now_s)
        current = found.replicas
    return "".join(lines)


LIVES: dict[str, tuple[Object | None, list[int], int]] = {
    "without behaviour: twice as many at most, down after five minutes": (
        None,
        [10, 50, 50, 50, 50, 200] + [5] * 23,
        10,
    ),
    "without behaviour, from one": (None, [3, 90, 90], 1),
    "defaults: the larger of four and twice as many": (
        {"scaleUp": UP, "scaleDown": DOWN},
        [9] * 4,
        1,
    ),
    "two pods a minute up, one every half down": (
        {
            "scaleUp": rules(("Pods", 2, 60), stabilizationWindowSeconds=0),
            "scaleDown": rules(("Pods", 1, 30), stabilizationWindowSeconds=0),
        },
        [20] * 9 + [2] * 8,
        10,
    ),
    "the smaller of two policies": (
        {
            "scaleUp": rules(("Pods", 4, 60), ("Percent", 10, 60), selectPolicy="Min"),
            "scaleDown": rules(
                ("Pods", 4, 60), ("Percent", 10, 60), selectPolicy="Min",
                stabilizationWindowSeconds=0,
            ),
        },
        [90, 90, 90, 90, 90, 5, 5, 5, 5, 5],
        50,
    ),
    "never down": (
        {"scaleUp": UP, "scaleDown": {"selectPolicy": "Disabled", "stabilizationWindowSeconds": 0}},
        [12, 3, 3],
        10,
    ),
    "a window of one minute up, of half one down: short peaks and lows are passed over": (
        {
            "scaleUp": {**UP, "stabilizationWindowSeconds": 60},
            "scaleDown": {**DOWN, "stabilizationWindowSeconds": 30},
        },
        [10, 20, 10, 20, 18, 20, 19, 20, 20, 5, 20, 5, 5, 5],
        10,
    ),
}  # fmt: skip


def test_lives(request: pytest.FixtureRequest) -> None:
    text = "\n".join(f"# {name}\n{live(*found)}" for name, found in LIVES.items())
    hold(request, "autoscaler_limits", text)


WISHES = st.lists(st.integers(0, 150), min_size=1, max_size=40)
POLICIES = st.lists(
    st.tuples(st.sampled_from(["Pods", "Percent"]), st.integers(1, 200), st.integers(1, 120)),
    min_size=1,
    max_size=3,
)
RULES = st.builds(
    lambda policies, choice, window: rules(
        *policies, selectPolicy=choice, stabilizationWindowSeconds=window
    ),
    POLICIES,
    st.sampled_from(["Max", "Min", "Disabled"]),
    st.integers(0, 90),
)


@given(WISHES, RULES, RULES, st.integers(LEAST, MOST))
def test_bounds_hold_and_memory_does_not_grow(
    wishes: list[int], up: Object, down: Object, start: int
) -> None:
    behavior = {"scaleUp": up, "scaleDown": down}
    history, current = History(), start
    for number, wish in enumerate(wishes):
        now_s = number * PERIOD_S
        found = limit(Asked(current, wish, LEAST, MOST), behavior, history, now_s)
        assert LEAST <= found.replicas <= MOST
        if up["selectPolicy"] == "Disabled":
            assert found.replicas <= current
        if down["selectPolicy"] == "Disabled":
            assert found.replicas >= current
        if found.replicas != current:
            note_change(history, behavior, found.replicas - current, now_s)
        current = found.replicas
        assert len(history.recommended) <= 90 // PERIOD_S + 2
        assert len(history.added) + len(history.removed) <= 120 // PERIOD_S + 2
