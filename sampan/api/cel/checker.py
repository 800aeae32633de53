"""Does an expression fit its environment? Sets the type of every node and what names mean.

Errors are collected and worded as cel-go's, at the offsets cel-go gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

from .environment import Environment
from .errors import CompileError, Issue
from .nodes import Bind, Call, Literal, Loop, MakeList, MakeMap, MakeObject, Name, Node, Select
from .standard import LITERAL_TYPES
from .types import (
    BOOL,
    DYN,
    ERROR,
    INT,
    UINT,
    A,
    Field,
    ObjectType,
    Param,
    Type,
    accepts,
    list_of,
    map_of,
    optional_of,
    substitute,
)
from .values import Uint

SHOWN = {
    "null_type": "null", "google.protobuf.Timestamp": "timestamp",
    "google.protobuf.Duration": "duration",
}  # fmt: skip


def check(source: str, node: Node, environment: Environment) -> Type:
    """The type of the whole. Raises CompileError with all that is wrong."""
    checker = Checker(environment)
    result = checker.visit(node)
    if checker.issues:
        raise CompileError(source, checker.issues)
    return result


def show(given: Type) -> str:
    """A type as cel-go's errors name it."""
    name = SHOWN.get(given.name, given.name)
    if not given.params:
        return name
    return f"{name}({', '.join(map(show, given.params))})"


class Checker:
    """One walk over one tree."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.issues: list[Issue] = []
        self._scopes: list[dict[str, tuple[str, Type]]] = []
        self._numbers = count(1)

    def visit(self, node: Node) -> Type:
        node.type = getattr(self, f"_{type(node).__name__.lower()}")(node)
        return node.type

    def fail(self, offset: int, message: str) -> Type:
        self.issues.append(Issue(offset, message))
        return ERROR

    def _undeclared(self, offset: int, name: str) -> Type:
        return self.fail(offset, f"undeclared reference to '{name}' (in container '')")

    def _literal(self, node: Literal) -> Type:
        return UINT if type(node.value) is Uint else LITERAL_TYPES[type(node.value)]

    def _name(self, node: Name) -> Type:
        name = node.name
        if not name.startswith("."):
            for scope in reversed(self._scopes):
                if name in scope:
                    node.slot, found = scope[name]
                    return found
        name = name.removeprefix(".")
        known = self.environment.variable(name)
        if known is None:
            return self._undeclared(node.offset, name)
        node.slot = name
        return known

    def _select(self, node: Select) -> Type:
        name = dotted(node)
        known = self.environment.variable(name) if name and not node.test else None
        if known is not None and not self._shadowed(name.partition(".")[0]):
            node.name = name
            return known
        given = self.visit(node.operand)
        inner = given.params[0] if given.name == "optional_type" else given
        result = self._field(node, inner)
        if node.test:
            return BOOL
        if node.optional or given.name == "optional_type":
            return result if result.name == "optional_type" else optional_of(result)
        return result

    def _shadowed(self, name: str) -> bool:
        return any(name in scope for scope in self._scopes)

    def _field(self, node: Select, given: Type) -> Type:
        if isinstance(given, ObjectType):
            found: Field | None = given.fields.get(node.field)
            if found is None:
                return self.fail(node.offset, f"undefined field '{node.field}'")
            return found.type
        if given.name == "map":
            return given.params[1]
        if given.name in ("dyn", "!error!") or isinstance(given, Param):
            return DYN
        return self.fail(node.offset, f"type '{show(given)}' does not support field selection")

    def _call(self, node: Call) -> Type:
        target = node.target
        if target is not None:
            space = dotted(target)
            name = f"{space}.{node.function}"
            if space and name in self.environment.functions and not self._shadowed(space):
                node.target, node.function = None, name
                target = None
        args = ([] if target is None else [target]) + list(node.args)
        given = [self.visit(item) for item in args]
        overloads = self.environment.functions.get(node.function)
        if overloads is None:
            return self._undeclared(node.offset, node.function)
        if node.function == "_?_:_" and given[0].name == "bool":
            return self._branches(node, given)
        return self._resolve(node, overloads, given, target is not None)

    def _branches(self, node: Call, given: Sequence[Type]) -> Type:
        bound: dict[Type, Type] = {}
        if accepts(A, given[1], bound) and accepts(A, given[2], bound):
            return DYN if DYN in given[1:] else bound[A]
        return self._unmatched(node, given, False)

    def _resolve(
        self, node: Call, overloads: Sequence[Any], given: Sequence[Type], member: bool
    ) -> Type:
        found, result = [], None
        for overload in overloads:
            if overload.member != member or len(overload.params) != len(given):
                continue
            bound: dict[Type, Type] = {}
            if all(map(accepts, overload.params, given, [bound] * len(given))):
                found.append(overload)
                type_ = substitute(overload.result, bound)
                result = type_ if result is None or result == type_ else DYN
        if result is None:
            return self._unmatched(node, given, member)
        node.overloads = tuple(found)
        return result

    def _unmatched(self, node: Call, given: Sequence[Type], member: bool) -> Type:
        shown = [show(item) for item in given]
        text = f"{shown[0]}.({', '.join(shown[1:])})" if member else f"({', '.join(shown)})"
        return self.fail(
            node.offset, f"found no matching overload for '{node.function}' applied to '{text}'"
        )

    def _makelist(self, node: MakeList) -> Type:
        item: Type | None = None
        for position, part in enumerate(node.items):
            given = self.visit(part)
            if position in node.optional:
                given = self._unwrapped(part, given)
            item = self._same(part.offset, item, given)
        return list_of(item or A)

    def _makemap(self, node: MakeMap) -> Type:
        key: Type | None = None
        value: Type | None = None
        for left, right, optional in node.entries:
            key = self._same(left.offset, key, self.visit(left))
            given = self.visit(right)
            if optional:
                given = self._unwrapped(right, given)
            value = self._same(right.offset, value, given)
        return map_of(key or A, value or A)

    def _unwrapped(self, node: Node, given: Type) -> Type:
        if given.name == "optional_type":
            return given.params[0]
        if given.name in ("dyn", "!error!"):
            return DYN
        wanted = show(optional_of(given))
        return self.fail(node.offset, f"expected type '{wanted}' but found '{show(given)}'")

    def _same(self, offset: int, before: Type | None, given: Type) -> Type:
        """Elements of a literal are of one type (Kubernetes' HomogeneousAggregateLiterals)."""
        if before is None:
            return given
        if DYN in (before, given):
            return DYN
        if accepts(before, given, {}):
            return before
        if accepts(given, before, {}):
            return given
        self.fail(offset, f"expected type '{show(before)}' but found '{show(given)}'")
        return before

    def _makeobject(self, node: MakeObject) -> Type:
        found = self.environment.objects.get(node.name)
        if found is None:
            return self._undeclared(node.offset, node.name)
        for name, value, optional in node.entries:
            given = self.visit(value)
            if optional:
                given = self._unwrapped(value, given)
            field: Field | None = found.fields.get(name)
            if field is None:
                self.fail(node.offset, f"undefined field '{name}'")
            elif not accepts(field.type, given, {}):
                self.fail(
                    node.offset,
                    f"expected type of field '{name}' is '{show(field.type)}' but provided type"
                    f" is '{show(given)}'",
                )
        return found

    def _loop(self, node: Loop) -> Type:
        given = self.visit(node.over)
        types = self._elements(node, given)
        self._enter(node, types)
        condition = None if node.condition is None else self.visit(node.condition)
        result = DYN if node.result is None else self.visit(node.result)
        self._scopes.pop()
        if condition is not None and condition.name not in ("bool", "dyn", "!error!"):
            return self._not_a_predicate(node, condition, types[0], result)
        return self._loop_result(node, types, result)

    def _elements(self, node: Loop, given: Type) -> tuple[Type, ...]:
        two = len(node.variables) == 2
        if given.name == "list":
            return (INT, given.params[0]) if two else (given.params[0],)
        if given.name == "map":
            return given.params if two else (given.params[0],)
        if given.name not in ("dyn", "!error!") and not isinstance(given, Param):
            self.fail(
                node.over.offset,
                f"expression of type '{show(given)}' cannot be range of a comprehension (must be"
                " list, map, or dynamic)",
            )
        return (DYN,) * len(node.variables)

    def _enter(self, node: Loop, types: Sequence[Type]) -> None:
        slots = tuple(f"{name}#{next(self._numbers)}" for name in node.variables)
        node.slots = slots
        pairs = zip(slots, types, strict=True)
        self._scopes.append(dict(zip(node.variables, pairs, strict=True)))

    def _not_a_predicate(self, node: Loop, given: Type, item: Type, result: Type) -> Type:
        """What the fold of the macro would say."""
        shown = show(given)
        if node.macro in ("all", "exists"):
            name, text = ("_&&_" if node.macro == "all" else "_||_"), f"(bool, {shown})"
        elif node.macro == "existsOne":
            name, text = "_?_:_", f"({shown}, int, int)"
        else:
            kind = show(item if node.macro == "filter" else result)
            name, text = "_?_:_", f"({shown}, list({kind}), list({kind}))"
        return self.fail(
            node.offset, f"found no matching overload for '{name}' applied to '{text}'"
        )

    def _loop_result(self, node: Loop, types: Sequence[Type], result: Type) -> Type:
        if node.macro in ("all", "exists", "existsOne"):
            return BOOL
        if node.macro == "filter":
            return list_of(types[0])
        if node.macro in ("map", "transformList"):
            return list_of(result)
        if node.macro == "transformMap":
            return map_of(types[0], result)
        return result if result.name == "map" else map_of(DYN, DYN)

    def _bind(self, node: Bind) -> Type:
        given = self.visit(node.value)
        if node.macro != "bind":
            if given.name not in ("optional_type", "dyn", "!error!"):
                return self.fail(
                    node.offset,
                    f"found no matching overload for 'hasValue' applied to '{show(given)}.()'",
                )
            given = given.params[0] if given.params else DYN
        node.slot = f"{node.variable}#{next(self._numbers)}"
        self._scopes.append({node.variable: (node.slot, given)})
        result = self.visit(node.body)
        self._scopes.pop()
        if node.macro == "optFlatMap" and result.name not in ("optional_type", "dyn", "!error!"):
            kind = show(result)
            return self.fail(
                node.offset,
                f"found no matching overload for '_?_:_' applied to"
                f" '(bool, {kind}, optional_type({kind}))'",
            )
        return optional_of(result) if node.macro == "optMap" else result


def dotted(node: Node) -> str:
    """`a.b.c` of names and plain selections; "" for anything else."""
    parts: list[str] = []
    while isinstance(node, Select) and not node.optional and not node.test:
        parts.append(node.field)
        node = node.operand
    if not isinstance(node, Name):
        return ""
    return ".".join([node.name.removeprefix("."), *reversed(parts)])
