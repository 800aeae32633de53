"""Label and field selectors: parsed as upstream parses them, compiled to predicates.

A selector also shows its `requirements` and the pairs it fixes (`equals`), so that a server can
answer from an index and check only the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from .errors import BadRequest, Cause, Object
from .fields import forbidden, invalid, required
from .fieldselectors import ALL_FIELDS, ALWAYS_SUPPORTED, FieldSelector, FieldTerm, parse_fields
from .labelparser import parse_terms
from .names import label_key_problems, label_value_problems, validate_labels
from .requirements import (
    DOUBLE_EQUALS,
    EQUALS,
    EXISTS,
    IN,
    NOT_EQUALS,
    NOT_EXISTS,
    NOT_IN,
    BadSelector,
    Labels,
    Predicate,
    Requirement,
    checked,
    compile_terms,
)

__all__ = [
    "ALL_FIELDS", "ALWAYS_SUPPORTED", "DOUBLE_EQUALS", "EQUALS", "EVERYTHING", "EXISTS", "IN",
    "NOTHING", "NOT_EQUALS", "NOT_EXISTS", "NOT_IN", "FieldSelector", "FieldTerm", "Labels",
    "Requirement", "Selector", "from_label_selector", "from_map", "parse_fields", "parse_labels",
    "selector_of", "validate_label_selector",
]  # fmt: skip

CACHED_SELECTORS = 2048
"""Parsed texts remembered; controllers and kubectl repeat theirs. Older ones are parsed again."""


@dataclass(frozen=True, slots=True)
class Selector:
    """A conjunction of requirements. `everything` selects all, `nothing` (no requirements at all,
    from an absent LabelSelector) none."""

    requirements: tuple[Requirement, ...]
    matches: Predicate = field(compare=False)
    nothing: bool = False

    @property
    def everything(self) -> bool:
        return not self.requirements and not self.nothing

    @property
    def equals(self) -> list[tuple[str, str]]:
        """The (key, value) pairs every selected set of labels has."""
        return [
            (item.key, item.values[0])
            for item in self.requirements
            if item.operator in (EQUALS, DOUBLE_EQUALS)
            or (item.operator == IN and len(item.values) == 1)
        ]

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


def selector_of(requirements: Iterable[Requirement]) -> Selector:
    """Requirements sorted by key, as upstream does, and compiled."""
    terms = tuple(sorted(requirements, key=lambda item: item.key))
    return Selector(terms, compile_terms(terms))


EVERYTHING = selector_of(())
NOTHING = Selector((), lambda labels: False, nothing=True)


@lru_cache(maxsize=CACHED_SELECTORS)
def parse_labels(text: str) -> Selector:
    """A selector such as `app=web,tier in (a, b),!old`. Raises BadRequest, in upstream's words."""
    try:
        return selector_of(parse_terms(text))
    except BadSelector as problem:
        raise BadRequest(str(problem)) from None


# metav1.LabelSelector.

_OPERATORS = {"In": IN, "NotIn": NOT_IN, "Exists": EXISTS, "DoesNotExist": NOT_EXISTS}


def from_label_selector(selector: Object | None) -> Selector:
    """The selector of a metav1.LabelSelector: None selects nothing, {} everything. Raises
    BadRequest for one that validation would have refused."""
    if selector is None:
        return NOTHING
    terms = [
        Requirement(key, EQUALS, (value,))
        for key, value in (selector.get("matchLabels") or {}).items()
    ]
    for item in selector.get("matchExpressions") or ():
        operator = _OPERATORS.get(item.get("operator", ""))
        if operator is None:
            text = item.get("operator", "")
            raise BadRequest(f'"{text}" is not a valid label selector operator')
        try:
            terms.append(checked(item.get("key", ""), operator, item.get("values") or ()))
        except BadSelector as problem:
            raise BadRequest(str(problem)) from None
    return selector_of(terms)


def from_map(labels: Labels | None) -> Selector:
    """The selector of a plain map (Service, ReplicationController): empty selects everything."""
    return selector_of(Requirement(key, EQUALS, (value,)) for key, value in (labels or {}).items())


def validate_label_selector(selector: Object | None, path: str) -> list[Cause]:
    """Field errors of a metav1.LabelSelector."""
    if not selector:
        return []
    causes = validate_labels(selector.get("matchLabels") or {}, f"{path}.matchLabels")
    for position, item in enumerate(selector.get("matchExpressions") or ()):
        causes += _validate_expression(item, f"{path}.matchExpressions[{position}]")
    return causes


def _validate_expression(item: Object, path: str) -> list[Cause]:
    causes = []
    operator, values = item.get("operator", ""), item.get("values") or []
    if operator in ("In", "NotIn"):
        if not values:
            why = "must be specified when `operator` is 'In' or 'NotIn'"
            causes.append(required(f"{path}.values", why))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            causes.append(forbidden(f"{path}.values", why))
    else:
        causes.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
    key = item.get("key", "")
    causes += [invalid(f"{path}.key", key, why) for why in label_key_problems(key)]
    for position, value in enumerate(values):
        for why in label_value_problems(value):
            causes.append(invalid(f"{path}.values[{position}]", value, why))
    return causes
