"""Regular expressions in RE2's syntax and linear time, as Go's regexp.

The library is imported with the first expression that asks for it. Patterns are compiled once and
remembered, `REMEMBERED` of them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from .errors import EvaluationError

REMEMBERED = 512
"""Patterns kept compiled; computed patterns beyond it are compiled again."""
MEMORY_BYTES = 8 << 20
"""What RE2 may use for one pattern; a pattern that needs more is an error."""

_ANY_BYTE = re.compile(r"(?<!\\)(?:\\\\)*\\C")


@lru_cache(maxsize=REMEMBERED)
def compiled(pattern: str) -> Any:
    """A compiled pattern. Raises EvaluationError with Go's words where they are known."""
    if _ANY_BYTE.search(pattern):
        # Go has it not: it would match a part of a character.
        raise EvaluationError("error parsing regexp: invalid escape sequence: `\\C`")
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = MEMORY_BYTES
    try:
        return re2.compile(pattern, options=options)
    except re2.error as error:
        why = error.args[0]
        text = why.decode(errors="replace") if isinstance(why, bytes) else str(why)
        raise EvaluationError(f"error parsing regexp: {_in_go(text)}") from None


def _in_go(text: str) -> str:
    """RE2's `missing ): (abc` is Go's ``missing closing ): `(abc` ``."""
    what, found, detail = text.partition(": ")
    what = {"missing )": "missing closing )", "missing ]": "missing closing ]"}.get(what, what)
    return f"{what}: `{detail}`" if found else what
