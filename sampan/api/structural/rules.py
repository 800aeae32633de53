"""The x-kubernetes-validations rules of a schema (KEP-2876), walked over the values they are about
(apiextensions-apiserver schema/cel/validation).

A tree of those parts of the schema that have rules at or below them is made once; a value is
walked along it. Expressions are compiled when first evaluated. Imported only for schemas with
rules.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from msgspec import Struct, field

from sampan.api.cel import (
    RUNTIME_BUDGET,
    Budget,
    CompileError,
    CostExceeded,
    EvaluationError,
    Program,
    budget_of,
    compile,
    kubernetes,
)
from sampan.api.cel.nodes import Name
from sampan.api.cel.schemas import adapt, needs_adapting, type_of_schema, with_meta
from sampan.api.cel.types import Type, optional_of
from sampan.api.cel.validators import walk
from sampan.api.cel.values import NONE, Optional
from sampan.api.errors import Cause, Object
from sampan.api.fields import DUPLICATE, FORBIDDEN, INVALID, REQUIRED, show

from .fieldpaths import field_path
from .paths import Key, Path, text
from .validate import ABSENT, NOWHERE, correlator
from .values import same

MESSAGE_BYTES = 5 * 1024
"""The longest message an expression may make (MaxEvaluatedMessageExpressionSizeBytes)."""
EXHAUSTED = (
    "validation failed due to running out of cost budget, no further validation rules will be run"
)
REASONS = {
    "FieldValueForbidden": (FORBIDDEN, "Forbidden"),
    "FieldValueRequired": (REQUIRED, "Required value"),
    "FieldValueDuplicate": (DUPLICATE, "Duplicate value"),
    "FieldValueInvalid": (INVALID, "Invalid value"),
}


class Stop(Exception):
    """No further rules are evaluated."""


class Rule:
    """One rule; its programs are compiled when first asked for. Both raise CompileError."""

    def __init__(self, raw: Object, type_: Type, schema: Object) -> None:
        self.raw = raw
        self._type = type_
        self._schema = schema
        self.optional_old = bool(raw.get("optionalOldSelf"))

    @cached_property
    def _environment(self) -> Any:
        old = optional_of(self._type) if self.optional_old else self._type
        return kubernetes().extend({"self": self._type, "oldSelf": old})

    @cached_property
    def program(self) -> Program:
        return compile(self.raw["rule"], self._environment)

    @cached_property
    def message_program(self) -> Program | None:
        source = self.raw.get("messageExpression")
        return compile(source, self._environment) if source else None

    @cached_property
    def uses_old(self) -> bool:
        return any(
            isinstance(node, Name) and node.slot == "oldSelf" for node in walk(self.program.tree)
        )

    @cached_property
    def place(self) -> str:
        """fieldPath, as it is appended to the path of the value."""
        given = self.raw.get("fieldPath")
        return (field_path(self._schema, given)[0] or "") if given else ""

    @property
    def shown(self) -> str:
        """The rule as messages name it."""
        return str(self.raw.get("message") or self.raw["rule"]).strip()

    @property
    def default_message(self) -> str:
        given = self.raw.get("message")
        return given.strip() if given else f"failed rule: {self.shown}"


class Node(Struct):
    """A part of the schema with rules at it or below it."""

    schema: Object
    rules: list[Rule] = field(default_factory=list)
    properties: dict[str, Node] = field(default_factory=dict)
    items: Node | None = None
    more: Node | None = None
    correlate: Callable[[list[Any]], Callable[[Any], Any]] | None = None
    adapted: bool = False
    root: bool = False

    def has_transitions(self) -> bool:
        """Is there a rule about changes, at or below?"""
        below = [*self.properties.values(), self.items, self.more]
        return any(_uses_old(rule) for rule in self.rules) or any(
            node.has_transitions() for node in below if node is not None
        )


def _uses_old(rule: Rule) -> bool:
    try:
        return rule.uses_old
    except CompileError:
        return False


def tree_of(schema: Any, *, root: bool = False) -> Node | None:
    """The rules of a schema, None when there are none."""
    if not isinstance(schema, dict):
        return None
    root = root or bool(schema.get("x-kubernetes-embedded-resource"))
    seen = dict(with_meta(schema)) if root else schema
    node = Node(seen, adapted=needs_adapting(seen), root=root)
    raw = schema.get("x-kubernetes-validations") or ()
    if raw:
        type_ = type_of_schema(schema, "object", root=root)
        if type_ is not None:
            node.rules = [Rule(item, type_, schema) for item in raw]
    for name, inner in (schema.get("properties") or {}).items():
        below = tree_of(inner)
        if below is not None:
            node.properties[name] = below
    node.items, node.more = (
        tree_of(schema.get("items")),
        tree_of(schema.get("additionalProperties")),
    )
    if schema.get("x-kubernetes-list-type") == "map":
        node.correlate = correlator(tuple(schema.get("x-kubernetes-list-map-keys") or ()))
    if node.rules or node.properties or node.items or node.more:
        return node
    return None


class SchemaRules:
    """The rules of one version."""

    def __init__(self, schema: Object) -> None:
        self._tree = tree_of(schema, root=True)

    @cached_property
    def _transitions(self) -> bool:
        return self._tree is not None and self._tree.has_transitions()

    def validate(
        self, obj: Object, old: Object | None, observe: Callable[[float], None] | None = None
    ) -> list[Cause]:
        """Field errors of an object; `old` is None on create. Raises Unfinished, if HURRIED."""
        if self._tree is None:
            return []
        run = _Run(budget_of(RUNTIME_BUDGET, observe), self._transitions)
        try:
            run.value(self._tree, obj, ABSENT if old is None else old, None, unchanged=False)
        except Stop:
            pass
        return run.causes


def rules_of(schema: Object) -> SchemaRules:
    return SchemaRules(schema)


class _Run:
    """One validation."""

    def __init__(self, budget: Budget, transitions: bool) -> None:
        self.budget = budget
        self.causes: list[Cause] = []
        self._transitions = transitions

    def value(self, node: Node, value: Any, old: Any, path: Path, *, unchanged: bool) -> None:
        """Evaluate the rules at and below a value. `unchanged`: what is around it is just as it
        was, so that rules which do not look at changes have nothing to say (KEP-4008)."""
        if value is None:
            return
        if old is not ABSENT:
            unchanged = same(value, old)
        if unchanged and not self._transitions:
            return
        if node.rules:
            self._rules(node, value, old, path, unchanged)
        if type(value) is dict:
            self._members(node, value, old, path, unchanged)
        elif type(value) is list and node.items is not None:
            known = None
            if node.correlate is not None and type(old) is list:
                known = node.correlate(old)
            for position, item in enumerate(value):
                was = ABSENT if known is None else known(item)
                self.value(node.items, item, was, (path, position), unchanged=unchanged)

    def _members(self, node: Node, value: Object, old: Any, path: Path, unchanged: bool) -> None:
        before = old if type(old) is dict else {}
        for name, item in value.items():
            inner = node.properties.get(name)
            if inner is not None:
                step: str = name
            elif node.more is not None:
                inner, step = node.more, Key(name)
            else:
                continue
            was = before.get(name, ABSENT)
            self.value(inner, item, was, (path, step), unchanged=unchanged)

    def _rules(self, node: Node, value: Any, old: Any, path: Path, unchanged: bool) -> None:
        kind = node.schema.get("type") or ""
        where = text(path) or NOWHERE
        missing = old is ABSENT or old is None
        try:
            self_value = adapt(value, node.schema) if node.adapted else value
            old_value = None
            if not missing:
                old_value = adapt(old, node.schema) if node.adapted else old
        except EvaluationError as error:
            self._complain(where, kind, str(error))
            return
        for rule in node.rules:
            try:
                uses_old = rule.uses_old
                if (uses_old and missing and not rule.optional_old) or (unchanged and not uses_old):
                    continue
                variables = {"self": self_value}
                if rule.optional_old:
                    variables["oldSelf"] = NONE if missing else Optional(old_value)
                elif not missing:
                    variables["oldSelf"] = old_value
                self._rule(rule, variables, value, where, kind)
            except CompileError as error:
                self._complain(where, kind, f"rule compile error: compilation failed: {error}")

    def _complain(self, where: str, value: Any, why: str) -> None:
        self.causes.append(Cause(where, f"Invalid value: {show(value)}: {why}"))

    def _rule(self, rule: Rule, variables: Object, value: Any, where: str, kind: str) -> None:
        if self.budget.left <= 0 and not self.budget.sparing:
            self._complain(where, kind, EXHAUSTED)
            raise Stop
        try:
            good = rule.program.evaluate(variables, self.budget)
        except CostExceeded as error:
            if self.budget.left <= 0:
                self._complain(where, kind, EXHAUSTED)
            else:
                why = "no further validation rules will be run due to call cost exceeds limit"
                self._complain(where, kind, f"'{error}': {why} for rule: {rule.shown}")
            raise Stop from None
        except EvaluationError as error:
            why = f"{error} evaluating rule: {rule.shown}"
            if str(error).startswith("no such overload"):
                why = (
                    f"'{error}': call arguments did not match a supported operator, function or "
                    f"macro signature for rule: {rule.shown}"
                )
            self._complain(where, kind, why)
            return
        if good is True:
            return
        place = where if not rule.place else f"{where}.{rule.place}".removeprefix(f"{NOWHERE}.")
        detail = self._message(rule, variables, place, kind)
        self.causes.append(_cause(rule, place, detail, value, kind))

    def _message(self, rule: Rule, variables: Object, where: str, kind: str) -> str:
        """The rule's own message, if it makes a usable one."""
        program = rule.message_program
        if program is None:
            return rule.default_message
        try:
            made = program.evaluate(variables, self.budget)
        except CostExceeded:
            why = "messageExpression evaluation failed due to running out of cost budget"
            self._complain(where, kind, f"{why}, no further validation rules will be run")
            raise Stop from None
        except EvaluationError:
            return rule.default_message
        trimmed = made.strip() if isinstance(made, str) else ""
        if not trimmed or "\n" in trimmed or len(trimmed.encode()) > MESSAGE_BYTES:
            return rule.default_message
        return trimmed


def _cause(rule: Rule, where: str, detail: str, value: Any, kind: str) -> Cause:
    reason, words = REASONS.get(rule.raw.get("reason") or "", REASONS["FieldValueInvalid"])
    shown = "" if kind in ("object", "array") else f": {show(value)}"
    if reason in (FORBIDDEN, REQUIRED):
        shown = ""
    if reason == DUPLICATE:
        return Cause(where, f"{words}{shown}", reason)
    return Cause(where, f"{words}{shown}: {detail}", reason)
