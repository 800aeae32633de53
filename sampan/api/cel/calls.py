"""Calls of functions, as the planner plans them: the overload is picked by the values' types, and
is charged for before it runs where its cost is known by then.

Calls with one possible overload and one or two arguments are most of all calls and what loops are
full of; they have paths of their own, which is what bounds the time an expression at its limit
takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .errors import CostExceeded, no_such_overload
from .frame import Frame, Step
from .functions import Overload
from .nodes import Call, Literal
from .types import Param
from .values import NAMES

PATTERNS = frozenset({"matches", "find", "findAll"})
PATTERN_COST = 500
"""Compiling a pattern at run time, about a millisecond for the worst; upstream counts nothing."""

SLOW = {
    "timestamp": 5, "cidr": 4, "containsIP": 4, "containsCIDR": 4, "find": 4, "findAll": 3,
    "getHours": 3, "getMinutes": 3, "getSeconds": 3, "getMilliseconds": 3, "getFullYear": 3,
    "getMonth": 3, "getDate": 3, "getDayOfMonth": 3, "getDayOfWeek": 3, "getDayOfYear": 3,
    "string": 3, "ip": 2, "isIP": 2, "isCIDR": 2, "duration": 2, "url": 2, "isURL": 2,
    "semver": 1, "isSemver": 1, "quantity": 1, "isQuantity": 1, "replace": 1, "double": 1,
    "bytes": 1,
}  # fmt: skip
"""What a call costs beyond upstream's count, for functions that parse or copy and that upstream
counts as little as a comparison: time is bounded by cost, so that no evaluation holds up the others
for more than about 0.4 s. Only what makes a hundred thousand such calls at once can tell."""

SPARED = {"check": 350_000}
"""What takes little time, and is not counted where the budget stands for time: upstream counts a
question to the authorizer as if another machine were asked, two to an expression."""


def plan_call(node: Call, args: Sequence[Step]) -> Step:
    """The function of a call; `args` have the target of a method first."""
    step, spared = _plan(node, args), SPARED.get(node.function, 0)
    return _spared(step, spared) if spared else step


def _spared(step: Step, cost: int) -> Step:
    def run(frame: Frame) -> Any:
        value = step(frame)
        if frame.quick:
            frame.spared += cost
            return value
        frame.left -= cost
        if frame.left < 0:
            raise CostExceeded
        return value

    return run


def _plan(node: Call, args: Sequence[Step]) -> Step:
    overloads = [item for item in node.overloads if len(item.params) == len(args)]
    # A pattern that is computed is compiled when it is met.
    computed = node.function in PATTERNS and not isinstance(node.args[-1], Literal)
    extra = PATTERN_COST if computed else SLOW.get(node.function, 0)
    if len(overloads) == 1:
        if len(args) == 1:
            return _one(overloads[0], args[0], extra)
        if len(args) == 2:
            return _two(overloads[0], args[0], args[1], extra)
    return _any(overloads or node.overloads, args, extra)


def _name(overload: Overload, position: int) -> str:
    """The type an argument must have; "" for any."""
    param = overload.params[position]
    return "" if param.name == "dyn" or isinstance(param, Param) else param.name


def _one(overload: Overload, first: Step, extra: int) -> Step:
    call, cost, wanted = overload.call, overload.cost, _name(overload, 0)

    def run(frame: Frame) -> Any:
        value = first(frame)
        if wanted and NAMES.get(type(value)) != wanted and not overload.takes((value,)):
            raise no_such_overload()
        frame.left -= extra + (1 if cost is None else cost((value,), None))
        if frame.left < 0:
            raise CostExceeded
        return call(value)

    return run


def _two(overload: Overload, first: Step, second: Step, extra: int) -> Step:
    call, cost = overload.call, overload.cost
    left, right = _name(overload, 0), _name(overload, 1)

    def run(frame: Frame) -> Any:
        a = first(frame)
        b = second(frame)
        if (
            (left and NAMES.get(type(a)) != left) or (right and NAMES.get(type(b)) != right)
        ) and not overload.takes((a, b)):
            raise no_such_overload()
        frame.left -= extra + (1 if cost is None else cost((a, b), None))
        if frame.left < 0:
            raise CostExceeded
        return call(a, b)

    return run


def _any(overloads: Sequence[Overload], args: Sequence[Step], extra: int) -> Step:
    def run(frame: Frame) -> Any:
        values = [item(frame) for item in args]
        frame.left -= extra
        for overload in overloads:
            if overload.takes(values):
                break
        else:
            raise no_such_overload()
        frame.left -= 1 if overload.cost is None else overload.cost(values, None)
        if frame.left < 0:
            raise CostExceeded
        return overload.call(*values)

    return run
