"""The values of mutations as patches: apply configurations merged by the schema, operations as
JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sampan.api import schema
from sampan.api.cel.conversions import to_string
from sampan.api.cel.values import Duration, Optional, Timestamp
from sampan.api.checks import META
from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object
from sampan.api.shapes import Shape
from sampan.wire.patcherror import PatchError

from .inputs import Failed

UNTOUCHABLE = ("apiVersion", "kind", "metadata.name", "metadata.namespace", "metadata.generateName",
               "metadata.uid", "metadata.resourceVersion", "metadata.managedFields")  # fmt: skip
"""What identifies an object: an apply configuration may not say it."""
ROOT = ("apiVersion", "kind", "metadata")


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
    shape = _shape_of(target)
    unknown = list(_undeclared(shape, patch, ""))
    if unknown:
        where = " ".join(unknown)
        why = f"failed to convert patch object to typed object: {where}"
        raise Failed(f"error applying patch: {why}")
    atomic = list(_atomics(shape, patch, ""))
    if atomic:
        raise Failed(
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps "
            f"or structs: {', '.join(atomic)}"
        )
    merged: Object = merge(shape, before, patch)
    return merged


def _shape_of(target: Descriptor) -> Shape:
    """The schema of a kind; a custom resource's is its definition's, with the metadata that every
    object has."""
    if target.structure is None:
        return {"$ref": target.definition}
    own = target.structure.schema
    properties = {**(own.get("properties") or {}), "metadata": {"$ref": f"{META}ObjectMeta"}}
    return {**own, "properties": properties}


def _refuse_identity(patch: Object) -> None:
    for path in UNTOUCHABLE:
        first, _, second = path.partition(".")
        inner = patch.get(first)
        if inner is not None and (not second or (isinstance(inner, dict) and second in inner)):
            raise Failed(f"invalid ApplyConfiguration: may not mutate {path}")


def _undeclared(shape: Shape, value: Any, path: str) -> Iterator[str]:
    """Complaints about fields that the schema does not have, in structured-merge-diff's words."""
    inner = schema.resolve(shape)
    if isinstance(value, list):
        for position, item in enumerate(value):
            yield from _undeclared(inner.get("items") or {}, item, f"{path}[{position}]")
    elif isinstance(value, dict):
        properties, extra = inner.get("properties") or {}, inner.get("additionalProperties")
        strict = properties and not extra and not inner.get("x-kubernetes-preserve-unknown-fields")
        for name, item in value.items():
            if name in properties:
                yield from _undeclared(properties[name], item, f"{path}.{name}")
            elif strict and (path or name not in ROOT):
                yield f"{path}.{name}: field not declared in schema"
            elif isinstance(extra, dict):
                yield from _undeclared(extra, item, f"{path}.{name}")


def _atomics(shape: Shape, value: Any, path: str) -> Iterator[str]:
    """Where a value has parts that can only be replaced whole: an author who means to add to them
    would wipe out the rest."""
    inner = schema.resolve(shape)
    if isinstance(value, list):
        if not _is_associative(shape, inner) and "items" in inner:
            yield path
        for position, item in enumerate(value):
            yield from _atomics(inner.get("items") or {}, item, f"{path}[{position}]")
    elif isinstance(value, dict):
        if "atomic" in (shape.get("x-kubernetes-map-type"), inner.get("x-kubernetes-map-type")):
            yield path
        properties = inner.get("properties") or {}
        for name, item in value.items():
            if name in properties:
                yield from _atomics(properties[name], item, f"{path}.{name}")


def _is_associative(shape: Shape, inner: Shape) -> bool:
    kind = shape.get("x-kubernetes-list-type") or inner.get("x-kubernetes-list-type")
    return kind in ("map", "set")


def merge(shape: Shape, before: Any, after: Any) -> Any:
    """`before` with what `after` says."""
    inner = schema.resolve(shape)
    if isinstance(after, dict):
        if not isinstance(before, dict):
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


def _merge_list(shape: Shape, inner: Shape, before: Any, after: list[Any]) -> list[Any]:
    keys = schema.list_keys(shape) or schema.list_keys(inner)
    kind = shape.get("x-kubernetes-list-type") or inner.get("x-kubernetes-list-type")
    if not isinstance(before, list):
        before = []
    if kind == "set":
        return [*before, *(item for item in after if item not in before)]
    if not keys:
        # Free forms have no schema, and what has none is replaced.
        return after
    items: Shape = inner.get("items") or {}
    # A key that is left out counts as its default, which both sides may rely on.
    properties = schema.resolve(items).get("properties") or {}
    named = [(key, (properties.get(key) or {}).get("default", "")) for key in keys]
    out, places = list(before), {_named(item, named): at for at, item in enumerate(before)}
    for item in after:
        at = places.get(_named(item, named))
        if at is None:
            out.append(item)
        else:
            out[at] = merge(items, out[at], item)
    return out


def _named(item: Any, keys: Sequence[tuple[str, Any]]) -> tuple[Any, ...]:
    if not isinstance(item, dict):
        raise PatchError("an item of an associative list is no object")
    return tuple(str(item.get(key, default)) for key, default in keys)
