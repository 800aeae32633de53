"""What can be wrong with an expression, before it runs and while it runs.

Texts are those of cel-go, which users search for and tests of operators compare.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct


class Issue(Struct, frozen=True):
    """One error in a source text; `offset` counts characters from 0."""

    offset: int
    message: str


class CompileError(Exception):
    """The expression does not parse or does not fit its environment. `str` is cel-go's report:
    a line per issue, with the source line and a caret."""

    def __init__(self, source: str, issues: Sequence[Issue]) -> None:
        self.source = source
        self.issues = tuple(sorted(issues, key=lambda item: item.offset))
        super().__init__("\n".join(_report(source, issue) for issue in self.issues))


class EvaluationError(Exception):
    """The expression has no value for this input (no such key, division by zero ...)."""


class CostExceeded(Exception):
    """Evaluation was stopped because it cost more than its budget. No operator absorbs it."""

    def __init__(self) -> None:
        super().__init__("operation cancelled: actual cost limit exceeded")


def no_such_overload() -> EvaluationError:
    return EvaluationError("no such overload")


def no_such_key(key: object) -> EvaluationError:
    return EvaluationError(f"no such key: {key}")


def _report(source: str, issue: Issue) -> str:
    begin = source.rfind("\n", 0, issue.offset) + 1
    end = source.find("\n", begin)
    text = source[begin:] if end < 0 else source[begin:end]
    line = source.count("\n", 0, begin) + 1
    column = issue.offset - begin
    pointer = "." * column + "^"
    return (
        f"ERROR: <input>:{line}:{column + 1}: {issue.message}\n"
        f" | {text.replace(chr(9), ' ')}\n | {pointer}"
    )
