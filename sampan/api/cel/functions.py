"""How a function is declared: overloads by the types they take, what each does and costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil
from typing import Any

from msgspec import Struct

from .types import Param, Type
from .values import type_name

Cost = Callable[[Sequence[Any], Any], int]
"""(arguments, result) -> what the call cost; the target of a method is the first argument."""


class Overload(Struct, frozen=True, eq=False):
    """One signature. `call` gets checked arguments and raises EvaluationError."""

    params: Sequence[Type]
    result: Type
    call: Callable[..., Any]
    member: bool = False
    cost: Cost | None = None
    """None: a call costs 1."""

    def takes(self, args: Sequence[Any]) -> bool:
        """Do these values fit at run time?"""
        for param, value in zip(self.params, args, strict=True):
            name = param.name
            if name != "dyn" and not isinstance(param, Param) and type_name(value) != name:
                return False
        return True


Functions = Mapping[str, tuple[Overload, ...]]


def table(*rows: tuple[str, Overload]) -> Functions:
    """Overloads by function name."""
    out: dict[str, tuple[Overload, ...]] = {}
    for name, overload in rows:
        out[name] = (*out.get(name, ()), overload)
    return out


def merge(parts: Iterable[Functions]) -> Functions:
    """Several tables as one; overloads of the same name add up."""
    out: dict[str, tuple[Overload, ...]] = {}
    for part in parts:
        for name, overloads in part.items():
            out[name] = (*out.get(name, ()), *overloads)
    return out


def function(params: Sequence[Type], result: Type, call: Any, cost: Cost | None = None) -> Overload:
    return Overload(tuple(params), result, call, False, cost)


def method(params: Sequence[Type], result: Type, call: Any, cost: Cost | None = None) -> Overload:
    return Overload(tuple(params), result, call, True, cost)


def size_of(value: Any) -> int:
    """What costs count: length, or 1 for what has none."""
    if type(value) is str:
        return len(value)
    return len(value) if isinstance(value, str | bytes | list | dict) else 1


def weight(value: Any) -> int:
    """How many values are in a value: what comparing or printing it takes. Upstream counts the
    uppermost level only; here all count, so that time is bounded by cost."""
    if isinstance(value, list):
        return 1 + sum(map(weight, value))
    if isinstance(value, dict):
        return 1 + len(value) + sum(map(weight, value.values()))
    return len(value) if isinstance(value, str | bytes) else 1


def tenth(length: int) -> int:
    """Walking a string: a tenth of its length."""
    # In floating point, as upstream: seventy is eight tenths there.
    return TENTHS[length] if length < KNOWN else ceil(length * 0.1)


KNOWN = 1024
TENTHS = tuple(ceil(length * 0.1) for length in range(KNOWN))


def walk_first(args: Sequence[Any], result: Any) -> int:
    return tenth(size_of(args[0]))


def elements_first(args: Sequence[Any], result: Any) -> int:
    return size_of(args[0])


def regex_cost(text: int, pattern: int) -> int:
    """RE2 takes time in the product of text and states; four characters make about one state."""
    return tenth(1 + text) * ceil(pattern * 0.25)
