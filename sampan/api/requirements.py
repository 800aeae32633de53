"""Terms of label selectors: their rules, and their compilation to predicates over labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from .fields import invalid
from .names import label_key_problems, label_value_problems

Labels = Mapping[str, str]
Predicate = Callable[[Labels], bool]

EXISTS, NOT_EXISTS = "exists", "!"
IN, NOT_IN, EQUALS, DOUBLE_EQUALS, NOT_EQUALS = "in", "notin", "=", "==", "!="
GREATER, LESS = "gt", "lt"
BINARY = (IN, NOT_IN, EQUALS, DOUBLE_EQUALS, NOT_EQUALS, GREATER, LESS)


class BadSelector(ValueError):
    """A selector that upstream refuses; the message is upstream's."""


class Requirement(NamedTuple):
    """One term. `values` are sorted; empty for EXISTS and NOT_EXISTS."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.operator == EXISTS:
            return self.key
        if self.operator == NOT_EXISTS:
            return f"!{self.key}"
        if self.operator in (IN, NOT_IN):
            return f"{self.key} {self.operator} ({','.join(self.values)})"
        sign = {GREATER: ">", LESS: "<"}.get(self.operator, self.operator)
        return f"{self.key}{sign}{self.values[0]}"


def compile_terms(terms: Sequence[Requirement]) -> Predicate:
    if not terms:
        return lambda labels: True
    tests = [_test(term) for term in terms]
    if len(tests) == 1:
        return tests[0]
    if all(term.operator in (EQUALS, DOUBLE_EQUALS) for term in terms):
        pairs = tuple((term.key, term.values[0]) for term in terms)

        def match_pairs(labels: Labels) -> bool:
            for name, value in pairs:  # noqa: SIM110 - all() with a generator costs three times this
                if labels.get(name) != value:
                    return False
            return True

        return match_pairs
    return lambda labels: all(test(labels) for test in tests)


def _test(term: Requirement) -> Predicate:
    key, operator, values = term
    if operator in (EQUALS, DOUBLE_EQUALS):
        want = values[0]
        return lambda labels: labels.get(key) == want
    if operator == NOT_EQUALS:
        want = values[0]
        return lambda labels: labels.get(key) != want
    if operator == IN:
        allowed = frozenset(values)
        return lambda labels: labels.get(key) in allowed
    if operator == NOT_IN:
        refused = frozenset(values)
        return lambda labels: labels.get(key) not in refused
    if operator == EXISTS:
        return lambda labels: key in labels
    if operator == NOT_EXISTS:
        return lambda labels: key not in labels
    bound = int(values[0])
    if operator == GREATER:
        return lambda labels: (number := _integer(labels.get(key))) is not None and number > bound
    return lambda labels: (number := _integer(labels.get(key))) is not None and number < bound


def _integer(text: str | None) -> int | None:
    """Go's ParseInt(text, 10, 64): None for what it refuses."""
    if not text or len(text) > 20:
        return None
    digits = text[1:] if text[0] in "+-" else text
    if not (digits.isascii() and digits.isdigit()):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


def check_key(key: str) -> None:
    """Raises BadSelector for what is no label key."""
    problems = label_key_problems(key)
    if problems:
        raise BadSelector(str(invalid("<nil>", key, "; ".join(problems))))


def checked(key: str, operator: str, values: Sequence[str]) -> Requirement:
    """A requirement whose key and values follow the rules; BadSelector in upstream's words."""
    check_key(key)
    found = tuple(sorted(set(values)))
    if operator in (IN, NOT_IN) and not found:
        why = "for 'in', 'notin' operators, values set can't be empty"
        raise BadSelector(str(invalid("values", list(found), why)))
    if operator in (EXISTS, NOT_EXISTS) and found:
        why = "values set must be empty for exists and does not exist"
        raise BadSelector(str(invalid("values", list(found), why)))
    for position, value in enumerate(found):
        if operator in (GREATER, LESS) and _integer(value) is None:
            why = "for 'Gt', 'Lt' operators, the value must be an integer"
            raise BadSelector(str(invalid(f"values[{position}]", value, why)))
        problems = label_value_problems(value)
        if problems:
            path = f"values[{position}][{key}]"
            raise BadSelector(str(invalid(path, value, "; ".join(problems))))
    return Requirement(key, operator, found)
