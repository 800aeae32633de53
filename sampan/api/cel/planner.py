"""A checked tree into nested Python functions, each of one frame.

Every function subtracts what it costs from `frame.left`; loops and calls whose cost depends on
their input stop when it is negative, so work is bounded by the budget (plus the size of the
expression). Costs are those of cel-go's runtime tracker.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from . import loops, operators
from .calls import plan_call
from .environment import TYPE_VALUES
from .errors import CostExceeded, EvaluationError, no_such_key, no_such_overload
from .frame import Frame, Step
from .functions import size_of, tenth, weight
from .nodes import Bind, Call, Literal, Loop, MakeList, MakeMap, MakeObject, Name, Node, Select
from .types import ObjectType
from .values import NONE, Fields, ListSet, Optional, same

LIST_COST, MAP_COST, OBJECT_COST = 10, 30, 40
"""Making a list, a map, an object (cel-go's base costs)."""


def plan(node: Node) -> Step:
    """The function of a node."""
    return PLANS[type(node)](node)


def _literal(node: Literal) -> Step:
    value = node.value
    return lambda frame: value


def _name(node: Name) -> Step:
    return _variable(node.slot)


def _variable(slot: str) -> Step:
    known = TYPE_VALUES.get(slot)

    def read(frame: Frame) -> Any:
        frame.left -= 1
        try:
            return frame.values[slot]
        except KeyError:
            if known is not None:
                return known
            raise EvaluationError(f"no such attribute(s): {slot}") from None

    return read


def _select(node: Select) -> Step:
    if node.name:
        return _variable(node.name)
    operand, key = plan(node.operand), _key(node)
    if node.test:
        return partial(_test, operand, key)
    if node.optional:
        return partial(_select_optional, operand, key)
    double = node.type.name == "double"

    def select(frame: Frame) -> Any:
        value = operand(frame)
        frame.left -= 1
        if type(value) is dict:
            try:
                found = value[key]
            except KeyError:
                raise no_such_key(key) from None
            return float(found) if double and type(found) is int else found
        return _field(value, key)

    return select


def _key(node: Select) -> str:
    given = node.operand.type
    if given.name == "optional_type":
        given = given.params[0]
    if isinstance(given, ObjectType) and node.field in given.fields:
        return given.fields[node.field].key
    return node.field


def _field(value: Any, key: str) -> Any:
    """A field of what is not a plain map."""
    if isinstance(value, dict):
        if key in value:
            return value[key]
        raise no_such_key(key)
    if type(value) is Fields:
        return value.find(key)
    if type(value) is Optional:
        return _maybe(value.value, key) if value.present else NONE
    raise no_such_overload()


def _maybe(value: Any, key: str) -> Optional:
    if type(value) is Optional:
        return _maybe(value.value, key) if value.present else NONE
    if not isinstance(value, dict | Fields):
        raise no_such_overload()
    if key not in value:
        return NONE
    found = _field(value, key)
    return found if type(found) is Optional else Optional(found)


def _select_optional(operand: Step, key: str, frame: Frame) -> Optional:
    value = operand(frame)
    frame.left -= 1
    return _maybe(value, key)


def _test(operand: Step, key: str, frame: Frame) -> bool:
    value = operand(frame)
    if type(value) is Optional:
        if not value.present:
            return False
        value = value.value
    if isinstance(value, dict | Fields):
        return key in value
    raise no_such_overload()


def _call(node: Call) -> Step:
    name = node.function
    args = [plan(item) for item in (*((node.target,) if node.target else ()), *node.args)]
    if name in ("_&&_", "_||_"):
        return partial(_logical, args[0], args[1], name == "_||_")
    if name == "_?_:_":
        return partial(_conditional, args[0], args[1], args[2])
    if name == "!_":
        return partial(_not, args[0])
    if name in ("_==_", "_!=_"):
        return partial(_equal, args[0], args[1], name == "_==_")
    if name in operators.ARITHMETIC:
        return partial(_arithmetic, args[0], args[1], operators.ARITHMETIC[name])
    if name in operators.COMPARISONS:
        return partial(_compare, args[0], args[1], operators.COMPARISONS[name])
    if name in SIMPLE:
        return partial(_simple, tuple(args), SIMPLE[name])
    if name == "@in":
        return partial(_in, args[0], args[1])
    return plan_call(node, args)


SIMPLE: dict[str, Callable[..., Any]] = {
    "-_": operators.negate, "_[_]": operators.index, "_[?_]": operators.index_optional,
}  # fmt: skip


def _simple(args: tuple[Step, ...], call: Callable[..., Any], frame: Frame) -> Any:
    values = [item(frame) for item in args]
    frame.left -= 1
    return call(*values)


def _logical(first: Step, second: Step, wins: bool, frame: Frame) -> bool:
    """And, or: whichever side decides, an error of the other does not count."""
    error: EvaluationError | None = None
    try:
        value = first(frame)
        if value is wins:
            return bool(wins)
        if type(value) is not bool:
            error = no_such_overload()
    except EvaluationError as problem:
        error = problem
    value = second(frame)
    if value is wins:
        return bool(wins)
    if error is not None:
        raise error
    if type(value) is not bool:
        raise no_such_overload()
    return not wins


def _conditional(condition: Step, first: Step, second: Step, frame: Frame) -> Any:
    value = condition(frame)
    if type(value) is not bool:
        raise no_such_overload()
    return first(frame) if value else second(frame)


def _not(operand: Step, frame: Frame) -> bool:
    value = operand(frame)
    frame.left -= 1
    if type(value) is not bool:
        raise no_such_overload()
    return not value


def _equal(first: Step, second: Step, wanted: bool, frame: Frame) -> bool:
    a, b = first(frame), second(frame)
    kind = type(a)
    if kind is type(b) and kind in PLAIN:
        # Most comparisons: what `same` would say, without asking it.
        frame.left -= tenth(min(len(a), len(b))) if kind is str else 1
        return bool(a == b) is wanted
    if isinstance(a, list | dict) and isinstance(b, list | dict):
        _charge(frame, 1 + min(weight(a), weight(b)) // 4)
    else:
        _charge(frame, tenth(min(size_of(a), size_of(b))))
    return same(a, b) is wanted


PLAIN = frozenset({str, int, bool, float})


def _charge(frame: Frame, cost: int) -> None:
    frame.left -= cost
    if frame.left < 0:
        raise CostExceeded


def _arithmetic(first: Step, second: Step, by_types: operators.Table, frame: Frame) -> Any:
    a, b = first(frame), second(frame)
    call = by_types.get((type(a), type(b)))
    if call is None:
        raise no_such_overload()
    if type(a) is int:
        frame.left -= 1
    elif isinstance(a, str | bytes):
        _charge(frame, tenth(len(a) + len(b)))
    elif isinstance(a, list):
        # Upstream's lists share what they are made of; ours are copied, and that has its price.
        work = weight(a) * weight(b) if type(a) is ListSet else len(a) + len(b)
        _charge(frame, 1 + tenth(work))
    else:
        frame.left -= 1
    return call(a, b)


def _compare(first: Step, second: Step, test: operators.Binary, frame: Frame) -> bool:
    a, b = first(frame), second(frame)
    if type(a) is int and type(b) is int:
        frame.left -= 1
        return bool(test(a, b))
    _charge(frame, tenth(min(size_of(a), size_of(b))) if isinstance(a, str | bytes) else 1)
    return operators.compare(test, a, b)


def _in(first: Step, second: Step, frame: Frame) -> bool:
    a, b = first(frame), second(frame)
    _charge(frame, len(b) * (1 + _depth(a)) if isinstance(b, list) else 1)
    return operators.contains(a, b)


def _depth(value: Any) -> int:
    """What comparing a value costs beyond looking at it."""
    return tenth(weight(value)) if isinstance(value, list | dict) else 0


def _makelist(node: MakeList) -> Step:
    items = [(plan(item), at in node.optional) for at, item in enumerate(node.items)]

    def make(frame: Frame) -> list[Any]:
        frame.left -= LIST_COST
        out = []
        for item, optional in items:
            value = item(frame)
            if optional:
                _optional(value)
                if not value.present:
                    continue
                value = value.value
            out.append(value)
        return out

    return make


def _optional(value: Any) -> None:
    if type(value) is not Optional:
        raise no_such_overload()


def _makemap(node: MakeMap) -> Step:
    entries = [(plan(key), plan(value), optional) for key, value, optional in node.entries]

    def make(frame: Frame) -> dict[Any, Any]:
        frame.left -= MAP_COST
        out: dict[Any, Any] = {}
        for left, right, optional in entries:
            key, value = left(frame), right(frame)
            if not isinstance(key, str | int | bool):
                raise EvaluationError("unsupported key type")
            if key in out:
                raise EvaluationError(f"Failed with repeated key: {key}")
            if optional:
                _optional(value)
                if not value.present:
                    continue
                value = value.value
            out[key] = value
        return out

    return make


def _makeobject(node: MakeObject) -> Step:
    fields = node.type.fields if isinstance(node.type, ObjectType) else {}
    entries = [(fields[name].key, plan(value), optional) for name, value, optional in node.entries]

    def make(frame: Frame) -> dict[str, Any]:
        frame.left -= OBJECT_COST
        out: dict[str, Any] = {}
        for key, step, optional in entries:
            value = step(frame)
            if optional:
                _optional(value)
                if not value.present:
                    continue
                value = value.value
            out[key] = value
        return out

    return make


def _loop(node: Loop) -> Step:
    condition = None if node.condition is None else plan(node.condition)
    result = None if node.result is None else plan(node.result)
    return loops.plan(node.macro, plan(node.over), tuple(node.slots), condition, result)


def _bind(node: Bind) -> Step:
    value, body, slot, macro = plan(node.value), plan(node.body), node.slot, node.macro

    def bind(frame: Frame) -> Any:
        found = value(frame)
        frame.left -= 1
        if macro != "bind":
            _optional(found)
            if not found.present:
                return NONE
            found = found.value
        frame.values[slot] = found
        out = body(frame)
        return Optional(out) if macro == "optMap" else out

    return bind


PLANS: dict[type[Node], Callable[[Any], Step]] = {
    Literal: _literal, Name: _name, Select: _select, Call: _call, MakeList: _makelist,
    MakeMap: _makemap, MakeObject: _makeobject, Loop: _loop, Bind: _bind,
}  # fmt: skip
