"""Schemas of OpenAPI documents, from the distilled shapes and their descriptions.

Version 3 wraps a reference that has a description in `allOf`, since its references have no
siblings; version 2 allows them, and has no `oneOf`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sampan.api.errors import Object
from sampan.api.schema import Shape, definitions

from . import usageschema

QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
FREE_FORM: Shape = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}

PREFIX = {2: "#/definitions/", 3: "#/components/schemas/"}

Texts = Mapping[str, Mapping[str, str]]


def shape_of(definition: str) -> Shape:
    """The shape of a definition; free form for one that is not built in."""
    return definitions().get(definition) or usageschema.SHAPES.get(definition, FREE_FORM)


def reachable(names: Iterable[str]) -> list[str]:
    """The definitions and all they refer to, sorted."""
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(_references(shape_of(name)))
    return sorted(found)


def _references(shape: Shape) -> list[str]:
    if "$ref" in shape:
        return [shape["$ref"]]
    out: list[str] = []
    for inner in shape.get("properties", {}).values():
        out += _references(inner)
    for key in ("items", "additionalProperties"):
        if key in shape:
            out += _references(shape[key])
    return out


def schema_of(name: str, texts: Texts, version: int) -> Object:
    """The schema of a definition in an OpenAPI document of that version (2 or 3)."""
    shape = shape_of(name)
    described = texts.get(name) or usageschema.TEXTS.get(name, {})
    head: Object = {}
    if described.get(""):
        head["description"] = described[""]
    if name in (QUANTITY, INT_OR_STRING):
        return head | _union(name, version)
    out = head | {key: value for key, value in shape.items() if key != "properties"}
    if "items" in out:
        out["items"] = _convert(shape["items"], "", version)
    if "properties" in shape:
        typed = "x-kubernetes-group-version-kind" in shape
        out["properties"] = {
            field: _convert(_without_enum(inner, field) if typed else inner,
                            described.get(field, ""), version)
            for field, inner in shape["properties"].items()
        }  # fmt: skip
    return out


def _without_enum(shape: Shape, field: str) -> Shape:
    """The schema we distil pins apiVersion and kind; upstream's does not."""
    if field in ("apiVersion", "kind") and "enum" in shape:
        return {key: value for key, value in shape.items() if key != "enum"}
    return shape


def _union(name: str, version: int) -> Object:
    form: Object = {"format": "int-or-string"} if name == INT_OR_STRING else {}
    if version == 2:
        return form | {"type": "string"}
    other = "number" if name == QUANTITY else "integer"
    return form | {"oneOf": [{"type": "string"}, {"type": other}]}


OURS = ("x-omitempty", "x-present")
"""Marks of our own: how decoding and ownership treat values that are zero or absent."""


def _convert(shape: Shape, text: str, version: int) -> Object:
    out: Object = {"description": text} if text else {}
    for key, value in shape.items():
        if key in OURS:
            continue
        if key == "$ref":
            reference = {"$ref": PREFIX[version] + value}
            if version == 2 or (shape.keys() <= {"$ref", *OURS} and not text):
                out |= reference
            else:
                out["allOf"] = [reference]
        elif key in ("items", "additionalProperties"):
            out[key] = _convert(value, "", version)
        else:
            out[key] = value
    return out


def reference(definition: str, version: int) -> dict[str, Any]:
    return {"$ref": PREFIX[version] + definition}
