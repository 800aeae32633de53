"""Calls that are syntax: has, the loops over lists and maps, cel.bind, optMap."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .nodes import Bind, Call, Loop, Name, Node, Select

Fail = Callable[[int, str], Exception]

PREDICATES = {"all": "all", "exists": "exists", "exists_one": "existsOne", "existsOne": "existsOne"}
ACCUMULATOR = "__result__"


def expand(
    offset: int, function: str, target: Node | None, args: Sequence[Node], fail: Fail
) -> Node:
    """The node of a call: a macro's where name and number of arguments make it one."""
    count = len(args)
    if target is None:
        if function == "has" and count == 1:
            return _has(offset, args[0], fail)
        return Call(offset, function, None, args)
    if function == "bind" and count == 3 and isinstance(target, Name) and target.name == "cel":
        name = _variable(args[0], fail, "cel.bind() variable names must be simple identifiers")
        return Bind(offset, name, args[1], args[2])
    if function in ("optMap", "optFlatMap") and count == 2:
        name = _variable(args[0], fail, f"{function}() variable name must be a simple identifier")
        return Bind(offset, name, target, args[1], function)
    loop = _loop(offset, function, target, args, fail)
    return Call(offset, function, target, args) if loop is None else loop


def _loop(
    offset: int, function: str, target: Node, args: Sequence[Node], fail: Fail
) -> Node | None:
    count = len(args)
    if function in PREDICATES and count in (2, 3) and not (function == "exists_one" and count == 3):
        names = _variables(args[:-1], fail)
        return Loop(offset, PREDICATES[function], target, names, args[-1], None)
    if function == "map" and count in (2, 3):
        names = _variables(args[:1], fail)
        return Loop(offset, "map", target, names, args[1] if count == 3 else None, args[-1])
    if function == "filter" and count == 2:
        return Loop(offset, "filter", target, _variables(args[:1], fail), args[1], None)
    if function in ("transformList", "transformMap", "transformMapEntry") and count in (3, 4):
        names = _variables(args[:2], fail)
        return Loop(offset, function, target, names, args[2] if count == 4 else None, args[-1])
    return None


def _has(offset: int, operand: Node, fail: Fail) -> Node:
    if isinstance(operand, Select) and not operand.test:
        return Select(operand.offset, operand.operand, operand.field, operand.optional, test=True)
    raise fail(offset, "invalid argument to has() macro")


def _variables(args: Sequence[Node], fail: Fail) -> tuple[str, ...]:
    names = tuple(_variable(item, fail, "argument must be a simple name") for item in args)
    if len(names) == 2 and names[0] == names[1]:
        raise fail(args[1].offset, f"duplicate variable name: {names[0]}")
    return names


def _variable(node: Node, fail: Fail, why: str) -> str:
    if not isinstance(node, Name) or node.name.startswith("."):
        raise fail(node.offset, why)
    if node.name == ACCUMULATOR:
        raise fail(node.offset, f"iteration variable overwrites accumulator variable: {node.name}")
    return node.name
