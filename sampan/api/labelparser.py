"""The text of label selectors, parsed with the complaints of upstream's labels.Parser."""

from __future__ import annotations

from .requirements import (
    BINARY,
    DOUBLE_EQUALS,
    EQUALS,
    EXISTS,
    GREATER,
    IN,
    LESS,
    NOT_EQUALS,
    NOT_EXISTS,
    NOT_IN,
    BadSelector,
    Requirement,
    check_key,
    checked,
)

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


def parse_terms(text: str) -> list[Requirement]:
    """The terms in the order written. Raises BadSelector."""
    return _Parser(text).parse()


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
                raise BadSelector(f"found '{literal}', expected: !, identifier, or 'end of string'")
            try:
                out.append(self.requirement())
            except BadSelector as problem:
                raise BadSelector(f"unable to parse requirement: {problem}") from None
            symbol, literal = self.take()
            if symbol and literal == _END:
                return out
            if not symbol or literal != ",":
                raise BadSelector(f"found '{literal}', expected: ',' or 'end of string'")
            symbol, literal = self.peek()
            if symbol and literal != "!":
                raise BadSelector(f"found '{literal}', expected: identifier after ','")

    def requirement(self) -> Requirement:
        symbol, key = self.take()
        negated = symbol and key == "!"
        if negated:
            symbol, key = self.take()
        if symbol:
            raise BadSelector(f"found '{key}', expected: identifier")
        check_key(key)
        after, literal = self.peek()
        if after and literal in (_END, ","):
            return Requirement(key, NOT_EXISTS if negated else EXISTS)
        if negated:
            # Upstream reads on and then builds a requirement with both; it is always refused.
            raise BadSelector(f"found '{literal}', expected: ',' or 'end of string'")
        return self.binary(key)

    def binary(self, key: str) -> Requirement:
        symbol, literal = self.take()
        operators = {"=": EQUALS, "==": DOUBLE_EQUALS, "!=": NOT_EQUALS, ">": GREATER, "<": LESS}
        operator = operators.get(literal) if symbol else {"in": IN, "notin": NOT_IN}.get(literal)
        if operator is None:
            raise BadSelector(f"found '{literal}', expected: {', '.join(BINARY)}")
        values = self.values() if operator in (IN, NOT_IN) else [self.value()]
        return checked(key, operator, values)

    def value(self) -> str:
        symbol, literal = self.peek()
        if symbol and literal in (_END, ","):
            return ""
        self.take()
        if symbol:
            raise BadSelector(f"found '{literal}', expected: identifier")
        return literal

    def values(self) -> list[str]:
        symbol, literal = self.take()
        if not symbol or literal != "(":
            raise BadSelector(f"found '{literal}' expected: '('")
        out: list[str] = []
        current = ""
        seen_word = False
        while True:
            symbol, literal = self.take()
            if not symbol:
                if seen_word:
                    raise BadSelector(f"found '{literal}', expected: ',' or ')'")
                current, seen_word = literal, True
            elif literal in (",", ")"):
                out.append(current)
                current, seen_word = "", False
                if literal == ")":
                    return out
            elif seen_word:
                raise BadSelector(f"found '{literal}', expected: ',' or ')'")
            else:
                raise BadSelector(f"found '{literal}', expected: ',', ')' or identifier")
