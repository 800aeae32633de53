"""Is all that a schema says allowed? (apiextensions-apiserver apis/apiextensions/validation, for
apiextensions.k8s.io/v1)"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from sampan.api.errors import Cause, Object
from sampan.api.fields import forbidden, invalid, not_supported, required

TYPES = ("array", "boolean", "integer", "number", "object", "string")
NOT_SUPPORTED = ("id", "additionalItems", "patternProperties", "definitions", "dependencies",
                 "$ref")  # fmt: skip
LIST_TYPES = ("atomic", "set", "map")
META = frozenset({"apiVersion", "kind", "metadata"})


class Around(NamedTuple):
    """What the schemas above one say of it."""

    no_default: str = ""
    """Why it may have no default."""
    in_meta: bool = False
    """Is it of the metadata, the kind or the version of an object?"""


def check_allowed(schema: Object, path: str) -> list[Cause]:
    """Complaints about keywords that v1 does not allow, anywhere in a schema."""
    return list(_allowed(schema, path, Around(), root=True))


def _allowed(schema: Object, path: str, around: Around, *, root: bool = False) -> Iterator[Cause]:
    yield from _keywords(schema, path, around)
    more, items = schema.get("additionalProperties"), schema.get("items")
    if more is not None and schema.get("properties") and more is not True:
        why = "additionalProperties and properties are mutual exclusive"
        yield forbidden(f"{path}.additionalProperties", why)
    if isinstance(more, dict):
        why = "inside additionalProperties applying to object metadata"
        inside = around._replace(no_default=why) if around.in_meta else around
        yield from _allowed(more, f"{path}.additionalProperties", inside)
    for name, inner in (schema.get("properties") or {}).items():
        inside = around
        if name in META and (root or schema.get("x-kubernetes-embedded-resource")):
            why = f"in top-level {name}" if root else around.no_default
            inside = Around(why, in_meta=True)
        yield from _allowed(inner, f"{path}.properties[{name}]", inside)
    if schema.get("not") is not None:
        yield from _allowed(schema["not"], f"{path}.not", around)
    for key in ("allOf", "oneOf", "anyOf"):
        for position, inner in enumerate(schema.get(key) or ()):
            yield from _allowed(inner, f"{path}.{key}[{position}]", around)
    if isinstance(items, dict):
        yield from _allowed(items, f"{path}.items", around)
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        where = f"{path}.x-kubernetes-preserve-unknown-fields"
        yield invalid(where, False, "must be true or undefined")
    yield from _maps(schema, path)
    yield from _lists(schema, path)


def _keywords(schema: Object, path: str, around: Around) -> Iterator[Cause]:
    kind = schema.get("type")
    if kind and kind not in TYPES:
        yield not_supported(f"{path}.type", kind, TYPES)
    if schema.get("default") is not None and around.no_default:
        yield forbidden(f"{path}.default", f"must not be set {around.no_default}")
    for name in NOT_SUPPORTED:
        if schema.get(name) not in (None, "", {}, []):
            yield forbidden(f"{path}.{name}", f"{name} is not supported")
    if kind == "null":
        why = "type cannot be set to null, use nullable as an alternative"
        yield forbidden(f"{path}.type", why)
    if isinstance(schema.get("items"), list):
        yield forbidden(f"{path}.items", "items must be a schema object and not an array")
    if around.in_meta and schema.get("x-kubernetes-embedded-resource"):
        why = "must not be used inside of resource meta"
        yield forbidden(f"{path}.x-kubernetes-embedded-resource", why)
    if schema.get("uniqueItems"):
        why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        yield forbidden(f"{path}.uniqueItems", why)


def _typed(schema: Object, path: str, kind: str, extension: str) -> Iterator[Cause]:
    given = schema.get("type")
    if given != kind:
        why = f"must be {kind} if {extension} is specified"
        yield invalid(f"{path}.type", given, why) if given else required(f"{path}.type", why)


def _maps(schema: Object, path: str) -> Iterator[Cause]:
    kind = schema.get("x-kubernetes-map-type")
    if kind is None:
        return
    yield from _typed(schema, path, "object", "x-kubernetes-map-type")
    if kind not in ("atomic", "granular"):
        yield not_supported(f"{path}.x-kubernetes-map-type", kind, ("atomic", "granular"))


def _lists(schema: Object, path: str) -> Iterator[Cause]:
    kind, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys")
    where, items = f"{path}.x-kubernetes-list-type", schema.get("items")
    if kind is not None:
        if schema.get("type") != "array":
            yield from _typed(schema, path, "array", "x-kubernetes-list-type")
        elif kind == "set" and isinstance(items, dict):
            yield from _set_items(items, f"{path}.items")
        if kind not in LIST_TYPES:
            yield not_supported(where, kind, LIST_TYPES)
    if keys and kind != "map":
        why = "must be map if x-kubernetes-list-map-keys is non-empty"
        yield required(where, why) if kind is None else invalid(where, kind, why)
    if kind == "map":
        yield from _map_list(items, keys or [], path)
    if kind in ("map", "set") and isinstance(items, dict):
        if items.get("nullable"):
            why = f"cannot be nullable when x-kubernetes-list-type is {kind}"
            yield forbidden(f"{path}.items.nullable", why)
        if kind == "map":
            yield from _map_keys(items, keys or [], path)


def _set_items(items: Object, path: str) -> Iterator[Cause]:
    why = "must be atomic as item of a list with x-kubernetes-list-type=set"
    kind, listed = items.get("type"), items.get("x-kubernetes-list-type")
    if kind == "array" and listed not in (None, "atomic"):
        yield invalid(f"{path}.x-kubernetes-list-type", listed, why)
    if kind == "object" and items.get("x-kubernetes-map-type") != "atomic":
        # Upstream shows the list type here.
        yield invalid(f"{path}.x-kubernetes-map-type", listed, why)


def _map_list(items: Any, keys: list[str], path: str) -> Iterator[Cause]:
    where = f"{path}.x-kubernetes-list-map-keys"
    if not keys:
        yield required(where, "must not be empty if x-kubernetes-list-type is map")
    if items is None:
        why = "must have a schema if x-kubernetes-list-type is map"
        yield required(f"{path}.items", why)
    elif not isinstance(items, dict):
        why = "must only have a single schema if x-kubernetes-list-type is map"
        yield invalid(f"{path}.items", items, why)
    elif items.get("type") != "object":
        why = "must be object if parent array's x-kubernetes-list-type is map"
        yield invalid(f"{path}.items.type", items.get("type") or "", why)
    else:
        yield from _named_keys(items, keys, path)


def _named_keys(items: Object, keys: list[str], path: str) -> Iterator[Cause]:
    where, properties = f"{path}.x-kubernetes-list-map-keys", items.get("properties") or {}
    for position, key in enumerate(keys):
        found = properties.get(key)
        if found is None:
            yield invalid(where, keys, "entries must all be names of item properties")
        elif found.get("type") in ("array", "object"):
            why = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            # Upstream shows the items' type here.
            yield invalid(f"{path}.items.properties[{key}].type", items["type"], why)
        if key in keys[:position]:
            yield invalid(where, keys, "must not contain duplicate entries")


def _map_keys(items: Object, keys: list[str], path: str) -> Iterator[Cause]:
    listed = "this property is in x-kubernetes-list-map-keys, so it"
    for key in keys:
        found = (items.get("properties") or {}).get(key)
        if found is None:
            continue
        place = f"{path}.items.properties[{key}]"
        if found.get("default") is None and key not in (items.get("required") or ()):
            why = f"{listed} must have a default or be a required property"
            yield required(f"{place}.default", why)
        if found.get("nullable"):
            yield forbidden(f"{place}.nullable", f"{listed} cannot be nullable")
