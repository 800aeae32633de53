"""Defaults that a schema gives must be valid by the schema itself (apiextensions-apiserver
schema/defaulting/validation)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sampan.api.errors import Cause, Object
from sampan.api.fields import invalid

from .embedded import validate_embedded
from .listtypes import list_checker
from .prune import pruner
from .validate import ABSENT, NOWHERE, validator
from .values import same

META = frozenset({"apiVersion", "kind", "metadata"})


def check_defaults(schema: Object, path: str) -> list[Cause]:
    """Complaints about defaults anywhere in a structural schema."""
    return list(_walk(schema, path, True))


def _walk(schema: Any, path: str, root: bool) -> Iterator[Cause]:
    if not isinstance(schema, dict):
        return
    if schema.get("default") is not None:
        yield from _check(schema, f"{path}.default")
    for name, inner in (schema.get("properties") or {}).items():
        if root and name in META:
            continue
        yield from _walk(inner, f"{path}.properties[{name}]", False)
    for key in ("items", "additionalProperties"):
        yield from _walk(schema.get(key), f"{path}.{key}", False)


def _check(schema: Object, path: str) -> Iterator[Cause]:
    value = schema["default"]
    if isinstance(value, dict | list):
        # The pruner takes objects for roots; the default stands for a field.
        holder = pruner({"properties": {"default": {**schema, "nullable": True}}})
        pruned = holder({"default": value}, None, [])["default"]
        if not same(pruned, value):
            yield invalid(path, value, "must not have unknown fields")
    out: list[Cause] = []
    validator(schema)(value, ABSENT, None, out)
    lists = list_checker(schema)
    if lists is not None and not out:
        out += lists(value)
    if not out and isinstance(value, dict):
        out += validate_embedded(schema, value, None)
    for cause in out:
        below = "" if cause.path in ("", NOWHERE) else f".{cause.path}"
        yield Cause(f"{path}{below}", cause.text, cause.reason)
