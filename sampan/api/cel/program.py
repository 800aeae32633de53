"""Compile once, evaluate often."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from ..turns import HURRIED, Unfinished
from .checker import check
from .environment import Environment
from .errors import CompileError, CostExceeded, EvaluationError, Issue
from .frame import Frame, Step
from .nodes import Node
from .parser import MAX_DEPTH, parse
from .planner import plan
from .types import Type
from .validators import check_literals

if TYPE_CHECKING:
    from collections.abc import Iterator

PER_CALL_LIMIT = 1_000_000
"""The most one evaluation may cost; some tenth of a second upstream (apis/cel PerCallLimit)."""
RUNTIME_BUDGET = 10_000_000
"""What all expressions of one validation may cost together (RuntimeCELCostBudget)."""
MATCH_CONDITIONS_BUDGET = 2_500_000
"""What the match conditions of one webhook or policy may cost together."""
QUICK_COST = 50_000
"""What is evaluated while others wait: 3 to 25 ms of work (docs/designs/008-expressions.md)."""
FRAMES_PER_LEVEL = 12
"""Python frames that one level of nesting takes at most, in the parser."""


class Budget(Struct):
    """What a group of evaluations may still cost."""

    left: int = RUNTIME_BUDGET
    observe: Callable[[float], None] | None = None
    """Told the seconds of each evaluation."""
    sparing: int = 0
    """If not 0, `left` is what may be computed while others wait, and this how much more may be
    counted for what takes no time; who needs more than either is `Unfinished`."""


def budget_of(whole: int, observe: Callable[[float], None] | None = None) -> Budget:
    """A budget of `whole`, or what may be spent of it in a hurry."""
    return Budget(QUICK_COST, observe, whole) if HURRIED.get() else Budget(whole, observe)


class Program(Struct, frozen=True, eq=False):
    """A compiled expression. It keeps nothing between evaluations."""

    source: str
    type: Type
    """What it gives, as far as can be told before it runs."""
    tree: Node
    step: Step

    def evaluate(self, variables: Mapping[str, Any], budget: Budget | None = None) -> Any:
        """The value for these variables, which are JSON-like and not changed.

        Raises EvaluationError, or CostExceeded when the call or the whole budget is exhausted; the
        budget then has nothing left if it was the budget. Raises Unfinished for a budget that was
        made in a hurry.
        """
        if budget is not None and budget.sparing:
            return self._hurry(variables, budget)
        limit = PER_CALL_LIMIT if budget is None else min(PER_CALL_LIMIT, budget.left)
        return self._run(Frame(dict(variables), limit), budget)

    def _hurry(self, variables: Mapping[str, Any], budget: Budget) -> Any:
        frame = Frame(dict(variables), budget.left, quick=True)
        before = budget.left
        try:
            value = self._run(frame, budget)
        except CostExceeded:
            raise Unfinished from None
        finally:
            budget.sparing -= frame.spared
        if before - frame.left + frame.spared > PER_CALL_LIMIT or budget.sparing <= QUICK_COST:
            raise Unfinished
        return value

    def _run(self, frame: Frame, budget: Budget | None) -> Any:
        limit = frame.left
        began = perf_counter()
        try:
            value = self.step(frame)
            if frame.left < 0:
                raise CostExceeded
        except RecursionError:
            raise EvaluationError("the value is nested too deeply") from None
        finally:
            if budget is not None:
                budget.left -= min(limit, limit - frame.left)
                if budget.observe is not None:
                    budget.observe(perf_counter() - began)
        return value


def compile(source: str, environment: Environment) -> Program:
    """Parse, check and plan. Raises CompileError."""
    with _room():
        tree = parse(source)
        try:
            type_ = check(source, tree, environment)
            check_literals(source, tree)
            step = plan(tree)
        except RecursionError:
            text = f"expression recursion limit exceeded: {MAX_DEPTH}"
            raise CompileError(source, [Issue(0, text)]) from None
    return Program(source, type_, tree, step)


@contextmanager
def _room() -> Iterator[None]:
    """Room on Python's stack for `MAX_DEPTH` levels. Python's own calls take no C stack."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, 1000 + MAX_DEPTH * FRAMES_PER_LEVEL))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
