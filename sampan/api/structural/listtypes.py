"""Sets and associative lists hold no duplicates (apiextensions-apiserver schema/listtype)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sampan.api.errors import Cause, Object
from sampan.api.fields import duplicate, invalid

from .paths import Path, text
from .values import go_json

Walk = Callable[[Any, Path, list[Cause]], None]


def list_checker(schema: Object) -> Callable[[Object], list[Cause]] | None:
    """Checks the lists of whole objects; None for a schema that has nothing to check."""
    walk = _compile(schema)
    if walk is None:
        return None

    def check(obj: Object) -> list[Cause]:
        out: list[Cause] = []
        walk(obj, None, out)
        return out

    return check


def _compile(schema: Any) -> Walk | None:
    if not isinstance(schema, dict):
        return None
    below = {
        name: found
        for name, inner in (schema.get("properties") or {}).items()
        if (found := _compile(inner)) is not None
    }
    more = _compile(schema.get("additionalProperties"))
    each = _compile(schema.get("items"))
    unique = _unique(schema)
    if not below and more is None and each is None and unique is None:
        return None
    named = schema.get("properties") or {}

    def walk(value: Any, path: Path, out: list[Cause]) -> None:
        if type(value) is dict:
            for name, item in value.items():
                inside = below.get(name) if name in named else more
                if inside is not None:
                    inside(item, (path, name), out)
        elif type(value) is list:
            if unique is not None:
                unique(value, path, out)
            if each is not None:
                for position, item in enumerate(value):
                    each(item, (path, position), out)

    return walk


def _unique(schema: Object) -> Walk | None:
    kind = schema.get("x-kubernetes-list-type")
    if kind == "set":
        return _unique_items
    if kind != "map":
        return None
    keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
    properties = (schema.get("items") or {}).get("properties") or {}
    fallbacks = {key: (properties.get(key) or {}).get("default") for key in keys}

    def unique_keys(value: list[Any], path: Path, out: list[Cause]) -> None:
        seen: set[str] = set()
        for position, item in enumerate(value):
            if not isinstance(item, dict):
                out.append(
                    invalid(
                        text((path, position)),
                        item,
                        "must be an object for an array of list-type map",
                    )
                )
                continue
            named = {key: item.get(key, fallbacks[key]) for key in keys}
            mark = go_json({key: value for key, value in named.items() if value is not None})
            if mark in seen:
                shown = {key: value for key, value in named.items() if value is not None}
                out.append(duplicate(text((path, position)), shown))
            seen.add(mark)

    return unique_keys


def _unique_items(value: list[Any], path: Path, out: list[Cause]) -> None:
    seen: set[str] = set()
    for position, item in enumerate(value):
        mark = go_json(item)
        if mark in seen:
            out.append(duplicate(text((path, position)), item))
        seen.add(mark)
