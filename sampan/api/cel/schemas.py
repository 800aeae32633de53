"""Types from OpenAPI v3 structural schemas, and values as those types see them.

Follows k8s.io/apiserver pkg/cel/common/schemas.go: what a schema does not describe cannot be
referred to; int-or-string is dyn; formats make timestamps, durations and bytes of strings.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from .errors import EvaluationError
from .names import escape
from .times import parse_duration, parse_timestamp
from .types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    Field,
    ObjectType,
    Type,
    list_of,
    map_of,
)
from .values import ListMap, ListSet, Timestamp

Schema = Mapping[str, Any]

SIMPLE = {"boolean": BOOL, "number": DOUBLE, "integer": INT}
FORMATS = {"byte": BYTES, "duration": DURATION, "date": TIMESTAMP, "date-time": TIMESTAMP}
_TEXT: Schema = {"type": "string"}
_META: Schema = {"type": "object", "properties": {"name": _TEXT, "generateName": _TEXT}}
_ROOT: Mapping[str, Schema] = {"kind": _TEXT, "apiVersion": _TEXT, "metadata": _META}


def type_of_schema(schema: Schema, name: str = "object", *, root: bool = False) -> Type | None:
    """The type of what a schema describes, or None where rules cannot see it.

    `root` (a resource, or an embedded one) always has apiVersion, kind, metadata.name and
    metadata.generateName.
    """
    if schema.get("x-kubernetes-int-or-string"):
        return DYN
    if root:
        schema = with_meta(schema)
    kind = schema.get("type")
    if kind == "array":
        items = schema.get("items")
        inner = None if items is None else _below(items, f"{name}.@idx")
        return None if inner is None else list_of(inner)
    if kind == "object":
        extra = schema.get("additionalProperties")
        if isinstance(extra, Mapping):
            inner = _below(extra, f"{name}.@elem")
            return None if inner is None else map_of(STRING, inner)
        return ObjectType(name, _fields(schema, name))
    if kind == "string":
        return FORMATS.get(schema.get("format") or "", STRING)
    return SIMPLE.get(kind or "")


def _below(schema: Schema, name: str) -> Type | None:
    return type_of_schema(schema, name, root=bool(schema.get("x-kubernetes-embedded-resource")))


def _fields(schema: Schema, name: str) -> dict[str, Field]:
    fields = {}
    for key, inner in (schema.get("properties") or {}).items():
        identifier = escape(key)
        type_ = _below(inner, f"{name}.{key}")
        if identifier is not None and type_ is not None:
            fields[identifier] = Field(type_, key)
    return fields


def with_meta(schema: Schema) -> Schema:
    """The schema of a resource, with what every resource has."""
    properties = {**(schema.get("properties") or {}), **_ROOT}
    return {**schema, "type": "object", "properties": properties}


def needs_adapting(schema: Schema) -> bool:
    """Does a value of this schema differ from its JSON (formats, sets, maps) anywhere?"""
    if schema.get("type") == "string":
        return schema.get("format") in FORMATS
    if schema.get("x-kubernetes-list-type") in ("set", "map"):
        return True
    extra = schema.get("additionalProperties")
    parts = [*(schema.get("properties") or {}).values(), schema.get("items"), extra]
    return any(needs_adapting(part) for part in parts if isinstance(part, Mapping))


def adapt(value: Any, schema: Schema) -> Any:
    """The value as its type sees it. Raises EvaluationError for text that is not of its format."""
    if isinstance(value, str):
        return _formatted(value, schema.get("format"))
    if isinstance(value, list):
        items = schema.get("items") or {}
        return _list([adapt(item, items) for item in value], schema)
    if isinstance(value, dict):
        properties = schema.get("properties") or {}
        extra = schema.get("additionalProperties")
        rest: Schema = extra if isinstance(extra, Mapping) else {}
        return {key: adapt(item, properties.get(key, rest)) for key, item in value.items()}
    return value


def _list(items: list[Any], schema: Schema) -> list[Any]:
    kind = schema.get("x-kubernetes-list-type")
    if kind == "set":
        return ListSet(items)
    if kind == "map":
        return ListMap(items, tuple(schema.get("x-kubernetes-list-map-keys") or ()))
    return items


def _formatted(text: str, form: str | None) -> Any:
    if form == "duration":
        return parse_duration(text)
    if form == "date-time":
        return parse_timestamp(text)
    if form == "date":
        return Timestamp(parse_timestamp(f"{text}T00:00:00Z").nanos)
    if form == "byte":
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise EvaluationError(f"byte format value must be base64 encoded: {text}") from None
    return text
