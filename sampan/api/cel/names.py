"""How a property's name is written in an expression when it is no identifier (KEP-2876)."""

from __future__ import annotations

import re

KEYWORDS = frozenset({
    "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for",
    "function", "if", "import", "let", "loop", "package", "namespace", "return", "var", "void",
    "while",
})  # fmt: skip
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ALLOWED = re.compile(r"[A-Za-z0-9_./-]+")
_SPECIAL = re.compile(r"__|[./-]")
_WORDS = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_LETTERS = {word: text for text, word in _WORDS.items()}
_ESCAPED = re.compile("|".join(_LETTERS))


def escape(name: str) -> str | None:
    """The identifier for a property; None where there is none."""
    if name in KEYWORDS:
        return f"__{name}__"
    if not _ALLOWED.fullmatch(name) or name[0].isdigit():
        return None
    return _SPECIAL.sub(lambda found: _WORDS[found.group()], name)


def unescape(identifier: str) -> str | None:
    """The property an identifier stands for; None where it stands for none."""
    if not _IDENTIFIER.fullmatch(identifier):
        return None
    if identifier[:2] == identifier[-2:] == "__" and identifier[2:-2] in KEYWORDS:
        return identifier[2:-2]
    rest = _ESCAPED.sub("", identifier)
    if "__" in rest:
        return None
    return _ESCAPED.sub(lambda found: _LETTERS[found.group()], identifier)
