"""Are the x-kubernetes-validations rules of a definition good, and cheap enough at their worst?
(apiextensions-apiserver apis/apiextensions/validation, with its cost limits)"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sampan.api.cel import CompileError
from sampan.api.cel.estimate import CRD_LIMIT, RULE_LIMIT, estimate
from sampan.api.cel.schemas import type_of_schema
from sampan.api.cel.sizes import REQUEST_BYTES, UNBOUNDED, sizes_of_schema
from sampan.api.cel.types import BOOL, STRING
from sampan.api.errors import Cause, Object
from sampan.api.fields import forbidden, invalid, not_supported, required

from .fieldpaths import field_path
from .rules import Rule

REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
NOTABLE = CRD_LIMIT // 100
"""Rules that cost less are not named when all are too expensive together."""
NAMED = 4
ADVICE = (
    "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, "
    "maps, and strings are declared)"
)


def check_rules(schema: Object, path: str) -> Iterator[Cause]:
    """Complaints about the rules anywhere in a structural schema."""
    checks = _Checks()
    yield from checks.walk(schema, path, 1, "", root=True)
    if checks.total > CRD_LIMIT:
        costly = sorted(checks.costly, key=lambda item: -item[0])[:NAMED]
        for _, where in costly:
            why = "contributed to estimated rule cost total exceeding cost limit for entire "
            yield forbidden(where, f"{why}OpenAPIv3 schema")
        what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
        yield forbidden(path, _too_expensive(what, checks.total, CRD_LIMIT))


def _too_expensive(what: str, cost: int, limit: int) -> str:
    factor = cost / limit
    if factor > 100:
        shown = "more than 100x"
    else:
        shown = f"{factor:.6f}x" if factor < 1.5 else f"{factor:.1f}x"
    return f"{what} exceeds budget by factor of {shown} {ADVICE}"


class _Checks:
    """One walk: what the rules cost so far."""

    def __init__(self) -> None:
        self.total = 0
        self.costly: list[tuple[int, str]] = []

    def walk(
        self, schema: Any, path: str, count: int | None, loose: str, *, root: bool = False
    ) -> Iterator[Cause]:
        """`count` is how many values of this schema an object can hold, None for any number;
        `loose` the path within which values have no old ones."""
        if not isinstance(schema, dict):
            return
        # Of an atomic map or a list that is none of maps nobody knows what is whose old value.
        whole = schema.get("x-kubernetes-map-type") not in (None, "granular")
        inside = loose or path if whole else loose
        for name, inner in (schema.get("properties") or {}).items():
            yield from self.walk(inner, f"{path}.properties[{name}]", count, inside)
        items, more = schema.get("items"), schema.get("additionalProperties")
        if isinstance(items, dict):
            inside = loose
            if schema.get("x-kubernetes-list-type") != "map":
                inside = loose or path
            yield from self.walk(items, f"{path}.items", _times(count, schema, "maxItems"), inside)
        if isinstance(more, dict):
            most = _times(count, schema, "maxProperties")
            yield from self.walk(more, f"{path}.additionalProperties", most, loose)
        raw = schema.get("x-kubernetes-validations") or ()
        if raw:
            root = root or bool(schema.get("x-kubernetes-embedded-resource"))
            yield from self._rules(schema, f"{path}.x-kubernetes-validations", count, loose, root)

    def _rules(
        self, schema: Object, path: str, count: int | None, loose: str, root: bool
    ) -> Iterator[Cause]:
        raw = schema["x-kubernetes-validations"]
        sound = True
        for position, item in enumerate(raw):
            for cause in _words(schema, item, f"{path}[{position}]"):
                sound = False
                yield cause
        type_ = type_of_schema(schema, "object", root=root)
        sizes = sizes_of_schema(schema, root=root)
        if not sound:
            return
        if type_ is None or sizes is None:
            why = "internal error: failed to retrieve type information for x-kubernetes-validations"
            yield Cause(path, f"Internal error: {why}", "InternalError")
            return
        if count is None:
            count = REQUEST_BYTES // (sizes.least_bytes + 1)
        for position, item in enumerate(raw):
            where = f"{path}[{position}]"
            yield from self._rule(Rule(item, type_, schema), where, sizes, count, loose)

    def _rule(self, rule: Rule, path: str, sizes: Any, count: int, loose: str) -> Iterator[Cause]:
        variables = {"self": sizes, "oldSelf": sizes}
        try:
            program = rule.program
        except CompileError as error:
            yield invalid(f"{path}.rule", rule.raw, f"compilation failed: {error}")
            return
        if program.type != BOOL:
            yield invalid(f"{path}.rule", rule.raw, "cel expression must evaluate to a bool")
            return
        cost = min(UNBOUNDED, estimate(program, variables).most * count)
        if cost > RULE_LIMIT:
            why = _too_expensive("estimated rule cost", cost, RULE_LIMIT)
            yield forbidden(f"{path}.rule", why)
        self._count(cost, f"{path}.rule")
        if rule.uses_old and loose:
            why = (
                f"oldSelf cannot be used on the uncorrelatable portion of the schema within {loose}"
            )
            yield invalid(f"{path}.rule", rule.raw["rule"], why)
        elif rule.raw.get("optionalOldSelf") is not None and not rule.uses_old:
            why = "may not be set if oldSelf is not used in rule"
            yield invalid(f"{path}.optionalOldSelf", rule.raw["optionalOldSelf"], why)
        yield from self._message(rule, path, variables, count)

    def _message(self, rule: Rule, path: str, variables: Any, count: int) -> Iterator[Cause]:
        where = f"{path}.messageExpression"
        try:
            program = rule.message_program
        except CompileError as error:
            yield invalid(where, rule.raw, f"messageExpression compilation failed: {error}")
            return
        if program is None:
            return
        if program.type != STRING:
            yield invalid(where, rule.raw, "messageExpression must evaluate to a string")
            return
        cost = estimate(program, variables).most
        if cost > RULE_LIMIT:
            why = _too_expensive("estimated messageExpression cost", cost, RULE_LIMIT)
            yield forbidden(where, why)
        self._count(cost, where)

    def _count(self, cost: int, path: str) -> None:
        self.total = min(UNBOUNDED, self.total + cost)
        if cost >= NOTABLE:
            self.costly.append((cost, path))


def _times(count: int | None, schema: Object, limit: str) -> int | None:
    most = schema.get(limit)
    return None if count is None or most is None else count * max(0, int(most))


def _words(schema: Object, rule: Object, path: str) -> Iterator[Cause]:
    """Complaints about a rule's texts."""
    text, message = (rule.get("rule") or "").strip(), rule.get("message") or ""
    if not text:
        yield required(f"{path}.rule", "rule is not specified")
    elif message and not message.strip():
        yield invalid(f"{path}.message", message, "message must be non-empty if specified")
    elif _has_breaks(message.strip()):
        yield invalid(f"{path}.message", message, "message must not contain line breaks")
    elif _has_breaks(text) and not message.strip():
        why = "message must be specified if rule contains line breaks"
        yield required(f"{path}.message", why)
    expression = rule.get("messageExpression") or ""
    if expression and not expression.strip():
        why = "messageExpression must be non-empty if specified"
        yield required(f"{path}.messageExpression", why)
    reason = rule.get("reason")
    if reason is not None and reason not in REASONS:
        yield not_supported(f"{path}.reason", reason, REASONS)
    place = rule.get("fieldPath") or ""
    if place:
        where = f"{path}.fieldPath"
        if not place.strip():
            yield invalid(where, place, "fieldPath must be non-empty if specified")
        if _has_breaks(place):
            yield invalid(where, place, "fieldPath must not contain line breaks")
        if field_path(schema, place)[0] is None:
            yield invalid(where, place, "fieldPath must be a valid path")


def _has_breaks(text: str) -> bool:
    return "\n" in text or "\r" in text
