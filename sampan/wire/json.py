"""JSON in and out, and the stored form of an object.

A stored object begins with `{"kind":...,"apiVersion":...,"metadata":{` and has no
resourceVersion: that is the store's revision, spliced in behind the brace when the bytes are sent
(`splice_version`), so that an object is encoded once in its life.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import orjson

MAX_DEPTH = 200
"""Nesting of a body. Upstream allows 10,000; no kind needs 50, our encoder ends at 254."""

MAX_SHOWN = 64
"""Digits of a number that a complaint repeats."""

_META = b'"metadata":{'


class JSONError(ValueError):
    """The bytes are no JSON; the message is what Go's decoder says."""


dumps = orjson.dumps


def loads(body: bytes) -> Any:
    """Decode a body. Raises JSONError; wrong UTF-8 is replaced, as Go does."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = _loads_slowly(body)
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH:
        check_depth(value)
    return value


def check_depth(value: Any) -> None:
    """Raises JSONError when a value is nested deeper than MAX_DEPTH."""
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if type(item) is dict:
                below.extend(inner for inner in item.values() if type(inner) in (dict, list))
            elif type(item) is list:
                below.extend(inner for inner in item if type(inner) in (dict, list))
        if not below:
            return
        level = below
    raise JSONError("exceeded max depth")


def encode_object(obj: dict[str, Any]) -> bytes:
    """The stored bytes of an object: kind, apiVersion and metadata first, no resourceVersion.

    `obj` is not changed. Raises KeyError without kind, apiVersion or metadata, and JSONError for
    what cannot be encoded (nested too deep, lone surrogates).
    """
    meta = obj["metadata"]
    if "resourceVersion" in meta:
        meta = {name: value for name, value in meta.items() if name != "resourceVersion"}
    head = {"kind": obj["kind"], "apiVersion": obj["apiVersion"], "metadata": meta}
    for name, value in obj.items():
        if name not in head:
            head[name] = value
    try:
        # The encoder's result keeps its whole buffer, a power of two (orjson 3.13); what is kept
        # for the life of the object is a copy of the length it has.
        return bytes(memoryview(orjson.dumps(head)))
    except TypeError as error:
        raise JSONError(f"json: unsupported value: {error}") from None


def splice_version(value: bytes, revision: int) -> bytes:
    """The stored bytes with `metadata.resourceVersion` in them, ready to send."""
    place = value.index(_META) + len(_META)
    comma = b"" if value[place] == 0x7D else b","  # 0x7D closes empty metadata
    return b'%b"resourceVersion":"%d"%b%b' % (value[:place], revision, comma, value[place:])


def duplicates(body: bytes, value: Any) -> list[str]:
    """Paths of the fields that occur twice in `body`, which decoded to `value`.

    Counting the colons behind names, there and in what it encodes to, settles nearly every body
    in two microseconds; only when the numbers differ is it decoded again, slowly, to see which.
    """
    try:
        if body.count(b'":') == orjson.dumps(value).count(b'":'):
            return []
    except TypeError:
        pass  # Nested deeper than the encoder goes; whoever stores it will say so.
    try:
        tree = json.loads(body.decode("utf-8", "replace"), object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return []
    found: list[str] = []
    _collect(tree, "", found)
    return found


class _Pairs(dict[str, Any]):
    """An object that remembers which of its keys came twice."""

    __slots__ = ("twice",)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.twice: list[str] = []
        if len(self) != len(pairs):
            seen = set()
            for name, _ in pairs:
                if name in seen and name not in self.twice:
                    self.twice.append(name)
                seen.add(name)


def _collect(value: Any, where: str, found: list[str]) -> None:
    if isinstance(value, _Pairs):
        found.extend(f"{where}.{name}" if where else name for name in value.twice)
        for name, item in value.items():
            if isinstance(item, dict | list):
                _collect(item, f"{where}.{name}" if where else name, found)
    elif isinstance(value, list):
        for position, item in enumerate(value):
            if isinstance(item, dict | list):
                _collect(item, f"{where}[{position}]", found)


# What is wrong with a body, in Go's words.


def _loads_slowly(body: bytes) -> Any:
    """What the fast decoder refuses: to see why, or to take what Go takes."""
    text = body.decode("utf-8", "replace")
    try:
        value = json.loads(
            text, parse_constant=_refuse_constant, parse_int=_number, parse_float=_number
        )
    except json.JSONDecodeError as error:
        raise JSONError(_explain(text, error)) from None
    except RecursionError:
        raise JSONError("exceeded max depth") from None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        check_depth(value)
        return _whole(value)


_HALF = re.compile("[\ud800-\udfff]")


def _whole(value: Any) -> Any:
    """The value with halves of surrogate pairs replaced, as Go does."""
    if isinstance(value, str):
        return _HALF.sub("\ufffd", value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {_whole(name): _whole(item) for name, item in value.items()}
    return value


def _number(text: str) -> int | float:
    """As the fast decoder reads it; JSONError for what no float holds."""
    if len(text) < 20 and text.lstrip("-").isdecimal():
        return int(text)
    number = float(text)
    if math.isinf(number):
        shown = text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."
        raise JSONError(f"json: cannot unmarshal number {shown} into Go value of type float64")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise JSONError(f"invalid character '{name[0]}' looking for beginning of value")


_CONTEXTS = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": "looking for beginning of object "
    "key string",
    "Expecting ':' delimiter": "after object key",
    "Extra data": "after top-level value",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
    "Invalid \\uXXXX escape": "in \\u hexadecimal character escape",
}


def _explain(text: str, error: json.JSONDecodeError) -> str:
    place = error.pos
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    if place >= len(text) or error.msg.startswith("Unterminated string"):
        return "unexpected end of JSON input"
    if error.msg == "Expecting ',' delimiter":
        inside = _container(text[:place])
        context = "after object key:value pair" if inside == "{" else "after array element"
    else:
        context = _CONTEXTS.get(error.msg, "looking for beginning of value")
        place += error.msg == "Invalid \\escape"
    char = text[place : place + 1]
    shown = {"'": "'\\''", '"': "'\"'"}.get(char) or repr(char)
    return f"invalid character {shown} {context}"


def _container(text: str) -> str:
    """The bracket that is open at the end of `text`."""
    open_: list[str] = []
    quoted = escaped = False
    for char in text:
        if escaped:
            escaped = False
        elif quoted:
            escaped = char == "\\"
            quoted = char != '"'
        elif char == '"':
            quoted = True
        elif char in "{[":
            open_.append(char)
        elif char in "}]" and open_:
            open_.pop()
    return open_[-1] if open_ else ""
