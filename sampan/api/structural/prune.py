"""Pruning: unknown fields are left out, and nulls where the schema has no place for them
(apiextensions-apiserver schema/pruning, schema/defaulting).

The input is never changed; what is clean is returned itself. Properties are compiled when they
are first seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sampan.api.errors import Object

from .paths import Path, text

Prune = Callable[[Any, Path, list[str]], Any]

META_FIELDS = frozenset({"apiVersion", "kind", "metadata"})
MAX_PROBLEMS = 100
"""Unknown fields reported per object, as for built-in kinds."""


def pruner(schema: Object) -> Prune:
    """Prunes whole objects: (object, None, problems) -> pruned object. What is left out is added
    to `problems` as `unknown field "spec.x"`. The root's own metadata is left alone."""
    return _compile({**schema, "x-kubernetes-embedded-resource": True})


def _unknown(path: Path, problems: list[str]) -> None:
    if len(problems) < MAX_PROBLEMS:
        problems.append(f'unknown field "{text(path)}"')


def _keep(value: Any, path: Path, problems: list[str]) -> Any:
    return value


def _bare(value: Any, path: Path, problems: list[str]) -> Any:
    """What no schema describes: of objects nothing stays, lists are looked into."""
    if type(value) is dict:
        for name in value:
            _unknown((path, name), problems)
        return {} if value else value
    if type(value) is list:
        return _items(value, _bare, path, problems)
    return value


def _compile(schema: Any) -> Prune:
    if not isinstance(schema, dict):
        # additionalProperties: true says nothing of what is inside.
        return _bare
    preserve = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    properties = schema.get("properties") or {}
    more = schema.get("additionalProperties")
    items = schema.get("items")
    embedded = bool(schema.get("x-kubernetes-embedded-resource"))
    if preserve and not properties and not isinstance(more, dict) and items is None:
        return _keep
    fields = _Fields(properties, more, embedded, preserve)
    each = _compile(items) if items is not None else _keep if preserve else _bare

    def prune(value: Any, path: Path, problems: list[str]) -> Any:
        kind = type(value)
        if kind is dict:
            return _members(value, fields, path, problems)
        if kind is list:
            return _items(value, each, path, problems)
        return value

    return prune


class _Fields(dict[str, Any]):
    """Pruners by field name: None for a field that is left out, else (pruner, may be null)."""

    __slots__ = ("_embedded", "_more", "_preserve", "_properties")

    def __init__(self, properties: Object, more: Any, embedded: bool, preserve: bool) -> None:
        self._properties = properties
        self._more = None if more is None or more is False else _entry(more)
        self._embedded = embedded
        self._preserve = preserve

    def __missing__(self, name: str) -> Any:
        if self._embedded and name in META_FIELDS:
            return self.setdefault(name, (_keep, True))
        if name in self._properties:
            return self.setdefault(name, _entry(self._properties[name]))
        # Not remembered: these are the client's own names, any number of them.
        if self._more is not None:
            return self._more
        return (_keep, True) if self._preserve else None


def _entry(schema: Any) -> tuple[Prune, bool]:
    if not isinstance(schema, dict):
        return _bare, True
    return _compile(schema), bool(schema.get("nullable")) or "default" in schema


def _members(value: Object, fields: _Fields, path: Path, problems: list[str]) -> Object:
    changed: dict[str, Any] | None = None
    gone: list[str] | None = None
    for name, item in value.items():
        entry = fields[name]
        if entry is None:
            _unknown((path, name), problems)
            gone = [name] if gone is None else [*gone, name]
        elif item is None:
            if not entry[1]:
                gone = [name] if gone is None else [*gone, name]
        else:
            kept = entry[0](item, (path, name), problems)
            if kept is not item:
                changed = changed or {}
                changed[name] = kept
    if changed is None and gone is None:
        return value
    out = value | changed if changed else dict(value)
    for name in gone or ():
        del out[name]
    return out


def _items(value: list[Any], each: Prune, path: Path, problems: list[str]) -> list[Any]:
    if each is _keep:
        return value
    out: list[Any] | None = None
    for position, item in enumerate(value):
        kept = each(item, (path, position), problems)
        if kept is not item:
            out = list(value) if out is None else out
            out[position] = kept
    return value if out is None else out
