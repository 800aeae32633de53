"""Types of built-in kinds, from their definitions. Fields are resolved when they are first asked
for: definitions refer to one another, and to themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from ..schema import definitions
from ..shapes import Shape
from .names import escape
from .schemas import FORMATS, SIMPLE
from .types import DYN, STRING, Field, ObjectType, Type, list_of, map_of

_APIMACHINERY = "io.k8s.apimachinery.pkg"
DYNAMIC = frozenset({
    f"{_APIMACHINERY}.util.intstr.IntOrString", f"{_APIMACHINERY}.api.resource.Quantity",
    f"{_APIMACHINERY}.apis.meta.v1.FieldsV1", f"{_APIMACHINERY}.runtime.RawExtension",
})  # fmt: skip
"""Definitions whose values are of more than one type."""


class _Fields(Mapping[str, Field]):
    """The fields of a shape, by their names in expressions."""

    def __init__(self, shape: Shape) -> None:
        self._shapes = {
            name: (key, inner)
            for key, inner in (shape.get("properties") or {}).items()
            if (name := escape(key)) is not None
        }
        self._known: dict[str, Field] = {}

    def __getitem__(self, name: str) -> Field:
        found = self._known.get(name)
        if found is None:
            key, inner = self._shapes[name]
            found = self._known[name] = Field(type_of_shape(inner), key)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


@cache
def type_of_definition(name: str) -> Type:
    """The type of a definition such as "io.k8s.api.core.v1.Pod"; dyn for one that is unknown."""
    shape = definitions().get(name)
    if shape is None or name in DYNAMIC:
        return DYN
    if "properties" in shape:
        return ObjectType(name, _Fields(shape))
    return type_of_shape(shape)


def type_of_shape(shape: Shape) -> Type:
    """The type of a field."""
    if "$ref" in shape:
        return type_of_definition(shape["$ref"])
    if shape.get("x-kubernetes-int-or-string"):
        return DYN
    kind = shape.get("type")
    if kind == "string":
        form = shape.get("format") or ""
        return DYN if form == "int-or-string" else FORMATS.get(form, STRING)
    if kind == "array":
        return list_of(type_of_shape(shape["items"])) if "items" in shape else list_of(DYN)
    extra = shape.get("additionalProperties")
    if isinstance(extra, dict):
        return map_of(STRING, type_of_shape(extra))
    return SIMPLE.get(kind or "", DYN)
