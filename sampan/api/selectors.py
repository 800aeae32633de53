"""Label and field selectors: parsed as upstream parses them, compiled to predicates.

A selector also shows its `requirements` and the pairs it fixes (`equals`), so that a server can
answer from an index and check only the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from .errors import BadRequest, Cause, Object
from .fields import forbidden, invalid, required
from .names import label_key_problems, label_value_problems, validate_labels

Labels = Mapping[str, str]
Predicate = Callable[[Labels], bool]

CACHED_SELECTORS = 2048
"""Parsed texts remembered; controllers and kubectl repeat theirs. Older ones are parsed again."""

EXISTS, NOT_EXISTS = "exists", "!"
IN, NOT_IN, EQUALS, DOUBLE_EQUALS, NOT_EQUALS = "in", "notin", "=", "==", "!="
GREATER, LESS = "gt", "lt"
BINARY = (IN, NOT_IN, EQUALS, DOUBLE_EQUALS, NOT_EQUALS, GREATER, LESS)


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
    return Selector(terms, _compile(terms))


def _compile(terms: Sequence[Requirement]) -> Predicate:
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


EVERYTHING = selector_of(())
NOTHING = Selector((), lambda labels: False, nothing=True)


# Text.


class _Bad(ValueError):
    pass


@lru_cache(maxsize=CACHED_SELECTORS)
def parse_labels(text: str) -> Selector:
    """A selector such as `app=web,tier in (a, b),!old`. Raises BadRequest, in upstream's words."""
    try:
        return selector_of(_Parser(text).parse())
    except _Bad as problem:
        raise BadRequest(str(problem)) from None


_SYMBOLS = {"(", ")", ",", "!", "=", "==", "!=", ">", "<"}
_SPECIAL = frozenset("=!(),><")
_SPACE = frozenset(" \t\r\n")
_END = ""


def _tokens(text: str) -> list[tuple[bool, str]]:
    """(is a symbol, literal) pairs, ending with (True, "")."""
    out = []
    place = 0
    while place < len(text):
        char = text[place]
        if char in _SPACE:
            place += 1
        elif char in _SPECIAL:
            size = 2 if text[place : place + 2] in _SYMBOLS else 1
            out.append((True, text[place : place + size]))
            place += size
        else:
            end = place
            while end < len(text) and text[end] not in _SPECIAL and text[end] not in _SPACE:
                end += 1
            out.append((False, text[place:end]))
            place = end
    out.append((True, _END))
    return out


class _Parser:
    """Recursive descent over tokens, with the complaints of upstream's labels.Parser."""

    def __init__(self, text: str) -> None:
        self.tokens = _tokens(text)
        self.place = 0

    def peek(self) -> tuple[bool, str]:
        return self.tokens[self.place]

    def take(self) -> tuple[bool, str]:
        token = self.tokens[self.place]
        self.place = min(self.place + 1, len(self.tokens) - 1)
        return token

    def parse(self) -> list[Requirement]:
        out: list[Requirement] = []
        while True:
            symbol, literal = self.peek()
            if symbol and literal == _END:
                return out
            if symbol and literal != "!":
                raise _Bad(f"found '{literal}', expected: !, identifier, or 'end of string'")
            try:
                out.append(self.requirement())
            except _Bad as problem:
                raise _Bad(f"unable to parse requirement: {problem}") from None
            symbol, literal = self.take()
            if symbol and literal == _END:
                return out
            if not symbol or literal != ",":
                raise _Bad(f"found '{literal}', expected: ',' or 'end of string'")
            symbol, literal = self.peek()
            if symbol and literal != "!":
                raise _Bad(f"found '{literal}', expected: identifier after ','")

    def requirement(self) -> Requirement:
        symbol, key = self.take()
        negated = symbol and key == "!"
        if negated:
            symbol, key = self.take()
        if symbol:
            raise _Bad(f"found '{key}', expected: identifier")
        _check_key(key)
        after, literal = self.peek()
        if after and literal in (_END, ","):
            return Requirement(key, NOT_EXISTS if negated else EXISTS)
        if negated:
            # Upstream reads on and then builds a requirement with both; it is always refused.
            raise _Bad(f"found '{literal}', expected: ',' or 'end of string'")
        return self.binary(key)

    def binary(self, key: str) -> Requirement:
        symbol, literal = self.take()
        operators = {"=": EQUALS, "==": DOUBLE_EQUALS, "!=": NOT_EQUALS, ">": GREATER, "<": LESS}
        operator = operators.get(literal) if symbol else {"in": IN, "notin": NOT_IN}.get(literal)
        if operator is None:
            raise _Bad(f"found '{literal}', expected: {', '.join(BINARY)}")
        values = self.values() if operator in (IN, NOT_IN) else [self.value()]
        return checked(key, operator, values)

    def value(self) -> str:
        symbol, literal = self.peek()
        if symbol and literal in (_END, ","):
            return ""
        self.take()
        if symbol:
            raise _Bad(f"found '{literal}', expected: identifier")
        return literal

    def values(self) -> list[str]:
        symbol, literal = self.take()
        if not symbol or literal != "(":
            raise _Bad(f"found '{literal}' expected: '('")
        out: list[str] = []
        current = ""
        seen_word = False
        while True:
            symbol, literal = self.take()
            if not symbol:
                if seen_word:
                    raise _Bad(f"found '{literal}', expected: ',' or ')'")
                current, seen_word = literal, True
            elif literal in (",", ")"):
                out.append(current)
                current, seen_word = "", False
                if literal == ")":
                    return out
            elif seen_word:
                raise _Bad(f"found '{literal}', expected: ',' or ')'")
            else:
                raise _Bad(f"found '{literal}', expected: ',', ')' or identifier")


def _check_key(key: str) -> None:
    problems = label_key_problems(key)
    if problems:
        raise _Bad(str(invalid("<nil>", key, "; ".join(problems))))


def checked(key: str, operator: str, values: Sequence[str]) -> Requirement:
    """A requirement whose key and values follow the rules; ValueError in upstream's words."""
    _check_key(key)
    found = tuple(sorted(set(values)))
    if operator in (IN, NOT_IN) and not found:
        why = "for 'in', 'notin' operators, values set can't be empty"
        raise _Bad(str(invalid("values", list(found), why)))
    if operator in (EXISTS, NOT_EXISTS) and found:
        why = "values set must be empty for exists and does not exist"
        raise _Bad(str(invalid("values", list(found), why)))
    for position, value in enumerate(found):
        if operator in (GREATER, LESS) and _integer(value) is None:
            why = "for 'Gt', 'Lt' operators, the value must be an integer"
            raise _Bad(str(invalid(f"values[{position}]", value, why)))
        problems = label_value_problems(value)
        if problems:
            path = f"values[{position}][{key}]"
            raise _Bad(str(invalid(path, value, "; ".join(problems))))
    return Requirement(key, operator, found)


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
        except _Bad as problem:
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


# Field selectors.


class FieldTerm(NamedTuple):
    field: str
    operator: str
    """EQUALS or NOT_EQUALS."""
    value: str


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """A conjunction of field terms; `matches` takes the object's selectable fields."""

    terms: tuple[FieldTerm, ...]

    @property
    def everything(self) -> bool:
        return not self.terms

    @property
    def equals(self) -> list[tuple[str, str]]:
        return [(term.field, term.value) for term in self.terms if term.operator == EQUALS]

    def matches(self, fields: Labels) -> bool:
        """An absent field counts as ""."""
        return all(
            (fields.get(term.field, "") == term.value) == (term.operator == EQUALS)
            for term in self.terms
        )

    def __str__(self) -> str:
        return ",".join(f"{term.field}{term.operator}{_escape(term.value)}" for term in self.terms)


ALL_FIELDS = FieldSelector(())
ALWAYS_SUPPORTED = frozenset(("metadata.name", "metadata.namespace"))


@lru_cache(maxsize=CACHED_SELECTORS)
def parse_fields(text: str, supported: frozenset[str] = ALWAYS_SUPPORTED) -> FieldSelector:
    """A selector such as `status.phase!=Running,metadata.name=x`. Raises BadRequest for bad text
    and for fields not in `supported` (metadata.name and metadata.namespace always are)."""
    terms = [_field_term(part, text) for part in _split(text) if part]
    for term in terms:
        if term.field in supported or term.field in ALWAYS_SUPPORTED:
            continue
        if supported <= ALWAYS_SUPPORTED:
            raise BadRequest(
                f'"{term.field}" is not a known field selector: '
                'only "metadata.name", "metadata.namespace"'
            )
        raise BadRequest(f"field label not supported: {term.field}")
    return FieldSelector(tuple(terms))


def _split(text: str) -> list[str]:
    """The terms between unescaped commas."""
    parts, start, place = [], 0, 0
    while place < len(text):
        if text[place] == "\\":
            place += 1
        elif text[place] == ",":
            parts.append(text[start:place])
            start = place + 1
        place += 1
    return [*parts, text[start:]]


def _field_term(part: str, text: str) -> FieldTerm:
    for place in range(len(part)):
        for sign in ("!=", "==", "="):
            if part.startswith(sign, place):
                value = _unescape(part[place + len(sign) :])
                return FieldTerm(part[:place], NOT_EQUALS if sign == "!=" else EQUALS, value)
    raise BadRequest(f"invalid selector: '{text}'; can't understand '{part}'")


def _unescape(value: str) -> str:
    out = []
    place = 0
    while place < len(value):
        char = value[place]
        if char == "\\":
            place += 1
            char = value[place : place + 1]
            if char not in ("\\", ",", "="):
                raise BadRequest(f"invalid field selector: invalid escape sequence: \\{char}")
        elif char in ",=":
            raise BadRequest(
                f"invalid field selector: invalid unescaped character in value: {value}: {char}"
            )
        out.append(char)
        place += 1
    return "".join(out)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")
