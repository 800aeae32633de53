"""The values of mutations as patches: apply configurations merged by the schema, operations as
JSON."""

from __future__ import annotations

from typing import Any

from sampan.api import schema
from sampan.api.cel.conversions import to_string
from sampan.api.cel.values import Duration, Optional, Timestamp
from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object
from sampan.api.shapes import Shape
from sampan.wire.patcherror import PatchError

from .inputs import Failed

UNTOUCHABLE = ("apiVersion", "kind", "metadata.name", "metadata.namespace", "metadata.generateName",
               "metadata.uid", "metadata.resourceVersion", "metadata.managedFields")  # fmt: skip
"""What identifies an object: an apply configuration may not say it."""


def plain(value: Any) -> Any:
    """A value as JSON. Raises Failed for what has no JSON."""
    if isinstance(value, Optional):
        return plain(value.value) if value.present else None
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, Duration | Timestamp):
        return to_string(value)
    if isinstance(value, bytes):
        raise Failed("bytes cannot be part of an object")
    if value is None or isinstance(value, bool | str | float):
        return value
    if isinstance(value, int):
        return int(value)
    raise Failed(f"a value of type {type(value).__name__} cannot be part of an object")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise Failed("the keys of an object must be strings")
    return key


def operations_of(value: Any) -> list[Object]:
    """The operations of a JSON patch; those without a field leave it out."""
    found = plain(value)
    if not isinstance(found, list):
        raise Failed("the expression does not give a list of operations")
    return found


def applied(before: Object, value: Any, target: Descriptor) -> Object:
    """The object with an apply configuration merged into it: associative lists by their keys, sets
    by value, atomic parts whole. Raises Failed."""
    patch = plain(value)
    if not isinstance(patch, dict):
        raise Failed("the expression does not give an object")
    _refuse_identity(patch)
    merged: Object = merge({"$ref": target.definition}, before, patch)
    return merged


def _refuse_identity(patch: Object) -> None:
    for path in UNTOUCHABLE:
        first, _, second = path.partition(".")
        inner = patch.get(first)
        if inner is not None and (not second or (isinstance(inner, dict) and second in inner)):
            raise Failed(f"invalid ApplyConfiguration: may not mutate {path}")


def merge(shape: Shape, before: Any, after: Any) -> Any:
    """`before` with what `after` says."""
    inner = _resolved(shape)
    atomic = "atomic" in (
        shape.get("x-kubernetes-map-type") or inner.get("x-kubernetes-map-type"),
        shape.get("x-kubernetes-list-type") or inner.get("x-kubernetes-list-type"),
    )
    if isinstance(after, dict):
        if "additionalProperties" not in inner and atomic:
            raise Failed(
                "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs"
            )
        if not isinstance(before, dict) or atomic:
            return after
        properties, extra = inner.get("properties") or {}, inner.get("additionalProperties")
        rest = extra if isinstance(extra, dict) else {}
        out = dict(before)
        for name, item in after.items():
            out[name] = merge(properties.get(name, rest), before.get(name), item)
        return out
    if isinstance(after, list):
        return _merge_list(shape, inner, before, after)
    return after


def _resolved(shape: Shape) -> Shape:
    try:
        return schema.resolve(shape)
    except KeyError:
        # A custom resource: its schema is not among the definitions.
        return {}


def _merge_list(shape: Shape, inner: Shape, before: Any, after: list[Any]) -> list[Any]:
    keys = schema.list_keys(shape) or schema.list_keys(inner)
    kind = shape.get("x-kubernetes-list-type") or inner.get("x-kubernetes-list-type")
    if not isinstance(before, list):
        before = []
    if kind == "set":
        return [*before, *(item for item in after if item not in before)]
    if not keys:
        raise Failed("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs")
    out, places = list(before), {_named(item, keys): at for at, item in enumerate(before)}
    for item in after:
        at = places.get(_named(item, keys))
        if at is None:
            out.append(item)
        else:
            out[at] = merge(inner.get("items") or {}, out[at], item)
    return out


def _named(item: Any, keys: tuple[str, ...]) -> tuple[Any, ...]:
    if not isinstance(item, dict):
        raise PatchError("an item of an associative list is no object")
    return tuple(str(item.get(key, "")) for key in keys)
