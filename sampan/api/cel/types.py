"""Types of expressions, as the checker knows them.

A `Type` has a name and parameters; object types have fields besides. `Param` stands for any type in
the declaration of a function, and is bound when a call is checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Type:
    """A type. Equal when name and parameters are."""

    __slots__ = ("name", "params")

    def __init__(self, name: str, *params: Type) -> None:
        self.name = name
        self.params = params

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Type) and self.name == other.name and self.params == other.params
        )

    def __hash__(self) -> int:
        return hash((self.name, self.params))

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        if not self.params:
            return self.name
        return f"{self.name}({', '.join(map(str, self.params))})"


class Param(Type):
    """A type parameter of a declaration."""

    __slots__ = ()


class Field(NamedTuple):
    """A field of an object type."""

    type: Type
    key: str
    """The key in the value, which differs where the field's name had to be escaped."""


class ObjectType(Type):
    """An object with known fields. `fields` may be a mapping that resolves on demand, so that a
    type may contain itself. Two are equal when their names are."""

    __slots__ = ("fields",)

    def __init__(self, name: str, fields: Mapping[str, Field]) -> None:
        super().__init__(name)
        self.fields = fields


DYN = Type("dyn")
INT = Type("int")
UINT = Type("uint")
DOUBLE = Type("double")
BOOL = Type("bool")
STRING = Type("string")
BYTES = Type("bytes")
NULL = Type("null_type")
ERROR = Type("!error!")
TIMESTAMP = Type("google.protobuf.Timestamp")
DURATION = Type("google.protobuf.Duration")
TYPE = Type("type")

A = Param("A")
B = Param("B")


def list_of(item: Type) -> Type:
    return Type("list", item)


def map_of(key: Type, value: Type) -> Type:
    return Type("map", key, value)


def optional_of(value: Type) -> Type:
    return Type("optional_type", value)


def type_of(value: Type) -> Type:
    return Type("type", value)


LIST = list_of(DYN)
MAP = map_of(DYN, DYN)

NULLABLE = frozenset({"google.protobuf.Timestamp", "google.protobuf.Duration"})
"""Types beside objects that null can stand for."""


def join(first: Type, second: Type) -> Type:
    """The type that values of both have: of elements of a list, branches of a condition."""
    if first == second:
        return first
    if first is DYN or second is DYN:
        return DYN
    if accepts(first, second, {}):
        return first
    return second if accepts(second, first, {}) else DYN


def accepts(wanted: Type, given: Type, bound: dict[Type, Type]) -> bool:
    """May a value of type `given` stand where `wanted` is? Binds type parameters in `bound`."""
    if isinstance(wanted, Param):
        before = bound.get(wanted)
        if before is None:
            bound[wanted] = given
            return True
        if accepts(before, given, bound):
            return True
        if accepts(given, before, bound):
            bound[wanted] = given
            return True
        return False
    if isinstance(given, Param):
        return True
    if wanted.name in ("dyn", "!error!") or given.name in ("dyn", "!error!"):
        return True
    if given.name == "null_type" and wanted.name != "null_type":
        return isinstance(wanted, ObjectType) or wanted.name in NULLABLE
    if wanted.name == "type" and given.name == "type":
        return True
    if wanted.name != given.name or len(wanted.params) != len(given.params):
        return False
    pairs = zip(wanted.params, given.params, strict=True)
    return all(accepts(one, other, bound) for one, other in pairs)


def substitute(declared: Type, bound: Mapping[Type, Type]) -> Type:
    """A declared type with its parameters replaced; those not bound are dyn."""
    if isinstance(declared, Param):
        return bound.get(declared, DYN)
    if not declared.params:
        return declared
    return Type(declared.name, *(substitute(item, bound) for item in declared.params))
