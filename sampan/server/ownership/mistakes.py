"""Values of another type than their schema's, in the words of upstream's structured-merge-diff
(typed/validate.go): what server-side apply says of `enabled: true` in a ConfigMap's data.

Asked only when a configuration was refused already: whoever applies what is fine pays nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from sampan.api import schema
from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object

from ..gotext import go_syntax, go_text, go_type
from .fieldsets import path_text
from .plans import META, Shape, key_defaults, list_kind

UNTYPED = "untyped"
"""Quantities, times and the like: any scalar will do for now."""


def mistakes_in(resource: Descriptor, config: Object) -> list[str]:
    """What is of a wrong type in a configuration, each with its path."""
    structure = resource.structure
    if structure is None:
        return list(_value({"$ref": resource.definition}, config, ""))
    shape = structure.schema
    properties = {**(shape.get("properties") or {}), "metadata": {"$ref": META}}
    return list(_value({**shape, "type": "object", "properties": properties}, config, ""))


def _value(shape: Shape, value: Any, path: str) -> Iterator[str]:
    if value is None:
        return
    shape = schema.resolve(dict(shape))
    kind = _kind(shape)
    if kind == "array":
        yield from _list(shape, value, path)
    elif kind == "object":
        yield from _map(shape, value, path)
    elif kind is not None and (why := _scalar(kind, value)):
        yield f"{path}: {why}"


def _kind(shape: Shape) -> str | None:
    """What the schema asks for; None where it leaves it open."""
    kind = shape.get("type")
    if ("oneOf" in shape and kind is None) or shape.get("x-kubernetes-int-or-string"):
        return UNTYPED
    if kind == "object" and not (shape.get("properties") or shape.get("additionalProperties")):
        return None
    if kind == "string" and shape.get("format") not in (None, "", "byte"):
        return UNTYPED
    return kind


def _list(shape: Shape, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{path}: expected list, got {_shown(value)}"
        return
    items = shape.get("items") or {}
    how, keys = list_kind(shape)
    for position, item in enumerate(value):
        step = f"i:{position}"
        if how == "map" and isinstance(item, dict):
            named = {**key_defaults(items, keys), **item}
            named = {key: named[key] for key in keys if named[key] is not None}
            step = f"k:{orjson.dumps(named).decode()}" if named else step
        elif how == "set":
            step = f"v:{orjson.dumps(item).decode()}"
        yield from _value(items, item, path + path_text((step,)))


def _map(shape: Shape, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: expected map, got {_shown(value)}"
        return
    named, rest = shape.get("properties") or {}, shape.get("additionalProperties")
    for name, item in value.items():
        inner = named.get(name, rest)
        if isinstance(inner, Mapping):
            yield from _value(inner, item, f"{path}.{name}")


def _scalar(kind: str, value: Any) -> str:
    """Why a value is none of this kind, "" if it is one."""
    if kind in ("integer", "number"):
        fine = isinstance(value, int | float) and not isinstance(value, bool)
        return "" if fine else f"expected numeric (int or float), got {go_type(value)}"
    if kind == "string":
        shown = f"&value.valueUnstructured{{Value:{go_syntax(value)}}}"
        return "" if isinstance(value, str) else f"expected string, got {shown}"
    if kind == "boolean":
        return "" if isinstance(value, bool) else f"expected boolean, got {_shown(value)}"
    fine = isinstance(value, str | int | float)
    return "" if fine else f"expected any scalar, got {_shown(value)}"


def _shown(value: Any) -> str:
    return f"&{{{go_text(value)}}}"
