"""Protobuf messages as dicts, described by tables: for peers whose few messages do not warrant a
generated module (CSI, plugin registration).

A schema is a mapping of field name to (number, type); a type is `TEXT`, `BYTES`, `BOOL` or `INT`,
`MAP` (text to text), another schema, or a list of one type for a repeated field. As in proto3, what
has its zero value is not sent, and what was not sent reads as zero; a message field that was not
sent is None, and an empty one is {}.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .protobuf import LENGTH, VARINT, ProtobufError, fields, signed, text

TEXT, BYTES, BOOL, INT, MAP = "text", "bytes", "bool", "int", "map"
Schema = Mapping[str, tuple[int, Any]]
MASK = (1 << 64) - 1
_PAIR: Schema = {"key": (1, TEXT), "value": (2, TEXT)}
_ZERO: Mapping[str, Any] = {TEXT: "", BYTES: b"", BOOL: False, INT: 0}


def encode(schema: Schema, message: Mapping[str, Any]) -> bytes:
    """Raises KeyError for a field that the schema does not have."""
    out = bytearray()
    for name, value in message.items():
        number, kind = schema[name]
        for item, item_kind in _items(kind, value):
            out += _field(number, item_kind, item)
    return bytes(out)


def _items(kind: Any, value: Any) -> Iterator[tuple[Any, Any]]:
    """The values to be sent of one field, each with its type."""
    if kind == MAP:
        yield from (({"key": key, "value": item}, _PAIR) for key, item in (value or {}).items())
    elif isinstance(kind, list):
        yield from ((item, kind[0]) for item in value or ())
    elif isinstance(kind, Mapping):
        if value is not None:
            yield value, kind
    elif value:
        yield value, kind


def _field(number: int, kind: Any, value: Any) -> bytes:
    if kind in (BOOL, INT):
        return _varint(number << 3 | VARINT) + _varint(int(value) & MASK)
    if kind == TEXT:
        data = str(value).encode()
    elif kind == BYTES:
        data = bytes(value)
    else:
        data = encode(kind, value)
    return _varint(number << 3 | LENGTH) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(schema: Schema, data: bytes) -> dict[str, Any]:
    """Every field of the schema is in the answer; others that were sent are passed over. Raises
    ProtobufError."""
    by_number = {number: (name, kind) for name, (number, kind) in schema.items()}
    out = {name: _zero(kind) for name, (_, kind) in schema.items()}
    for number, value in fields(data):
        if number not in by_number:
            continue
        name, kind = by_number[number]
        if kind == MAP:
            pair = _value(_PAIR, value)
            out[name][pair["key"]] = pair["value"]
        elif isinstance(kind, list):
            out[name].append(_value(kind[0], value))
        else:
            out[name] = _value(kind, value)
    return out


def _zero(kind: Any) -> Any:
    if isinstance(kind, list):
        return []
    if isinstance(kind, Mapping):
        return None
    return {} if kind == MAP else _ZERO[kind]


def _value(kind: Any, value: int | bytes) -> Any:
    if kind in (BOOL, INT):
        if not isinstance(value, int):
            raise ProtobufError("protobuf: bytes where a number was expected")
        return bool(value) if kind == BOOL else signed(value)
    if kind == TEXT:
        return text(value)
    if not isinstance(value, bytes):
        raise ProtobufError("protobuf: a number where bytes were expected")
    return value if kind == BYTES else decode(kind, value)
