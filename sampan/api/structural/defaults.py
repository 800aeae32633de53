"""Defaulting: what a schema gives to absent fields, and to nulls where none may be
(apiextensions-apiserver schema/defaulting).

A schema without any default compiles to None, so that most objects are not even walked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orjson import dumps, loads

Default = Callable[[Any], None]


def defaulter(schema: Any) -> Default | None:
    """Sets defaults in place, on a value that is the caller's own; None when there are none."""
    if not isinstance(schema, dict):
        return None
    members, items = _members(schema), _element(schema.get("items"))
    if members is None and items is None:
        return None

    def default(value: Any) -> None:
        if type(value) is dict:
            if members is not None:
                members(value)
        elif type(value) is list and items is not None:
            for position, item in enumerate(value):
                value[position] = items(item)

    return default


def _members(schema: dict[str, Any]) -> Default | None:
    """Defaults of an object's fields."""
    properties = schema.get("properties") or {}
    given = [
        (name, dumps(inner["default"]), bool(inner.get("nullable")))
        for name, inner in properties.items()
        if inner.get("default") is not None
    ]
    below = [
        (name, inside)
        for name, inner in properties.items()
        if (inside := defaulter(inner)) is not None
    ]
    more = _element(schema.get("additionalProperties"))
    if not given and not below and more is None:
        return None
    named = frozenset(properties)

    def default(value: dict[str, Any]) -> None:
        for name, text, nullable in given:
            if name not in value or (value[name] is None and not nullable):
                value[name] = loads(text)
        for name, inside in below:
            if name in value:
                inside(value[name])
        if more is not None:
            for name in value.keys() - named:
                value[name] = more(value[name])

    return default


def _element(schema: Any) -> Callable[[Any], Any] | None:
    """Defaults of the items of a list or map; nulls become the default where they may not be."""
    if not isinstance(schema, dict):
        return None
    inside = defaulter(schema)
    fallback = schema.get("default")
    text = None if fallback is None or schema.get("nullable") else dumps(fallback)
    if inside is None and text is None:
        return None

    def fill(item: Any) -> Any:
        if item is None and text is not None:
            item = loads(text)
        if inside is not None:
            inside(item)
        return item

    return fill
