"""The loops of macros. Each turn costs what a turn of cel-go's fold costs, and the budget is looked
at in each, so that no loop outruns it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from .errors import CostExceeded, EvaluationError, no_such_overload
from .frame import Frame, Step

TEST_TURN = 3
"""Condition and accumulator of all, exists, existsOne and filter, for each element."""
LIST_TURN = 13
"""The same of map and transformList, which make a list of one and append it."""
MAP_TURN = 33


def plan(
    macro: str, over: Step, slots: tuple[str, ...], condition: Step | None, result: Step | None
) -> Step:
    """The function of a macro."""
    if macro in ("all", "exists"):
        assert condition is not None
        if len(slots) == 1:
            return _any_item(over, slots[0], condition, macro == "exists")
        return partial(_any, over, slots, condition, macro == "exists")
    if macro == "existsOne":
        assert condition is not None
        return partial(_one, over, slots, condition)
    if macro == "filter":
        assert condition is not None
        return partial(_filter, over, slots, condition)
    assert result is not None
    if macro in ("map", "transformList"):
        return partial(_map, over, slots, condition, result)
    return partial(_to_map, over, slots, (condition, result), macro == "transformMapEntry")


def _turns(value: Any, slots: tuple[str, ...], frame: Frame, cost: int) -> Iterator[Any]:
    """Set the variables to each element in turn; gives the first of them."""
    pairs: Any
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value) if len(slots) == 2 else ((item, None) for item in value)
    else:
        raise no_such_overload()
    values, first = frame.values, slots[0]
    second = slots[1] if len(slots) == 2 else ""
    for left, right in pairs:
        frame.left -= cost
        if frame.left < 0:
            raise CostExceeded
        values[first] = left
        if second:
            values[second] = right
        yield left


def _any(over: Step, slots: tuple[str, ...], condition: Step, wins: bool, frame: Frame) -> bool:
    """exists (`wins` is true) and all (false): errors count only if no element decides."""
    error: EvaluationError | None = None
    for _ in _turns(over(frame), slots, frame, TEST_TURN):
        try:
            value = condition(frame)
        except EvaluationError as problem:
            error = problem
            continue
        if value is wins:
            return bool(wins)
        if type(value) is not bool:
            error = no_such_overload()
    if error is not None:
        raise error
    return not wins


def _any_item(over: Step, slot: str, condition: Step, wins: bool) -> Step:
    """`_any` over the items of a list or the keys of a map: the loop that most expressions are,
    without a generator between it and its turns."""

    def run(frame: Frame) -> bool:
        value = over(frame)
        if not isinstance(value, list | dict):
            raise no_such_overload()
        values, error = frame.values, None
        for item in value:
            frame.left -= TEST_TURN
            if frame.left < 0:
                raise CostExceeded
            values[slot] = item
            try:
                found = condition(frame)
            except EvaluationError as problem:
                error = problem
                continue
            if found is wins:
                return bool(wins)
            if type(found) is not bool:
                error = no_such_overload()
        if error is not None:
            raise error
        return not wins

    return run


def _true(condition: Step | None, frame: Frame) -> bool:
    if condition is None:
        return True
    value = condition(frame)
    if type(value) is not bool:
        raise no_such_overload()
    return value


def _one(over: Step, slots: tuple[str, ...], condition: Step, frame: Frame) -> bool:
    turns = _turns(over(frame), slots, frame, TEST_TURN)
    return sum(_true(condition, frame) for _ in turns) == 1


def _filter(over: Step, slots: tuple[str, ...], condition: Step, frame: Frame) -> list[Any]:
    turns = _turns(over(frame), slots, frame, LIST_TURN)
    return [item for item in turns if _true(condition, frame)]


def _map(
    over: Step, slots: tuple[str, ...], condition: Step | None, result: Step, frame: Frame
) -> list[Any]:
    turns = _turns(over(frame), slots, frame, LIST_TURN)
    return [result(frame) for _ in turns if _true(condition, frame)]


def _to_map(
    over: Step,
    slots: tuple[str, ...],
    steps: tuple[Step | None, Step],
    entries: bool,
    frame: Frame,
) -> dict[Any, Any]:
    condition, result = steps
    out: dict[Any, Any] = {}
    for key in _turns(over(frame), slots, frame, MAP_TURN):
        if not _true(condition, frame):
            continue
        value = result(frame)
        if not entries:
            out[key] = value
            continue
        if not isinstance(value, dict):
            raise no_such_overload()
        for name, item in value.items():
            if name in out:
                raise EvaluationError(f"insert failed: key {name} already exists")
            out[name] = item
    return out
