"""Users' regular expressions, in linear time and bounded memory (RE2, as Go's regexp)."""

from __future__ import annotations

from collections.abc import Callable

from sampan.api.cel.errors import EvaluationError
from sampan.api.cel.regexes import compiled


def searcher(pattern: str) -> Callable[[str], bool]:
    """Does the pattern match somewhere in a string? A pattern that is none matches everything:
    it was refused when the definition was written, or accepted by an older server.

    Compiled when first asked: a definition may hold hundreds, most of which are never used.
    """

    def search(value: str) -> bool:
        try:
            return compiled(pattern).search(value) is not None
        except EvaluationError:
            return True

    return search


def problem(pattern: str) -> str:
    """Go's complaint about a pattern, "" when it is good."""
    try:
        compiled(pattern)
    except EvaluationError as error:
        return str(error)
    return ""
