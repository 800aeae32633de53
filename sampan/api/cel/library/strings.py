"""Strings (cel-go ext.Strings version 2) and regular expressions (Kubernetes' find, findAll)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..conversions import format_double, to_string
from ..errors import EvaluationError
from ..functions import (
    Functions,
    function,
    method,
    regex_cost,
    size_of,
    table,
    tenth,
    walk_first,
    weight,
)
from ..regexes import compiled
from ..types import DYN, INT, STRING, list_of
from ..values import Duration, Timestamp, TypeValue, Uint

STRINGS = list_of(STRING)
MAX_PRECISION = 100
"""Digits after the point that format gives at most; each costs memory, none costs budget."""
MAX_TEXT = 1 << 24
"""Characters a single call may make: replace with an empty pattern multiplies."""

_UPPER = str.maketrans("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
_VERB = re.compile(r"%(?:\.(\d+))?([a-zA-Z%])")
_QUOTED = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t",
    "\v": "\\v", "\\": "\\\\", '"': '\\"',
}  # fmt: skip


def _char_at(text: str, at: int) -> str:
    if not 0 <= at <= len(text):
        raise EvaluationError(f"index out of range: {at}")
    return text[at : at + 1]


def _index_of(text: str, part: str, begin: int = 0) -> int:
    if not 0 <= begin <= len(text):
        raise EvaluationError(f"index out of range: {begin}")
    return text.find(part, begin)


def _last_index_of(text: str, part: str, begin: int | None = None) -> int:
    if begin is None:
        return text.rfind(part)
    if not 0 <= begin <= len(text):
        raise EvaluationError(f"index out of range: {begin}")
    return text.rfind(part, 0, begin + len(part))


def _join(items: list[Any], between: str = "") -> str:
    if not all(isinstance(item, str) for item in items):
        raise EvaluationError("join: invalid input: all elements must be strings")
    return between.join(items)


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    turns = len(text) + 1 if not old else text.count(old)
    if count >= 0:
        turns = min(turns, count)
    if len(text) + turns * max(0, len(new) - len(old)) > MAX_TEXT:
        raise EvaluationError("replace: the result is too long")
    return text.replace(old, new, count)


def _split(text: str, between: str, count: int = -1) -> list[str]:
    if count == 0:
        return []
    if not between:
        parts = list(text)
        if 0 < count < len(parts):
            parts = [*parts[: count - 1], "".join(parts[count - 1 :])]
        return parts
    return text.split(between, count - 1 if count > 0 else -1)


def _substring(text: str, begin: int, end: int | None = None) -> str:
    stop = len(text) if end is None else end
    for at in (begin, stop):
        if not 0 <= at <= len(text):
            raise EvaluationError(f"index out of range: {at}")
    if begin > stop:
        raise EvaluationError(f"invalid substring range. start: {begin}, end: {stop}")
    return text[begin:stop]


def _quote(text: str) -> str:
    return '"' + "".join(_QUOTED.get(rune, rune) for rune in text) + '"'


def _format(pattern: str, args: list[Any]) -> str:
    position = 0

    def replace(found: re.Match[str]) -> str:
        nonlocal position
        digits, verb = found.groups()
        if verb == "%":
            return "%"
        if position >= len(args):
            raise EvaluationError(f"index {position} out of range")
        value = args[position]
        position += 1
        return _clause(verb, value, 6 if digits is None else int(digits[:4]))

    return _VERB.sub(replace, pattern)


def _clause(verb: str, value: Any, digits: int) -> str:
    if digits > MAX_PRECISION:
        raise EvaluationError(f"precision must not exceed {MAX_PRECISION}")
    whole = isinstance(value, int) and not isinstance(value, bool)
    number = whole or isinstance(value, float)
    if verb == "s":
        return _plain(value)
    if verb == "d" and number:
        return str(int(value)) if whole else format_double(value)
    if verb == "f" and number:
        return f"{value:.{digits}f}"
    if verb == "e" and number:
        return f"{value:.{digits}e}"
    if verb == "b" and (whole or isinstance(value, bool)):
        return f"{int(value):b}"
    if verb == "o" and whole:
        return f"{int(value):o}"
    if verb in "xX":
        if whole:
            text = f"{int(value):x}"
        elif isinstance(value, str | bytes):
            text = (value.encode() if isinstance(value, str) else value).hex()
        else:
            raise EvaluationError("error during formatting: only integers, byte buffers, and"
                                  " strings can be formatted as hex")  # fmt: skip
        return text.upper() if verb == "X" else text
    if verb in "dfebo":
        raise EvaluationError(f"error during formatting: %{verb} clause does not take this type")
    raise EvaluationError(
        f'could not parse formatting clause: unrecognized formatting clause "{verb}"'
    )


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, dict):
        pairs = sorted((_plain(key), _plain(item)) for key, item in value.items())
        return f"{{{', '.join(f'{key}: {item}' for key, item in pairs)}}}"
    if value is None:
        return "null"
    if isinstance(value, TypeValue):
        return value.name
    if isinstance(value, bool | str | int | float | bytes | Timestamp | Duration | Uint):
        return to_string(value)
    raise EvaluationError(
        "error during formatting: string clause can only be used on strings, bools, bytes, ints,"
        " doubles, maps, lists, types, durations, and timestamps"
    )


def _find(text: str, pattern: str) -> str:
    # In bytes, which is quicker: the library then does not count characters.
    found = compiled(pattern).search(text.encode())
    return "" if found is None else str(found.group().decode())


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    out: list[str] = []
    for found in compiled(pattern).finditer(text.encode()):
        out.append(str(found.group().decode()))
        if len(out) == limit:
            break
    return out


def _twice(args: Sequence[Any], result: Any) -> int:
    return tenth(2 * size_of(args[0]))


def _replacing(args: Sequence[Any], result: Any) -> int:
    """The text and what it becomes, which may be far longer."""
    text, old, new = args[:3]
    turns = text.count(old) if old else len(text) + 1
    if len(args) > 3 and args[3] >= 0:
        turns = min(turns, args[3])
    return tenth(2 * len(text) + max(0, turns * (len(new) - len(old))))


def _regex(args: Sequence[Any], result: Any) -> int:
    return regex_cost(size_of(args[0]), size_of(args[1]))


def _joining(args: Sequence[Any], result: Any) -> int:
    between = size_of(args[1]) if len(args) > 1 else 0
    return tenth(2 * sum(size_of(item) + between for item in args[0]))


def _formatting(args: Sequence[Any], result: Any) -> int:
    return tenth(size_of(args[0])) + weight(args[1]) // 2


def _both(args: Sequence[Any], result: Any) -> int:
    return tenth(size_of(args[0]))


def functions() -> Functions:
    """The declarations."""
    text, number = STRING, INT
    return table(
        ("charAt", method((text, number), text, _char_at)),
        ("indexOf", method((text, text), number, _index_of, _both)),
        ("indexOf", method((text, text, number), number, _index_of, _both)),
        ("lastIndexOf", method((text, text), number, _last_index_of, _both)),
        ("lastIndexOf", method((text, text, number), number, _last_index_of, _both)),
        ("join", method((STRINGS,), text, _join, _joining)),
        ("join", method((STRINGS, text), text, _join, _joining)),
        ("lowerAscii", method((text,), text, lambda t: t.translate(_LOWER), walk_first)),
        ("upperAscii", method((text,), text, lambda t: t.translate(_UPPER), walk_first)),
        ("replace", method((text, text, text), text, _replace, _replacing)),
        ("replace", method((text, text, text, number), text, _replace, _replacing)),
        ("split", method((text, text), STRINGS, _split, _twice)),
        ("split", method((text, text, number), STRINGS, _split, _twice)),
        ("substring", method((text, number), text, _substring, walk_first)),
        ("substring", method((text, number, number), text, _substring, walk_first)),
        ("trim", method((text,), text, str.strip, walk_first)),
        ("format", method((text, list_of(DYN)), text, _format, _formatting)),
        ("strings.quote", function((text,), text, _quote, walk_first)),
        ("find", method((text, text), text, _find, _regex)),
        ("findAll", method((text, text), STRINGS, _find_all, _regex)),
        ("findAll", method((text, text, number), STRINGS, _find_all, _regex)),
    )
