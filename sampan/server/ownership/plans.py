"""How the fields of a kind are tracked: the schema, compiled into one small node per type.

A node knows four walks: `added` (the set of a value that was not there before, with the values
that hold others), `owned` (the set of a configuration: leaves and items), `diff` (what changed and
what went between two values) and, for apply, `merge` and `prune`. A diff passes over what is equal
without looking into it, so it costs what has changed. Nodes are made when first reached.

The rules are those of structured merge diff (KEP-555): structs and maps by field, lists by their
keys or values where the schema says so, everything else as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final
from weakref import WeakKeyDictionary

from sampan.api import schema
from sampan.api.descriptor import Descriptor, Structure

from .lists import Items, Members
from .nodes import DEDUCED, LEAVES, SCALAR, Fields, Node
from .remembered import Remembered

Shape = Mapping[str, Any]
Compile = Callable[[Shape], Node | None]

SCALARS: Final = ("string", "integer", "number", "boolean")
META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"

UNTRACKED: Final = ("apiVersion", "kind")
UNTRACKED_META: Final = (
    "clusterName", "creationTimestamp", "generation", "managedFields", "name", "namespace",
    "resourceVersion", "selfLink", "uid",
)  # fmt: skip
"""What no manager ever owns: the server's own, and what names the object."""

ALIKE: Final = frozenset({"io.k8s.api.core.v1.PodSpec"})
"""Definitions many objects have the same value of."""

# Key fields that the Go types give a default and the published schema does not.
KEY_DEFAULTS: Final[Mapping[str, Any]] = {"protocol": "TCP"}


def plan_of(resource: Descriptor) -> Fields:
    """The plan of a resource's objects; made once per definition or structure."""
    structure = resource.structure
    if structure is None:
        return definition_plan(resource.definition)
    plan = _structures.get(structure)
    if plan is None:
        plan = _structures[structure] = custom_plan(structure.schema)
    return plan


_structures: WeakKeyDictionary[Structure, Fields] = WeakKeyDictionary()


@cache
def definition_plan(definition: str) -> Fields:
    """The plan of objects of a built-in definition."""
    shape = schema.definitions().get(definition, {})
    if "properties" not in shape:
        return custom_plan({"x-kubernetes-preserve-unknown-fields": True})
    return _root(Fields(dict(shape["properties"]), None, _compile))


def custom_plan(shape: Shape) -> Fields:
    """The plan of objects of a structural schema."""
    properties = {
        **shape.get("properties", {}),
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"$ref": META, "x-present": True},
    }
    each = _deduced if shape.get("x-kubernetes-preserve-unknown-fields") else None
    return _root(Fields(properties, each, _compile_structural))


def _root(plan: Fields) -> Fields:
    metadata = Fields(dict(schema.definitions()[META]["properties"]), None, _compile)
    for name in UNTRACKED_META:
        metadata.untrack(name)
    plan.put("metadata", metadata, present=True)
    for name in UNTRACKED:
        plan.untrack(name)
    return plan


@cache
def _node_of(definition: str) -> Node | None:
    shape = schema.definitions()[definition]
    if definition in ALIKE:
        return Remembered(dict(shape["properties"]), None, _compile)
    return _build(shape, _compile)


def _compile(shape: Shape) -> Node | None:
    """The node of a field of a built-in kind."""
    name = shape.get("$ref")
    if name is None:
        return _build(shape, _compile)
    if shape.get("x-kubernetes-map-type") == "atomic":
        return SCALAR
    return _node_of(name)


def _build(shape: Shape, compile_shape: Compile) -> Node | None:
    """The node of a shape without a reference."""
    kind = shape.get("type")
    if kind == "array" or "items" in shape:
        return _list(shape, compile_shape)
    if shape.get("x-kubernetes-map-type") == "atomic":
        return SCALAR
    if "properties" in shape:
        return Fields(dict(shape["properties"]), _rest(shape, compile_shape), compile_shape)
    each = _rest(shape, compile_shape)
    if each is None:
        return SCALAR
    items = shape.get("additionalProperties")
    if isinstance(items, dict) and items.get("type") in SCALARS:
        return LEAVES
    return Fields({}, each, compile_shape)


def _rest(shape: Shape, compile_shape: Compile) -> Callable[[], Node | None] | None:
    """The node of fields without a name of their own; None where there are none."""
    if shape.get("x-kubernetes-preserve-unknown-fields"):
        return _deduced
    each = shape.get("additionalProperties")
    if each is True:
        return _deduced
    return _later(each, compile_shape) if isinstance(each, Mapping) else None


def list_kind(shape: Shape) -> tuple[str | None, Sequence[str]]:
    """How items of a list are told apart (map, set or else), and a map's keys."""
    how = shape.get("x-kubernetes-list-type")
    if how is None and "merge" in shape.get("x-kubernetes-patch-strategy", "").split(","):
        # Lists that strategic patches merge are associative for apply too.
        key = shape.get("x-kubernetes-patch-merge-key")
        return ("map", (key,)) if key else ("set", ())
    return how, shape.get("x-kubernetes-list-map-keys") or ()


def _list(shape: Shape, compile_shape: Compile) -> Node | None:
    how, keys = list_kind(shape)
    items = shape.get("items") or {}
    if how == "set":
        return Members()
    if how != "map" or not keys:
        return SCALAR
    return Items(tuple(sorted(keys)), key_defaults(items, keys), _later(items, compile_shape))


def key_defaults(items: Shape, keys: Sequence[str]) -> dict[str, Any]:
    """What an item of a list has for a key that is not there; None for nothing."""
    properties = schema.resolve(dict(items)).get("properties", {})
    return {name: properties.get(name, {}).get("default", KEY_DEFAULTS.get(name)) for name in keys}


def _compile_structural(shape: Shape) -> Node | None:
    """The node of a field of a structural schema (apiextensions/v1)."""
    if "$ref" in shape:
        return _compile(shape)
    if shape.get("x-kubernetes-embedded-resource"):
        named = {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"$ref": META},
            **shape.get("properties", {}),
        }
        shape = {**shape, "properties": named}
    if not shape.get("type") and not shape.get("properties") and not shape.get("items"):
        if shape.get("x-kubernetes-preserve-unknown-fields"):
            return DEDUCED
        if not shape.get("additionalProperties"):
            return SCALAR
    return _build(shape, _compile_structural)


def _later(shape: Shape, compile_shape: Compile) -> Callable[[], Node | None]:
    """The node of a shape, compiled when first used: schemas contain themselves."""
    return cache(lambda: compile_shape(shape))


def _deduced() -> Node:
    return DEDUCED
