"""fieldPath of a rule and selectable fields: JSON paths of field and map accessors alone, checked
against a schema (apiextensions-apiserver schema/cel ValidFieldPath)."""

from __future__ import annotations

import re
from typing import Any

from sampan.api.errors import Object

_TOKEN = re.compile(r"'(?:\\.|[^'\\])*'|[.\[\]]|[^.\[\]]+")
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
            "'": "'", "\\": "\\"}  # fmt: skip
ENDED = "unexpected end of JSON path"
UNKNOWN = "does not refer to a valid field"


def field_path(schema: Any, path: str, *, brackets: bool = True) -> tuple[str | None, str, Object]:
    """(path as field errors print it, complaint, schema found); the path is None when there is
    something to complain about."""
    tokens = _TOKEN.findall(path)
    out = ""
    while tokens:
        token = tokens.pop(0)
        if token not in (".", "["):
            return None, f"expected [ or . but got: {token}", {}
        if token == "[" and not brackets:
            return None, "array notation is not allowed", {}
        if not tokens:
            return None, ENDED, {}
        name = tokens.pop(0)
        if token == "[":
            if len(name) < 2 or not name.startswith("'"):
                return None, f"expected single quoted string but got {name}", {}
            name = re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], ""), name[1:-1])
            if not tokens:
                return None, ENDED, {}
            close = tokens.pop(0)
            if close != "]":
                return None, f"expected ] but got {close}", {}
        properties, more = schema.get("properties"), schema.get("additionalProperties")
        if properties and name in properties:
            schema, out = properties[name], f"{out}.{name}"
        elif not properties and isinstance(more, dict):
            schema, out = more, f"{out}[{name}]"
        else:
            return None, UNKNOWN, {}
    return out.removeprefix("."), "", schema
