"""The syntax tree. Each node knows the offset that cel-go would name in an error about it.

Macros stay whole (`Test`, `Loop`, `Bind`) instead of being spelled out as folds: it reads better
in the checker, runs faster, and costs what the fold would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .types import DYN, Type


@dataclass(slots=True, eq=False)
class Node:
    offset: int
    type: Type = field(default=DYN, init=False)
    """Set by the checker."""


@dataclass(slots=True, eq=False)
class Literal(Node):
    value: Any


@dataclass(slots=True, eq=False)
class Name(Node):
    name: str
    slot: str = field(default="", init=False)
    """Set by the checker: the variable meant, unique for variables of loops."""


@dataclass(slots=True, eq=False)
class Select(Node):
    """`operand.field`; `optional` is `operand.?field`; `test` is `has(operand.field)`."""

    operand: Node
    field: str
    optional: bool = False
    test: bool = False
    name: str = ""
    """Set by the checker where the whole chain is a qualified name."""


@dataclass(slots=True, eq=False)
class Call(Node):
    function: str
    target: Node | None
    args: Sequence[Node]
    overloads: Sequence[Any] = ()
    """Set by the checker: what may be meant, given the types."""


@dataclass(slots=True, eq=False)
class MakeList(Node):
    items: Sequence[Node]
    optional: frozenset[int] = frozenset()
    """Positions of items written `?item`."""


@dataclass(slots=True, eq=False)
class MakeMap(Node):
    entries: Sequence[tuple[Node, Node, bool]]
    """(key, value, is it written `?key: value`)."""


@dataclass(slots=True, eq=False)
class MakeObject(Node):
    """`Name{field: value}`: object initialisation of mutating policies."""

    name: str
    entries: Sequence[tuple[str, Node, bool]]


@dataclass(slots=True, eq=False)
class Loop(Node):
    """A macro over a list or map: all, exists, existsOne, map, filter, transformList,
    transformMap, transformMapEntry. With one variable a map gives its keys; with two, a list gives
    index and value, a map key and value."""

    macro: str
    over: Node
    variables: Sequence[str]
    condition: Node | None
    """The predicate; of the transforming ones, what filters before, if given."""
    result: Node | None
    """What each element becomes."""
    slots: Sequence[str] = field(default=(), init=False)


@dataclass(slots=True, eq=False)
class Bind(Node):
    """`cel.bind(variable, value, body)`, and optMap and optFlatMap, which bind what an optional
    holds."""

    variable: str
    value: Node
    body: Node
    macro: str = "bind"
    slot: str = field(default="", init=False)
