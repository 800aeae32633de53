"""JSON values as Go's fmt prints them, where upstream's messages show them so."""

from __future__ import annotations

from typing import Any

from sampan.api.fields import quote

_TYPES = {
    dict: "map[string]interface {}", list: "[]interface {}", str: "string", bool: "bool",
    int: "int64", float: "float64",
}  # fmt: skip


def go_text(value: Any) -> str:
    """%v."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{name}:{go_text(value[name])}' for name in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(go_text, value))}]"
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def go_syntax(value: Any) -> str:
    """%#v."""
    if isinstance(value, dict):
        inner = ", ".join(f"{quote(name)}:{go_syntax(value[name])}" for name in sorted(value))
        return f"{_TYPES[dict]}{{{inner}}}"
    if isinstance(value, list):
        return f"{_TYPES[list]}{{{', '.join(map(go_syntax, value))}}}"
    if isinstance(value, str):
        return quote(value)
    return "interface {}(nil)" if value is None else go_text(value)


def go_type(value: Any) -> str:
    """%T."""
    return _TYPES.get(type(value), "<nil>")
