"""Is a schema structural, and is all it says allowed? (apiextensions-apiserver schema/validation,
schema/complete and apis/apiextensions/validation, for apiextensions.k8s.io/v1)"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sampan.api.errors import Cause, Object
from sampan.api.fields import forbidden, invalid, not_supported, required

from .patterns import problem

TYPES = ("array", "boolean", "integer", "number", "object", "string")
NOT_SUPPORTED = ("id", "additionalItems", "patternProperties", "definitions", "dependencies",
                 "$ref")  # fmt: skip
INT_OR_STRING_ANY_OF = [{"type": "integer"}, {"type": "string"}]
META = frozenset({"apiVersion", "kind", "metadata"})
FORBIDDEN_INSIDE = {
    "type": "must be empty to be structural",
    "additionalProperties": "must be undefined to be structural",
    "default": "must be undefined to be structural",
    "title": "must be empty to be structural",
    "description": "must be empty to be structural",
    "nullable": "must be false to be structural",
    "externalDocs": "must be undefined to be structural",
    "x-kubernetes-preserve-unknown-fields": "must be false to be structural",
    "x-kubernetes-embedded-resource": "must be false to be structural",
    "x-kubernetes-int-or-string": "must be false to be structural",
    "x-kubernetes-list-map-keys": "must be empty to be structural",
    "x-kubernetes-list-type": "must be undefined to be structural",
    "x-kubernetes-map-type": "must be undefined to be structural",
    "x-kubernetes-validations": "must be empty to be structural",
}
"""What a schema below allOf, anyOf, oneOf or not may not say, and why."""
MISSING_TYPE = {
    "root": "must not be empty at the root",
    "item": "must not be empty for specified array items",
    "field": "must not be empty for specified object fields",
}


def check_structural(schema: Object, path: str) -> list[Cause]:
    """Complaints about a schema that is not structural, sorted as upstream sorts them."""
    causes = [*_invariants(schema, "root", path), *_completeness(schema, schema, path, path)]
    return sorted(causes, key=str)


def _invariants(schema: Object, level: str, path: str) -> Iterator[Cause]:
    items, more = schema.get("items"), schema.get("additionalProperties")
    if schema.get("type") == "array" and items is None:
        yield required(f"{path}.items", "must be specified")
    if isinstance(items, dict):
        yield from _invariants(items, "item", f"{path}.items")
    for name, inner in (schema.get("properties") or {}).items():
        yield from _invariants(inner, "field", f"{path}.properties[{name}]")
    if more is not None:
        if level == "root":
            yield forbidden(f"{path}.additionalProperties", "must not be used at the root")
        if isinstance(more, dict):
            yield from _invariants(more, "field", f"{path}.additionalProperties")
    yield from _extensions(schema, path)
    yield from _values(schema, path, *_patterns(schema))
    yield from _type(schema, level, path)
    yield from _metadata(schema, level, path)


def _patterns(schema: Object) -> tuple[bool, bool]:
    """The two ways of saying int-or-string that may speak of types."""
    every = schema.get("allOf") or [{}]
    return (
        schema.get("anyOf") == INT_OR_STRING_ANY_OF,
        every[0].get("anyOf") == INT_OR_STRING_ANY_OF,
    )


def _extensions(schema: Object, path: str) -> Iterator[Cause]:
    if schema.get("x-kubernetes-int-or-string"):
        why = "must be false if x-kubernetes-int-or-string is true"
        for name in ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"):
            if schema.get(name):
                yield invalid(f"{path}.{name}", True, why)


def _type(schema: Object, level: str, path: str) -> Iterator[Cause]:
    kind, embedded = schema.get("type"), schema.get("x-kubernetes-embedded-resource")
    preserve = schema.get("x-kubernetes-preserve-unknown-fields")
    if embedded and kind != "object":
        why = "must be object if x-kubernetes-embedded-resource is true"
        yield invalid(f"{path}.type", kind, why) if kind else required(f"{path}.type", why)
    elif not kind and not schema.get("x-kubernetes-int-or-string") and not preserve:
        yield required(f"{path}.type", MISSING_TYPE[level])
    if embedded and schema.get("additionalProperties") is not None:
        why = "must not be used if x-kubernetes-embedded-resource is set"
        yield forbidden(f"{path}.additionalProperties", why)
    if level == "root" and kind and kind != "object":
        yield invalid(f"{path}.type", kind, "must be object at the root")
    if embedded and not preserve and not schema.get("properties"):
        why = (
            "must not be empty if x-kubernetes-embedded-resource is true without "
            "x-kubernetes-preserve-unknown-fields"
        )
        yield required(f"{path}.properties", why)


def _metadata(schema: Object, level: str, path: str) -> Iterator[Cause]:
    properties = schema.get("properties") or {}
    if level == "root" or schema.get("x-kubernetes-embedded-resource"):
        for name, kind in (("kind", "string"), ("apiVersion", "string"), ("metadata", "object")):
            found = properties.get(name)
            if found is not None and found.get("type") != kind:
                given = found.get("type") or ""
                yield invalid(f"{path}.properties[{name}].type", given, f"must be {kind}")
    meta = properties.get("metadata")
    if level == "root" and meta is not None:
        named = (meta.get("properties") or {}).keys() <= {"name", "generateName"}
        said = meta.keys() - {"type", "properties", "default"}
        if not named or said:
            why = (
                "must not specify anything other than name and generateName, but metadata is "
                "implicitly specified"
            )
            yield forbidden(f"{path}.properties[metadata]", why)


def _values(schema: Object, path: str, skip_any: bool, skip_all_any: bool) -> Iterator[Cause]:
    if not skip_any:
        for position, inner in enumerate(schema.get("anyOf") or ()):
            yield from _nested(inner, f"{path}.anyOf[{position}]")
    for position, inner in enumerate(schema.get("allOf") or ()):
        first = skip_all_any and position == 0
        yield from _nested(inner, f"{path}.allOf[{position}]", skip_any=first)
    for position, inner in enumerate(schema.get("oneOf") or ()):
        yield from _nested(inner, f"{path}.oneOf[{position}]")
    if schema.get("not") is not None:
        yield from _nested(schema["not"], f"{path}.not")
    if schema.get("pattern"):
        why = problem(schema["pattern"])
        if why:
            text = f"must be a valid regular expression, but isn't: {why}"
            yield invalid(f"{path}.pattern", schema["pattern"], text)


def _nested(schema: Object, path: str, *, skip_any: bool = False) -> Iterator[Cause]:
    yield from _values(schema, path, skip_any, False)
    if isinstance(schema.get("items"), dict):
        yield from _nested(schema["items"], f"{path}.items")
    for name, inner in (schema.get("properties") or {}).items():
        yield from _nested(inner, f"{path}.properties[{name}]")
    for name, why in FORBIDDEN_INSIDE.items():
        if schema.get(name) not in (None, "", False, []):
            yield forbidden(f"{path}.{name}", why)
    if "metadata" in (schema.get("properties") or {}):
        yield forbidden(f"{path}.properties[metadata]", "must not be specified in a nested context")


def _completeness(values: Object, schema: Any, path: str, where: str) -> Iterator[Cause]:
    """What junctors speak of must be specified outside of them too."""
    nested = [
        (inner, f"{where}.{key}[{position}]")
        for key in ("allOf", "anyOf", "oneOf")
        for position, inner in enumerate(values.get(key) or ())
    ]
    if values.get("not") is not None:
        nested.append((values["not"], f"{where}.not"))
    for inner, place in nested:
        yield from _complete(inner, schema, path, place)
    if values is not schema:
        return
    for name, inner in (schema.get("properties") or {}).items():
        inside = f"{path}.properties[{name}]"
        yield from _completeness(inner, inner, inside, inside)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            inside = f"{path}.{key}"
            yield from _completeness(schema[key], schema[key], inside, inside)


def _complete(nested: Object, schema: Any, path: str, where: str) -> Iterator[Cause]:
    if not isinstance(schema, dict):
        yield required(path, f"because it is defined in {where}")
        return
    yield from _completeness(nested, schema, path, where)
    if isinstance(nested.get("items"), dict):
        inside = schema.get("items")
        yield from _complete(nested["items"], inside, f"{path}.items", f"{where}.items")
    known = schema.get("properties") or {}
    for name, inner in (nested.get("properties") or {}).items():
        step = f".properties[{name}]"
        yield from _complete(inner, known.get(name), path + step, where + step)


# What a schema may say at all.


def check_allowed(schema: Object, path: str) -> list[Cause]:
    """Complaints about keywords that v1 does not allow, anywhere in a schema."""
    return list(_allowed(schema, path, True, ""))


def _allowed(schema: Object, path: str, root: bool, no_default: str) -> Iterator[Cause]:
    yield from _keywords(schema, path, no_default)
    yield from _lists(schema, path)
    yield from _maps(schema, path)
    more, items = schema.get("additionalProperties"), schema.get("items")
    if more is not None and schema.get("properties") and more is not True:
        why = "additionalProperties and properties are mutual exclusive"
        yield forbidden(f"{path}.additionalProperties", why)
    if isinstance(more, dict):
        yield from _allowed(more, f"{path}.additionalProperties", False, no_default)
    for name, inner in (schema.get("properties") or {}).items():
        why = f"in top-level {name}" if root and name in META else no_default
        yield from _allowed(inner, f"{path}.properties[{name}]", False, why)
    for key in ("allOf", "oneOf", "anyOf"):
        for position, inner in enumerate(schema.get(key) or ()):
            yield from _allowed(inner, f"{path}.{key}[{position}]", False, f"inside {key}")
    if schema.get("not") is not None:
        yield from _allowed(schema["not"], f"{path}.not", False, "inside not")
    if isinstance(items, dict):
        yield from _allowed(items, f"{path}.items", False, no_default)


def _keywords(schema: Object, path: str, no_default: str) -> Iterator[Cause]:
    if schema.get("default") is not None and no_default:
        yield invalid(f"{path}.default", schema["default"], f"must not be set {no_default}")
    for name in NOT_SUPPORTED:
        if schema.get(name) not in (None, "", {}, []):
            yield forbidden(f"{path}.{name}", f"{name} is not supported")
    kind = schema.get("type")
    if kind == "null":
        why = "type cannot be set to null, use nullable as an alternative"
        yield forbidden(f"{path}.type", why)
    elif kind and kind not in TYPES:
        yield not_supported(f"{path}.type", kind, TYPES)
    if isinstance(schema.get("items"), list):
        yield forbidden(f"{path}.items", "items must be a schema object and not an array")
    if schema.get("uniqueItems"):
        why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        yield forbidden(f"{path}.uniqueItems", why)
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        where = f"{path}.x-kubernetes-preserve-unknown-fields"
        yield invalid(where, False, "must be true or undefined")


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
    where = f"{path}.x-kubernetes-list-type"
    if keys and kind != "map":
        why = "must be map if x-kubernetes-list-map-keys is non-empty"
        yield required(where, why) if kind is None else invalid(where, kind, why)
    if kind is None:
        return
    items = schema.get("items")
    if schema.get("type") != "array":
        yield from _typed(schema, path, "array", "x-kubernetes-list-type")
    elif kind == "set" and isinstance(items, dict):
        yield from _set_items(items, f"{path}.items")
    if kind not in ("atomic", "set", "map"):
        yield not_supported(where, kind, ("atomic", "set", "map"))
    if kind in ("map", "set") and isinstance(items, dict) and items.get("nullable"):
        why = f"cannot be nullable when x-kubernetes-list-type is {kind}"
        yield forbidden(f"{path}.items.nullable", why)
    if kind == "map":
        yield from _map_list(items, keys or [], path)


def _set_items(items: Object, path: str) -> Iterator[Cause]:
    why = "must be atomic as item of a list with x-kubernetes-list-type=set"
    kind = items.get("type")
    if kind == "array" and items.get("x-kubernetes-list-type") not in (None, "atomic"):
        where = f"{path}.x-kubernetes-list-type"
        yield invalid(where, items["x-kubernetes-list-type"], why)
    if kind == "object" and items.get("x-kubernetes-map-type") != "atomic":
        yield invalid(f"{path}.x-kubernetes-map-type", items.get("x-kubernetes-map-type"), why)


def _map_list(items: Any, keys: list[str], path: str) -> Iterator[Cause]:
    where = f"{path}.x-kubernetes-list-map-keys"
    if not keys:
        yield required(where, "must not be empty if x-kubernetes-list-type is map")
    if items is None:
        why = "must have a schema if x-kubernetes-list-type is map"
        yield required(f"{path}.items", why)
    if not isinstance(items, dict):
        return
    if items.get("type") != "object":
        why = "must be object if parent array's x-kubernetes-list-type is map"
        yield invalid(f"{path}.items.type", items.get("type") or "", why)
    properties = items.get("properties") or {}
    for key in keys:
        found, place = properties.get(key), f"{path}.items.properties[{key}]"
        if found is None:
            yield invalid(where, keys, "entries must all be names of item properties")
            continue
        if found.get("type") in ("array", "object"):
            why = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            yield invalid(f"{place}.type", found["type"], why)
        listed = "this property is in x-kubernetes-list-map-keys, so it"
        if found.get("default") is None and key not in (items.get("required") or ()):
            why = f"{listed} must have a default or be a required property"
            yield required(f"{place}.default", why)
        if found.get("nullable"):
            yield forbidden(f"{place}.nullable", f"{listed} cannot be nullable")
    if len(set(keys)) < len(keys):
        yield invalid(where, keys, "must not contain duplicate entries")
