"""The JSON paths of printer columns and selectable fields (client-go util/jsonpath, the subset
that definitions use): .a.b, ['a.b'], .a\\.b, [0], [-1], [*], [?(@.type=="Ready")], `..` excluded.

A path is parsed once into steps; reading never fails, it finds nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import orjson

Step = Callable[[Any], Iterator[Any]]

MAX_DIGITS = 19
"""Of an index: more is no 64-bit number, and Python's parser takes no thousands of them."""


class PathError(ValueError):
    """The text is no JSON path of the kind supported."""


class JSONPath(NamedTuple):
    steps: Sequence[Step]

    def find(self, value: Any) -> list[Any]:
        """Every value at the path, in order."""
        found = [value]
        for step in self.steps:
            found = [item for each in found for item in step(each)]
        return found


_NAME = re.compile(r"(?:\\.|[^\\.\[\]\s(){}])+")
_QUOTED = re.compile(r"\[\s*(?:'((?:\\.|[^'\\])*)'|\"((?:\\.|[^\"\\])*)\")\s*\]")
_INDEX = re.compile(r"\[\s*(-?\d+)\s*\]")
_SLICE = re.compile(r"\[\s*(-?\d*)\s*:\s*(-?\d*)\s*(?::\s*(\d+)\s*)?\]")
_STAR = re.compile(r"\[\s*\*\s*\]")
_FILTER = re.compile(
    # Nothing matches in two ways: else a path that fails would be tried in 2**length of them.
    r"\[\?\(\s*@((?:\\.|[^\\\s=!<>()])*)\s*(?:(==|!=|<=|>=|<|>)\s*"
    r"('(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[-\w.]+)\s*)?\)\s*\]"
)


def parse(text: str) -> JSONPath:
    """Raises PathError."""
    text = text.strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1].strip()
    if not text.startswith((".", "[", "$", "@")):
        raise PathError(f"unrecognized identifier {text}")
    text = text.removeprefix("$").removeprefix("@")
    steps: list[Step] = []
    at = 0
    while at < len(text):
        at = _step(text, at, steps)
    return JSONPath(tuple(steps))


def _step(text: str, at: int, steps: list[Step]) -> int:
    """Parse one step at `at`; gives where the next begins."""
    if text[at] == ".":
        at += 1
        if at == len(text) or text[at] == "[":
            return at
        if text[at] == "*":
            steps.append(_all)
            return at + 1
        name = _NAME.match(text, at)
        if name is None:
            raise PathError(f"unexpected {text[at:]!r}")
        steps.append(_field(_unescaped(name[0])))
        return name.end()
    for pattern, make in _BRACKETS:
        found = pattern.match(text, at)
        if found is not None:
            steps.append(make(found))
            return found.end()
    raise PathError(f"unterminated array or unsupported expression {text[at:]!r}")


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _field(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]

    return step


def _all(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _quoted(found: re.Match[str]) -> Step:
    return _field(_unescaped(found[1] if found[1] is not None else found[2]))


def _index(found: re.Match[str]) -> Step:
    position = _number(found[1])

    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= position < len(value):
            yield value[position]

    return step


def _number(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise PathError(f"invalid array index {text[:MAX_DIGITS]}...")
    return int(text)


def _slice(found: re.Match[str]) -> Step:
    start, stop, stride = (_number(part) if part else None for part in found.groups())

    def step(value: Any) -> Iterator[Any]:
        # "step must be > 0" is an error of reading upstream: nothing is found.
        if isinstance(value, list) and stride != 0:
            yield from value[start:stop:stride]

    return step


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda left, right: bool(left == right),
    "!=": lambda left, right: bool(left != right),
    "<": lambda left, right: bool(left < right),
    "<=": lambda left, right: bool(left <= right),
    ">": lambda left, right: bool(left > right),
    ">=": lambda left, right: bool(left >= right),
}


def _filter(found: re.Match[str]) -> Step:
    inner = parse(found[1]) if found[1] else JSONPath(())
    compare = _COMPARE.get(found[2] or "")
    wanted = _literal(found[3]) if found[3] else None

    def picks(item: Any) -> bool:
        values = inner.find(item)
        if compare is None:
            return bool(values)
        try:
            return bool(values) and compare(values[0], wanted)
        except TypeError:
            return False

    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from filter(picks, value)

    return step


def _literal(text: str) -> Any:
    if text[0] in "'\"":
        return _unescaped(text[1:-1])
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


_BRACKETS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Step]], ...] = (
    (_QUOTED, _quoted),
    (_INDEX, _index),
    (_SLICE, _slice),
    (_STAR, lambda found: _all),
    (_FILTER, _filter),
)


def shown(value: Any) -> str:
    """A value as it prints in a column of type string."""
    if isinstance(value, str):
        return value
    if value is None:
        return "<nil>"
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def dotted(text: str) -> tuple[str, ...]:
    """The names of a simple path such as `.spec.replicas` (scale, selectable fields)."""
    return tuple(text.removeprefix(".").split("."))


def at(value: Any, names: Sequence[str]) -> Any:
    """The value at plain names, None when there is none."""
    for name in names:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value
