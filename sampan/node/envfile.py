"""Files of variables (fileKeyRef, KEP-3721): a strict subset of the shell's syntax. Pure.

NAME='value'     # a value is quoted, and may go over several lines
OTHER=           # nothing
"""

from __future__ import annotations

FILE_MAX = 1 << 20
"""More of a file is not read: its pod may have written it."""
BLANK = " \t"


def value_of(text: str, key: str) -> str | None:
    """What the file says of the key, the first time it does; None when it says nothing. Raises
    ValueError for a line before that which is no assignment."""
    at, line = 0, 1
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        stated = text[at:end].strip(BLANK + "\r")
        if not stated or stated.startswith("#"):
            at, line = end + 1, line + 1
            continue
        equals = text.find("=", at, end)
        if equals < 0:
            raise _wrong(line, "missing '='")
        name = text[at:equals].lstrip(BLANK)
        if not name.strip(BLANK):
            raise _wrong(line, "empty variable name")
        if name != name.rstrip(BLANK):
            raise _wrong(line, "whitespace before '='")
        value, after = _value(text, equals + 1, line)
        if name == key:
            return value
        line += text.count("\n", at, after)
        end = text.find("\n", after)
        at, line = (len(text), line) if end < 0 else (end + 1, line + 1)
    return None


def _value(text: str, at: int, line: int) -> tuple[str, int]:
    """The value that begins there, and where what follows it does."""
    first = text[at : at + 1]
    if first in ("", "\n", "\r", " ", "\t"):
        # As in a shell, a blank ends the assignment.
        return "", at
    if first != "'":
        raise _wrong(line, "value must be enclosed in single quotes")
    end = text.find("'", at + 1)
    if end < 0:
        raise _wrong(line, "unclosed single quote")
    rest = text[end + 1 :].partition("\n")[0].strip(BLANK + "\r")
    if rest and not rest.startswith("#"):
        raise _wrong(line, "unexpected characters after the closing quote")
    return text[at + 1 : end], end + 1


def _wrong(line: int, why: str) -> ValueError:
    return ValueError(f"invalid environment variable format at line {line}: {why}")
