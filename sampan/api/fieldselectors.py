"""Field selectors: `status.phase!=Running,metadata.name=x`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from msgspec import Struct

from .errors import BadRequest
from .requirements import EQUALS, NOT_EQUALS

CACHED_SELECTORS = 2048
"""Parsed texts remembered; node agents repeat theirs. Older ones are parsed again."""


class FieldTerm(NamedTuple):
    field: str
    operator: str
    """EQUALS or NOT_EQUALS."""
    value: str


class FieldSelector(Struct, frozen=True):
    """A conjunction of field terms; `matches` takes the object's selectable fields."""

    terms: tuple[FieldTerm, ...]

    @property
    def everything(self) -> bool:
        return not self.terms

    @property
    def equals(self) -> list[tuple[str, str]]:
        return [(term.field, term.value) for term in self.terms if term.operator == EQUALS]

    def matches(self, fields: Mapping[str, str]) -> bool:
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
