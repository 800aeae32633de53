"""The schema, by what it is asked for: rows of resources, decoding, and how fields merge.

Strategic merge patch and server-side apply need to know how a list or map merges; `merge_of` gives
that as the lookup `wire.strategic` takes, and `list_keys` the keys of an associative list.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sampan.wire.strategic import Lookup, Merge, free_form, strategic_merge

from .decoding import Decoded, cannot_handle, decode, unrecognized
from .errors import Object
from .shapes import Shape, definition_of, definitions, read_descriptions, resource_rows

__all__ = [
    "Decoded",
    "Shape",
    "cannot_handle",
    "decode",
    "definition_of",
    "definitions",
    "list_keys",
    "merge_info",
    "merge_of",
    "read_descriptions",
    "resolve",
    "resource_rows",
    "shape_at",
    "strategic_patch",
    "unrecognized",
]


def resolve(shape: Shape) -> Shape:
    """The shape a `$ref` stands for; any other shape as it is."""
    return definitions()[shape["$ref"]] if "$ref" in shape else shape


def shape_at(definition: str, *path: str) -> Shape | None:
    """The shape of the field at `path` (lists and maps are stepped into), with its own merge
    keys; None when there is no such field."""
    shape: Shape = {"$ref": definition}
    for name in path:
        inner = _step(resolve(shape)).get("properties", {}).get(name)
        if inner is None:
            return None
        shape = inner
    return shape


def _step(shape: Shape) -> Shape:
    """Below lists and maps to what their elements are."""
    while "items" in shape or "additionalProperties" in shape:
        shape = resolve(shape.get("items") or shape["additionalProperties"])
    return shape


@cache
def merge_of(definition: str) -> Lookup:
    """How the fields of a definition merge, for `wire.strategic`."""
    return _lookup({"$ref": definition})


def strategic_patch(obj: Object, patch: Any, definition: str) -> Object:
    """`wire.strategic.strategic_merge` by the schema of a definition. Raises PatchError."""
    return strategic_merge(obj, patch, merge_of(definition))


def merge_info(definition: str, *path: str) -> Merge | None:
    """How the field at `path` merges; None when there is no such field."""
    shape = shape_at(definition, *path)
    return None if shape is None else _merge(shape)


def list_keys(shape: Shape) -> tuple[str, ...]:
    """The keys that name an item of an associative list; () for every other shape."""
    if shape.get("x-kubernetes-list-type") != "map":
        return ()
    return tuple(shape.get("x-kubernetes-list-map-keys", ()))


def _lookup(shape: Shape) -> Lookup:
    """How what lies below a value merges; a list stands for its items."""
    shape = resolve(shape)
    if "items" in shape:
        return _lookup(shape["items"])
    if "additionalProperties" in shape:
        inner = _merge(shape["additionalProperties"])
        return lambda name: inner
    properties = shape.get("properties")
    if properties is None:
        return free_form
    known: dict[str, Merge | None] = {}

    def find(name: str) -> Merge | None:
        if name not in known:
            prop = properties.get(name)
            known[name] = None if prop is None else _merge(prop)
        return known[name]

    return find


def _merge(shape: Shape) -> Merge:
    strategies = shape.get("x-kubernetes-patch-strategy", "").split(",")
    return Merge(
        strategy=next((item for item in strategies if item in ("merge", "replace")), ""),
        key=shape.get("x-kubernetes-patch-merge-key", ""),
        below=cache(lambda: _lookup(shape)),
    )
