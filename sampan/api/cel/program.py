"""Compile once, evaluate often."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

from msgspec import Struct

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
FRAMES_PER_LEVEL = 12
"""Python frames that one level of nesting takes at most, in the parser."""


class Budget(Struct):
    """What a group of evaluations may still cost."""

    left: int = RUNTIME_BUDGET
    observe: Callable[[float], None] | None = None
    """Told the seconds of each evaluation."""


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
        budget then has nothing left if it was the budget.
        """
        limit = PER_CALL_LIMIT if budget is None else min(PER_CALL_LIMIT, budget.left)
        frame = Frame(dict(variables), limit)
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
