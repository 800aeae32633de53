"""The most an expression can cost, told before it runs (cel-go checker/cost.go).

A rule whose worst case is too expensive is refused when it is written, instead of failing some day
for somebody's large object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil
from typing import NamedTuple

from .nodes import Bind, Call, Literal, Loop, MakeList, MakeMap, MakeObject, Name, Node, Select
from .planner import LIST_COST, MAP_COST, OBJECT_COST
from .program import Program
from .sizes import UNBOUNDED, Sizes

RULE_LIMIT = 10_000_000
"""The most one rule may cost (StaticEstimatedCostLimit)."""
CRD_LIMIT = 100_000_000
"""The most all rules of a definition may cost (StaticEstimatedCRDCostLimit)."""


class Range(NamedTuple):
    """At least, at most: of a cost or a size. Sums and products stop at `UNBOUNDED`."""

    least: int
    most: int

    def plus(self, other: Range) -> Range:
        return Range(_clamp(self.least + other.least), _clamp(self.most + other.most))

    def times(self, other: Range) -> Range:
        return Range(_clamp(self.least * other.least), _clamp(self.most * other.most))

    def part(self, factor: float) -> Range:
        return Range(_clamp(ceil(self.least * factor)), _clamp(ceil(self.most * factor)))

    def union(self, other: Range) -> Range:
        return Range(min(self.least, other.least), max(self.most, other.most))


def _clamp(number: int) -> int:
    return min(number, UNBOUNDED)


FREE, ONE, UNKNOWN = Range(0, 0), Range(1, 1), Range(0, UNBOUNDED)
SCALARS = frozenset({
    "int", "uint", "double", "bool", "null_type", "google.protobuf.Timestamp",
    "google.protobuf.Duration", "type",
})  # fmt: skip
SAME_SIZE = frozenset({"lowerAscii", "upperAscii", "substring", "trim"})
WALKS = frozenset({
    "url", "isURL", "isIP", "cidr", "isCIDR", "quantity", "isQuantity", "semver", "isSemver",
    "bytes", "strings.quote", "startsWith", "endsWith", "charAt", "lowerAscii", "upperAscii",
    "substring", "trim",
})  # fmt: skip
EACH = frozenset({"isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"})
CHECK = Range(350_000, 350_000)


def estimate(program: Program, variables: Mapping[str, Sizes | None]) -> Range:
    """The range of what one evaluation costs, given the sizes of variables (by name)."""
    return Estimator(variables).cost(program.tree)


class Estimator:
    """One walk over one tree."""

    def __init__(self, variables: Mapping[str, Sizes | None]) -> None:
        self._variables = variables
        self._scopes: dict[str, tuple[Sizes | None, Range | None]] = {}
        self._places: dict[Node, Sizes | None] = {}
        self._sizes: dict[Node, Range] = {}

    def cost(self, node: Node) -> Range:
        visit: Callable[[Node], Range] = getattr(self, f"_{type(node).__name__.lower()}")
        return visit(node)

    def size(self, node: Node) -> Range:
        if node in self._sizes:
            return self._sizes[node]
        if isinstance(node, Literal):
            value = node.value
            return Range(len(value), len(value)) if isinstance(value, str | bytes) else ONE
        if isinstance(node, MakeList):
            return Range(len(node.items) - len(node.optional), len(node.items))
        if isinstance(node, MakeMap):
            return Range(0, len(node.entries))
        place = self._places.get(node)
        if place is not None:
            return Range(0, place.most)
        return ONE if node.type.name in SCALARS else UNKNOWN

    def _literal(self, node: Literal) -> Range:
        return FREE

    def _name(self, node: Name) -> Range:
        if node.slot in self._scopes:
            place, size = self._scopes[node.slot]
            if size is not None:
                self._sizes[node] = size
        else:
            place = self._variables.get(node.slot)
        self._places[node] = place
        return ONE

    def _select(self, node: Select) -> Range:
        if node.name:
            self._places[node] = self._variables.get(node.name)
            return ONE
        cost = self.cost(node.operand)
        place = self._places.get(node.operand)
        if node.test:
            return cost
        if place is not None:
            # Of a map's value by its name nothing is known, as upstream: only indexing tells.
            self._places[node] = place.fields.get(node.field)
        return cost.plus(ONE)

    def _makelist(self, node: MakeList) -> Range:
        return self._all(node.items, Range(LIST_COST, LIST_COST))

    def _makemap(self, node: MakeMap) -> Range:
        parts = [part for key, value, _ in node.entries for part in (key, value)]
        return self._all(parts, Range(MAP_COST, MAP_COST))

    def _makeobject(self, node: MakeObject) -> Range:
        return self._all([part for _, part, _ in node.entries], Range(OBJECT_COST, OBJECT_COST))

    def _all(self, nodes: object, cost: Range) -> Range:
        for node in nodes:  # type: ignore[attr-defined]
            cost = cost.plus(self.cost(node))
        return cost

    def _bind(self, node: Bind) -> Range:
        cost = self.cost(node.value)
        size = self._sizes.get(node.value) or self.size(node.value)
        self._scopes[node.slot] = (self._places.get(node.value), size)
        cost = cost.plus(self.cost(node.body))
        self._sizes[node] = self.size(node.body)
        self._places[node] = self._places.get(node.body)
        return cost.plus(Range(LIST_COST, LIST_COST))

    def _loop(self, node: Loop) -> Range:
        over = self.cost(node.over)
        place, count = self._places.get(node.over), self.size(node.over)
        element = None if place is None else place.element
        is_map = node.over.type.name == "map"
        for at, slot in enumerate(node.slots):
            key = (at == 0) and (is_map or len(node.slots) == 2)
            name = None if place is None else place.key
            self._scopes[slot] = (name, None if is_map else ONE) if key else (element, None)
        condition = FREE if node.condition is None else self.cost(node.condition)
        result = FREE if node.result is None else self.cost(node.result)
        turn, around = _turn(node.macro, condition, result)
        if node.macro not in ("all", "exists", "existsOne"):
            least = 0 if node.condition is not None else count.least
            self._sizes[node] = Range(least, count.most)
            inner = element if node.macro == "filter" else self._places.get(node.result or node)
            self._places[node] = Sizes(count.most, element=inner)
        return over.plus(around).plus(count.times(turn))

    def _call(self, node: Call) -> Range:
        parts = [*((node.target,) if node.target is not None else ()), *node.args]
        costs = [self.cost(part) for part in parts]
        name = node.function
        if name in ("_&&_", "_||_"):
            return Range(costs[0].least, costs[0].plus(costs[1]).most)
        if name == "_?_:_":
            self._sizes[node] = self.size(parts[1]).union(self.size(parts[2]))
            return costs[0].plus(costs[1].union(costs[2]))
        cost = FREE
        for item in costs:
            cost = cost.plus(item)
        return cost.plus(self._function(node, name, parts))

    def _function(self, node: Call, name: str, parts: list[Node]) -> Range:
        sizes = [self.size(part) for part in parts]
        if name in ("_[_]", "_[?_]"):
            place = self._places.get(parts[0])
            self._places[node] = None if place is None else place.element
            return ONE
        if name == "_+_" and parts[0].type.name in ("string", "bytes", "list"):
            total = self._sizes[node] = sizes[0].plus(sizes[1])
            return ONE if parts[0].type.name == "list" else total.part(0.1)
        if name in ("_==_", "_!=_") or (
            name in ("_<_", "_<=_", "_>_", "_>=_") and parts[0].type.name in ("string", "bytes")
        ):
            smallest = min(sizes[0].most, sizes[1].most)
            return Range(min(1, smallest), smallest).part(0.1)
        if name == "@in":
            return sizes[1] if parts[1].type.name != "map" else ONE
        return self._library(node, name, parts, sizes)

    def _library(self, node: Call, name: str, parts: list[Node], sizes: list[Range]) -> Range:
        if name == "check":
            return CHECK
        if name in ("matches", "find", "findAll") and len(sizes) > 1:
            if name == "findAll":
                self._sizes[node] = Range(0, sizes[0].most)
            return sizes[0].plus(ONE).part(0.1).times(sizes[1].part(0.25))
        if name == "contains" and len(sizes) > 1:
            return sizes[0].part(0.1).times(sizes[1].part(0.1))
        if name in ("sets.contains", "sets.intersects", "sets.equivalent"):
            factor = 2 if name == "sets.equivalent" else 1
            return sizes[0].times(sizes[1]).times(Range(factor, factor)).plus(ONE)
        if name in EACH:
            return self._each(parts[0], sizes[0])
        if name in ("replace", "split"):
            most = (
                sizes[0].most
                if name == "split"
                else _clamp((sizes[0].most + 1) * (sizes[2].most + 1))
            )
            self._sizes[node] = Range(0, most)
            return sizes[0].part(0.2)
        if name == "join":
            return self._join(node, parts, sizes)
        if name in WALKS and sizes:
            walked = 1 if name in ("startsWith", "endsWith") else 0
            if name in SAME_SIZE:
                self._sizes[node] = Range(0, sizes[0].most)
            return sizes[walked].part(0.1)
        return ONE

    def _each(self, over: Node, count: Range) -> Range:
        if over.type.name != "list":
            return count.part(0.1)
        place = self._places.get(over)
        inner = over.type.params[0].name
        if inner in ("string", "bytes"):
            most = UNBOUNDED if place is None or place.element is None else place.element.most
            return count.times(ONE.plus(Range(0, most).part(0.1)))
        return count

    def _join(self, node: Call, parts: list[Node], sizes: list[Range]) -> Range:
        place = self._places.get(parts[0])
        most = UNBOUNDED if place is None or place.element is None else place.element.most
        total = sizes[0].times(Range(0, most))
        if len(sizes) > 1:
            gaps = Range(max(0, sizes[0].least - 1), max(0, sizes[0].most - 1))
            total = total.plus(sizes[1].times(gaps))
        self._sizes[node] = total
        return total.part(0.1)


def _turn(macro: str, condition: Range, result: Range) -> tuple[Range, Range]:
    """What one turn of the macro's fold costs, and what is around all of them."""
    if macro == "all":
        return Range(3, _clamp(3 + condition.most)), ONE
    if macro == "exists":
        return Range(4, _clamp(4 + condition.most)), ONE
    if macro == "existsOne":
        return condition.plus(Range(1, 2)), Range(2, 2)
    if macro == "filter":
        return condition.plus(Range(1, 13)), Range(11, 11)
    base = 32 if macro.startswith("transformMap") else 12
    step = result.plus(Range(base, base))
    around = base - 1
    return condition.plus(step), Range(around, around)
