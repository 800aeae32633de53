"""Field errors in upstream's words (k8s.io/apimachinery util/validation/field).

Each constructor gives a `Cause`; a path is a plain string such as `spec.containers[0].image`, built
with `child`, `index` and `key` or an f-string. Values print as upstream prints them: strings as Go
quotes them, numbers and booleans bare, anything else as compact JSON.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from .errors import Cause

REQUIRED = "FieldValueRequired"
INVALID = "FieldValueInvalid"
NOT_SUPPORTED = "FieldValueNotSupported"
NOT_FOUND = "FieldValueNotFound"
DUPLICATE = "FieldValueDuplicate"
FORBIDDEN = "FieldValueForbidden"
TOO_LONG = "FieldValueTooLong"
TOO_MANY = "FieldValueTooMany"
TYPE_INVALID = "FieldValueTypeInvalid"
INTERNAL = "InternalError"

IMMUTABLE = "field is immutable"

_ESCAPES = {
    '"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b",
    "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
}  # fmt: skip


def child(path: str, *names: str) -> str:
    """`spec` + `template`, `metadata` -> `spec.template.metadata`."""
    return ".".join((path, *names)) if path else ".".join(names)


def index(path: str, position: int) -> str:
    return f"{path}[{position}]"


def key(path: str, name: str) -> str:
    return f"{path}[{name}]"


def required(path: str, detail: str = "") -> Cause:
    return Cause(path, _with("Required value", detail), REQUIRED)


def invalid(path: str, value: Any, detail: str = "") -> Cause:
    return Cause(path, _with(f"Invalid value: {show(value)}", detail), INVALID)


def unsuitable(path: str, detail: str) -> Cause:
    """An invalid value that is not shown (upstream's OmitValueType)."""
    return Cause(path, _with("Invalid value", detail), INVALID)


def type_invalid(path: str, value: Any, detail: str = "") -> Cause:
    """The value is not of the type its schema says (custom resources)."""
    return Cause(path, _with(f"Invalid value: {show(value)}", detail), TYPE_INVALID)


def not_supported(path: str, value: Any, allowed: Iterable[str]) -> Cause:
    """`allowed` prints in the order given; upstream's callers mostly sort it."""
    names = ", ".join(map(quote, allowed))
    detail = f"supported values: {names}" if names else ""
    return Cause(path, _with(f"Unsupported value: {show(value)}", detail), NOT_SUPPORTED)


def not_found(path: str, value: Any) -> Cause:
    return Cause(path, f"Not found: {show(value)}", NOT_FOUND)


def duplicate(path: str, value: Any) -> Cause:
    return Cause(path, f"Duplicate value: {show(value)}", DUPLICATE)


def forbidden(path: str, detail: str = "") -> Cause:
    return Cause(path, _with("Forbidden", detail), FORBIDDEN)


def too_long(path: str, value: Any, maximum: int, unit: str = "byte") -> Cause:
    """The value itself is left out of the message. `unit` is "byte" or "character"."""
    plural = unit if maximum == 1 else f"{unit}s"
    return Cause(path, f"Too long: may not be more than {maximum} {plural}", TOO_LONG)


def too_many(path: str, count: int, maximum: int) -> Cause:
    items = "item" if maximum == 1 else "items"
    return Cause(path, f"Too many: {count}: must have at most {maximum} {items}", TOO_MANY)


def immutable(path: str, value: Any) -> Cause:
    """`value` is the new value, as upstream's ValidateImmutableField shows it."""
    return invalid(path, value, IMMUTABLE)


def unchanged(path: str, new: Any, old: Any) -> list[Cause]:
    """No error when `new` equals `old`; absent, null, zero and empty values are equal (upstream's
    semantic deep equality)."""
    if new == old or (not new and not old):
        return []
    return [immutable(path, new)]


def internal(path: str, detail: str) -> Cause:
    return Cause(path, _with("Internal error", detail), INTERNAL)


class _Nil:
    """See NIL."""


NIL = _Nil()
"""A list or map that is not there: Go shows it as JSON does, and only a pointer as a text."""


def show(value: Any) -> str:
    """A bad value as upstream prints it."""
    if value is NIL:
        return "null"
    if isinstance(value, str):
        return quote(value)
    if value is None:
        return '"null"'
    return orjson.dumps(value, default=str).decode()


def quote(text: str) -> str:
    """Go's strconv.Quote."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(map(_quote_rune, text)) + '"'


def _quote_rune(rune: str) -> str:
    if rune in _ESCAPES:
        return _ESCAPES[rune]
    if rune.isprintable():
        return rune
    code = ord(rune)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _with(text: str, detail: str) -> str:
    return f"{text}: {detail}" if detail else text
