"""Text into tokens (CEL's lexical grammar)."""

from __future__ import annotations

import re
from math import isinf
from typing import Any, NamedTuple

from .errors import Issue
from .values import Uint

MAX_SOURCE = 100_000
"""Characters of an expression, as cel-go's default: more is refused before it is read."""

MAX_DIGITS = 40
"""Digits of an integer that are looked at: no 64-bit number has more."""

IN_GO = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}

_TOKEN = re.compile(
    r"""
    (?P<space>[\ \t\r\n\f]+|//[^\n]*)
  | (?P<string>(?P<prefix>[bB][rR]?|[rR][bB]?|)(?P<quote>'{3}|"{3}|'|"))
  | (?P<float>\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?)
  | (?P<int>(?:0x[0-9a-fA-F]+|\d+)[uU]?)
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<op>&&|\|\||==|!=|<=|>=|[-+*/%!<>?:.,()\[\]{}])
    """,
    re.VERBOSE | re.ASCII,
)
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\?\"'`])|[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.|\Z))",
    re.DOTALL,
)
_SIMPLE = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "?": "?", '"': '"', "'": "'", "`": "`",
}  # fmt: skip


class Token(NamedTuple):
    kind: str
    """name, op, string, bytes, int, uint, float, end, bad."""
    text: str
    offset: int
    value: Any = None


class LexicalError(Exception):
    """Carries the issue."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.issue = Issue(offset, message)


def tokens_of(source: str) -> list[Token]:
    """All tokens, an `end` last. Raises LexicalError."""
    out: list[Token] = []
    position, end = 0, len(source)
    while position < end:
        found = _TOKEN.match(source, position)
        if found is None:
            bad = source[position]
            shown = IN_GO.get(bad, bad)
            raise LexicalError(position, f"Syntax error: token recognition error at: '{shown}'")
        kind = found.lastgroup or ""
        if found["string"]:
            token = _string(source, found)
        elif kind == "space":
            position = found.end()
            continue
        else:
            token = _plain(kind, found.group(), position)
        out.append(token)
        position = token.offset + len(token.text)
    out.append(Token("end", "<EOF>", end))
    return out


def _plain(kind: str, text: str, offset: int) -> Token:
    if kind == "float":
        if isinf(float(text)):
            raise LexicalError(offset, "invalid double literal")
        return Token("float", text, offset, float(text))
    if kind == "int":
        unsigned = text[-1] in "uU"
        digits = text[:-1] if unsigned else text
        hexadecimal = digits[:2] == "0x"
        digits = digits[2:] if hexadecimal else digits
        # Beyond any 64-bit number: Python's own parser refuses thousands of digits.
        number = 1 << 64
        if len(digits.lstrip("0")) <= MAX_DIGITS:
            number = int(digits[-MAX_DIGITS:], 16 if hexadecimal else 10)
        if unsigned:
            if number >= 1 << 64:
                raise LexicalError(offset, "invalid uint literal")
            return Token("uint", text, offset, Uint(number))
        return Token("int", text, offset, number)
    return Token(kind, text, offset, text)


def _string(source: str, found: re.Match[str]) -> Token:
    begin, quote, prefix = found.end(), found["quote"], found["prefix"].lower()
    raw, position = "r" in prefix, found.end()
    while not source.startswith(quote, position):
        if position >= len(source) or (len(quote) == 1 and source[position] in "\r\n"):
            at = found.start()
            shown = source[at:position]
            raise LexicalError(at, f"Syntax error: token recognition error at: '{shown}'")
        position += 2 if source[position] == "\\" and not raw else 1
    body, stop = source[begin:position], position + len(quote)
    text = source[found.start() : stop]
    if "b" in prefix:
        data = body.encode() if raw else _unescape_bytes(body, found.start())
        return Token("bytes", text, found.start(), data)
    return Token("string", text, found.start(), body if raw else _unescape(body, found.start()))


def _unescape(body: str, offset: int) -> str:
    if "\\" not in body:
        return body

    def replace(found: re.Match[str]) -> str:
        simple, x, u, long, octal, bad = found.groups()
        if simple:
            return _SIMPLE[simple]
        if bad is not None:
            raise LexicalError(offset, "unable to unescape string")
        code = int(octal, 8) if octal else int(x or u or long, 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise LexicalError(offset, "unable to unescape unicode code point")
        return chr(code)

    return _ESCAPE.sub(replace, body)


def _unescape_bytes(body: str, offset: int) -> bytes:
    """Escapes of bytes are octets: \\xff is one byte, not a code point."""
    out, position = bytearray(), 0
    for found in _ESCAPE.finditer(body):
        out += body[position : found.start()].encode()
        simple, x, u, long, octal, _bad = found.groups()
        if simple:
            out += _SIMPLE[simple].encode()
        elif x or octal:
            out.append(int(x, 16) if x else int(octal, 8))
        elif u or long:
            raise LexicalError(offset, "unable to unescape string")
        else:
            raise LexicalError(offset, "unable to unescape string")
        position = found.end()
    out += body[position:].encode()
    return bytes(out)
