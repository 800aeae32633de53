"""What is wrong with literals can be said at once (cel-go's AST validators)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from .errors import CompileError, EvaluationError, Issue
from .nodes import Bind, Call, Literal, Loop, MakeList, MakeMap, MakeObject, Node, Select
from .regexes import compiled
from .times import parse_duration, parse_timestamp

CHECKS: Mapping[str, Callable[[str], object]] = {
    "duration": parse_duration,
    "timestamp": parse_timestamp,
    "matches": compiled,
}


def check_literals(source: str, tree: Node) -> None:
    """Durations, timestamps and patterns written out must be valid. Raises CompileError."""
    issues = []
    for node in walk(tree):
        if not isinstance(node, Call) or node.function not in CHECKS or not node.args:
            continue
        literal = node.args[-1]
        if isinstance(literal, Literal) and isinstance(literal.value, str):
            try:
                CHECKS[node.function](literal.value)
            except EvaluationError:
                issues.append(Issue(literal.offset, f"invalid {node.function} argument"))
    if issues:
        raise CompileError(source, issues)


def walk(tree: Node) -> Iterator[Node]:
    """Every node, in no particular order."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += children(node)


def children(node: Node) -> list[Node]:
    if isinstance(node, Select):
        return [node.operand]
    if isinstance(node, Call):
        return [*((node.target,) if node.target is not None else ()), *node.args]
    if isinstance(node, MakeList):
        return list(node.items)
    if isinstance(node, MakeMap):
        return [part for key, value, _ in node.entries for part in (key, value)]
    if isinstance(node, MakeObject):
        return [value for _, value, _ in node.entries]
    if isinstance(node, Loop):
        parts = (node.over, node.condition, node.result)
        return [part for part in parts if part is not None]
    return [node.value, node.body] if isinstance(node, Bind) else []
