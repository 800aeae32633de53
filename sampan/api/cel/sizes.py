"""How large values of a schema can be: what static cost estimates multiply by.

As in k8s.io/apiserver pkg/cel/common/schemas.go: limits of the schema where it has them, else what
fits a request of 3 MiB.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from .names import escape
from .schemas import Schema, with_meta

REQUEST_BYTES = 3 << 20
"""The largest request (MaxRequestSizeBytes)."""
TEXT_BYTES = REQUEST_BYTES - 2
UNBOUNDED = (1 << 64) - 1
MIN_BYTES = {"boolean": 4, "integer": 1, "number": 1}
"""The shortest JSON of a value."""
STRINGS = {"duration": (3, 32), "date": (12, 12), "date-time": (21, 32)}
"""(shortest JSON, most characters) by format."""


class Sizes(Struct, frozen=True):
    """The most elements (characters, items, entries) of a value, and of what is in it. Numbers,
    booleans and objects have none: comparing them is free (MaxElements of a DeclType)."""

    most: int = 0
    least_bytes: int = 1
    fields: Mapping[str, Sizes] = field(default_factory=dict)
    element: Sizes | None = None
    """Of the items of a list, the values of a map."""
    key: Sizes | None = None
    """Of the keys of a map. No schema limits them, and upstream takes them for free."""


KEY = Sizes()


def sizes_of_schema(schema: Schema, *, root: bool = False) -> Sizes | None:
    """None where rules cannot see the value."""
    longest = schema.get("maxLength")
    if schema.get("x-kubernetes-int-or-string"):
        return Sizes(TEXT_BYTES if longest is None else max(0, longest) * 4)
    if root:
        schema = with_meta(schema)
    kind = schema.get("type")
    if kind == "array":
        return _list(schema)
    if kind == "object":
        extra = schema.get("additionalProperties")
        return _map(schema, extra) if isinstance(extra, Mapping) else _object(schema)
    if kind == "string":
        return _text(schema, longest)
    return Sizes(0, MIN_BYTES[kind]) if kind in MIN_BYTES else None


def _below(schema: Schema) -> Sizes | None:
    return sizes_of_schema(schema, root=bool(schema.get("x-kubernetes-embedded-resource")))


def _text(schema: Schema, longest: int | None) -> Sizes:
    form = schema.get("format") or ""
    if form in STRINGS:
        least, most = STRINGS[form]
        return Sizes(most, least)
    if longest is not None:
        # Code points are limited, bytes are counted.
        return Sizes(max(0, longest) * (1 if form == "byte" else 4), 2)
    values = [item for item in schema.get("enum") or () if isinstance(item, str)]
    return Sizes(max(map(len, values)) if values else TEXT_BYTES, 2)


def _list(schema: Schema) -> Sizes | None:
    items = schema.get("items")
    inner = None if items is None else _below(items)
    if inner is None:
        return None
    most = schema.get("maxItems")
    if most is None:
        most = TEXT_BYTES // (inner.least_bytes + 1)
    return Sizes(max(0, most), 2, element=inner)


def _map(schema: Schema, extra: Mapping[str, Any]) -> Sizes | None:
    inner = _below(extra)
    if inner is None:
        return None
    most = schema.get("maxProperties")
    if most is None:
        most = TEXT_BYTES // (inner.least_bytes + 6)
    return Sizes(max(0, most), 2, element=inner, key=KEY)


def _object(schema: Schema) -> Sizes:
    required = set(schema.get("required") or ())
    least, fields = 2, {}
    for name, inner in (schema.get("properties") or {}).items():
        found = _below(inner)
        if found is None:
            continue
        identifier = escape(name)
        if identifier is not None:
            fields[identifier] = found
        if name in required and inner.get("default") is None:
            least += len(name) + found.least_bytes + 4
    return Sizes(0, least, fields)
