"""Is a schema structural? (apiextensions-apiserver schema/validation and schema/complete, for
apiextensions.k8s.io/v1)"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sampan.api.errors import Cause, Object
from sampan.api.fields import forbidden, invalid, required

from .patterns import problem

INT_OR_STRING_ANY_OF = [{"type": "integer"}, {"type": "string"}]
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
