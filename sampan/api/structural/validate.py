"""Validation of a value by its schema, with the messages of upstream's validator (kube-openapi
pkg/validation, apiextensions-apiserver pkg/apiserver/validation).

Updates ratchet (KEP-4008): what the old object has just so is not looked at again. Schemas are
compiled property by property, when a property is first seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sampan.api.errors import Cause, Object
from sampan.api.fields import (
    invalid,
    not_supported,
    required,
    too_long,
    too_many,
    type_invalid,
)

from .formats import check_of, is_known
from .paths import Path, text
from .patterns import searcher
from .values import go_json, go_number, same

ABSENT: Any = object()
"""The old value where there is none to compare with."""

Check = Callable[[Any, Any, Path, list[Cause]], None]
Test = Callable[[Any, Path], list[Cause]]
"""One assertion on a value: its complaints."""

INT_FORMATS = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}
NOWHERE = "<nil>"
"""The path of complaints that upstream's validator gives without one."""


def validator(schema: Any) -> Check:
    """Checks values of a schema: (new, old or ABSENT, path, causes to add to)."""
    test = _tests(schema)
    below = _below(schema)

    def check(value: Any, old: Any, path: Path, out: list[Cause]) -> None:
        if old is not ABSENT and same(value, old):
            return
        for assertion in test:
            found = assertion(value, path)
            if found:
                out += found
        if below is not None:
            below(value, old, path, out)

    return check


# Assertions on the value itself.


def _tests(schema: Object) -> tuple[Test, ...]:
    tests: list[Test] = []
    kinds = _kinds(schema)
    if kinds:
        tests.append(_type_test(kinds, schema))
    tests += _junctors(schema)
    tests += _string_tests(schema)
    tests += _number_tests(schema)
    tests += _size_tests(schema)
    if schema.get("enum"):
        tests.append(_enum_test(schema["enum"]))
    return tuple(tests)


def _kinds(schema: Object) -> tuple[str, ...]:
    if schema.get("x-kubernetes-int-or-string"):
        return ("integer", "string")
    kind = schema.get("type")
    return (kind,) if kind else ()


def kind_of(value: Any) -> str:
    """JSON schema's name for a value's type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "array"
    return "integer" if isinstance(value, int) else "number"


def _type_test(kinds: tuple[str, ...], schema: Object) -> Test:
    shown, nullable = ",".join(kinds), bool(schema.get("nullable"))
    accepted = set(kinds) | ({"integer"} if "number" in kinds else set())
    whole = "integer" in kinds
    limits = INT_FORMATS.get(schema.get("format", ""))

    def test(value: Any, path: Path) -> list[Cause]:
        kind = kind_of(value)
        if kind in accepted:
            if limits is not None and kind == "integer" and not limits[0] <= value <= limits[1]:
                why = (
                    f"Checked value must be of type integer with format {schema['format']} in "
                    f"{text(path)}"
                )
                return [invalid(NOWHERE, "", why)]
            return []
        if value is None and nullable:
            return []
        if kind == "number" and whole and math.isfinite(value) and value == int(value):
            return []
        where = text(path)
        why = f'{where} in body must be of type {shown}: "{kind}"'
        return [type_invalid(where or NOWHERE, kind, why)]

    return test


def _string_tests(schema: Object) -> list[Test]:
    longest, shortest = schema.get("maxLength"), schema.get("minLength")
    pattern, form = schema.get("pattern"), schema.get("format")
    tests: list[Test] = []
    if longest is not None or shortest is not None or pattern:
        find = searcher(pattern) if pattern else None

        def test(value: Any, path: Path) -> list[Cause]:
            if not isinstance(value, str):
                return []
            where = text(path)
            if longest is not None and len(value) > longest:
                return [too_long(where, value, longest)]
            if shortest is not None and len(value) < shortest:
                why = f"{where} in body should be at least {shortest} chars long"
                return [invalid(where, value, why)]
            if find is not None and not find(value):
                return [invalid(where, value, f"{where} in body should match '{pattern}'")]
            return []

        tests.append(test)
    if form and is_known(form):
        good = check_of(form)

        def formed(value: Any, path: Path) -> list[Cause]:
            if not isinstance(value, str) or good(value):
                return []
            where = text(path)
            why = f"{where} in body must be of type {form}: {go_json(value)}"
            return [type_invalid(where, value, why)]

        tests.append(formed)
    return tests


def _number_tests(schema: Object) -> list[Test]:
    most, least = schema.get("maximum"), schema.get("minimum")
    above, under = bool(schema.get("exclusiveMinimum")), bool(schema.get("exclusiveMaximum"))
    step = schema.get("multipleOf")
    if most is None and least is None and step is None:
        return []

    def test(value: Any, path: Path) -> list[Cause]:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return []
        where, out = text(path), []
        if step is not None and step > 0 and not _is_multiple(value, step):
            why = f"{where} in body should be a multiple of {go_number(step)}"
            out.append(invalid(where, value, why))
        if most is not None and (value >= most if under else value > most):
            what = "less than" if under else "less than or equal to"
            out.append(invalid(where, value, f"{where} in body should be {what} {go_number(most)}"))
        if least is not None and (value <= least if above else value < least):
            what = "greater than" if above else "greater than or equal to"
            why = f"{where} in body should be {what} {go_number(least)}"
            out.append(invalid(where, value, why))
        return out

    return [test]


def _is_multiple(value: float, step: float) -> bool:
    if isinstance(value, int) and isinstance(step, int):
        return value % step == 0
    ratio = value / step
    return math.isfinite(ratio) and ratio == int(ratio)


def _size_tests(schema: Object) -> list[Test]:
    tests: list[Test] = []
    for kind, noun, low, high in (
        (list, "items", schema.get("minItems"), schema.get("maxItems")),
        (dict, "properties", schema.get("minProperties"), schema.get("maxProperties")),
    ):
        if low is not None or high is not None:
            tests.append(_size_test(kind, noun, low, high))
    if schema.get("uniqueItems"):
        tests.append(_unique_test)
    names = schema.get("required")
    if names:
        tests.append(_required_test(tuple(names)))
    return tests


def _size_test(kind: Any, noun: str, low: int | None, high: int | None) -> Test:
    def test(value: Any, path: Path) -> list[Cause]:
        if type(value) is not kind:
            return []
        size, where = len(value), text(path)
        if low is not None and size < low:
            why = f"{where} in body should have at least {low} {noun}"
            return [invalid(where, size if kind is list else low, why)]
        if high is not None and size > high:
            return [too_many(where, size, high)]
        return []

    return test


def _unique_test(value: Any, path: Path) -> list[Cause]:
    if type(value) is not list or len({go_json(item) for item in value}) == len(value):
        return []
    where = text(path)
    return [invalid(where, "", f"{where} in body shouldn't contain duplicates")]


def _required_test(names: tuple[str, ...]) -> Test:
    def test(value: Any, path: Path) -> list[Cause]:
        if type(value) is not dict:
            return []
        return [required(text((path, name))) for name in names if name not in value]

    return test


def _enum_test(allowed: list[Any]) -> Test:
    shown = [item if isinstance(item, str) else go_json(item) for item in allowed]

    def test(value: Any, path: Path) -> list[Cause]:
        if any(same(value, item) for item in allowed):
            return []
        return [not_supported(text(path) or NOWHERE, value, shown)]

    return test


# Junctors: each alternative is a schema of its own, tried on its own.


def _junctors(schema: Object) -> list[Test]:
    tests: list[Test] = []
    if schema.get("anyOf") and not _is_int_or_string_pattern(schema):
        tests.append(_any_test(_alternatives(schema["anyOf"])))
    if schema.get("oneOf"):
        tests.append(_one_test(_alternatives(schema["oneOf"])))
    if schema.get("allOf"):
        tests.append(_all_test(_alternatives(schema["allOf"])))
    if schema.get("not") is not None:
        tests.append(_not_test(_alternatives([schema["not"]])[0]))
    return tests


INT_OR_STRING_ANY_OF = [{"type": "integer"}, {"type": "string"}]


def _is_int_or_string_pattern(schema: Object) -> bool:
    return bool(schema.get("x-kubernetes-int-or-string")) and (
        schema["anyOf"] == INT_OR_STRING_ANY_OF
    )


def _alternatives(schemas: list[Object]) -> list[Callable[[Any, Path], list[Cause]]]:
    def alone(schema: Object) -> Callable[[Any, Path], list[Cause]]:
        check = validator(schema)

        def attempt(value: Any, path: Path) -> list[Cause]:
            out: list[Cause] = []
            check(value, ABSENT, path, out)
            return out

        return attempt

    return [alone(schema) for schema in schemas]


def _junction(path: Path, why: str) -> Cause:
    # Upstream's validator names the place in the text only.
    return invalid(NOWHERE, "", f'"{text(path)}" must {why}')


def _any_test(alternatives: list[Callable[[Any, Path], list[Cause]]]) -> Test:
    def test(value: Any, path: Path) -> list[Cause]:
        best: list[Cause] | None = None
        for attempt in alternatives:
            found = attempt(value, path)
            if not found:
                return []
            if best is None or len(found) < len(best):
                best = found
        return [_junction(path, "validate at least one schema (anyOf)"), *(best or ())]

    return test


def _one_test(alternatives: list[Callable[[Any, Path], list[Cause]]]) -> Test:
    def test(value: Any, path: Path) -> list[Cause]:
        results = [attempt(value, path) for attempt in alternatives]
        good = sum(not found for found in results)
        if good == 1:
            return []
        rule = "validate one and only one schema (oneOf)."
        if good:
            return [_junction(path, f"{rule} Found {good} valid alternatives")]
        return [_junction(path, f"{rule} Found none valid"), *min(results, key=len)]

    return test


def _all_test(alternatives: list[Callable[[Any, Path], list[Cause]]]) -> Test:
    def test(value: Any, path: Path) -> list[Cause]:
        results = [attempt(value, path) for attempt in alternatives]
        failed = [found for found in results if found]
        if not failed:
            return []
        none = ". None validated" if len(failed) == len(results) else ""
        causes = [cause for found in failed for cause in found]
        return [*causes, _junction(path, f"validate all the schemas (allOf){none}")]

    return test


def _not_test(attempt: Callable[[Any, Path], list[Cause]]) -> Test:
    def test(value: Any, path: Path) -> list[Cause]:
        if attempt(value, path):
            return []
        return [_junction(path, "not validate the schema (not)")]

    return test


# What is inside the value.


class _Fields(dict[str, Check | None]):
    """Checks by field name; None for fields no schema speaks of."""

    __slots__ = ("_more", "_properties")

    def __init__(self, properties: Object, more: Any) -> None:
        self._properties = properties
        self._more = validator(more) if isinstance(more, dict) else None

    def __missing__(self, name: str) -> Check | None:
        if name in self._properties:
            return self.setdefault(name, validator(self._properties[name]))
        return self._more


def _below(schema: Object) -> Check | None:
    properties, items = schema.get("properties"), schema.get("items")
    more = schema.get("additionalProperties")
    if not properties and not isinstance(more, dict) and not isinstance(items, dict):
        return None
    fields = _Fields(properties or {}, more)
    each = validator(items) if isinstance(items, dict) else None
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    correlate = correlator(tuple(keys)) if schema.get("x-kubernetes-list-type") == "map" else None

    def check(value: Any, old: Any, path: Path, out: list[Cause]) -> None:
        kind = type(value)
        if kind is dict:
            before = old if type(old) is dict else {}
            for name, item in value.items():
                inside = fields[name]
                if inside is not None:
                    inside(item, before.get(name, ABSENT), (path, name), out)
        elif kind is list and each is not None:
            known = correlate(old) if correlate is not None and type(old) is list else None
            for position, item in enumerate(value):
                was = ABSENT if known is None else known(item)
                each(item, was, (path, position), out)

    return check


def correlator(keys: tuple[str, ...]) -> Callable[[list[Any]], Callable[[Any], Any]]:
    """Finds an item of the old list by its keys."""

    def key_of(item: Any) -> str | None:
        return go_json([item.get(key) for key in keys]) if isinstance(item, dict) else None

    def index(old: list[Any]) -> Callable[[Any], Any]:
        known = {key_of(item): item for item in old}
        return lambda item: known.get(key_of(item), ABSENT)

    return index
