"""Reading protobuf messages (proto2 wire format), and the envelope Kubernetes puts around them.

Only the bytes: what the fields mean is `api.protobuf`'s. Pure; every length is checked against what
is there, so a lying message is an error and never a large allocation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

MAGIC = b"k8s\0"
"""Every Kubernetes protobuf body begins so (runtime/serializer/protobuf)."""
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


class ProtobufError(ValueError):
    """Not a message; the text says where."""


class Envelope(NamedTuple):
    """runtime.Unknown: a message and what it is."""

    api_version: str
    kind: str
    raw: bytes


def varint(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned number and the position behind it."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ProtobufError("protobuf: bad number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7


def signed(value: int) -> int:
    """A number as int64: two's complement, as int32 and int64 fields are sent."""
    return value - (1 << 64) if value >> 63 else value


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) in the order sent: an unsigned number for numeric fields, bytes for
    the others."""
    at, end = 0, len(data)
    while at < end:
        key, at = varint(data, at)
        number, wire_type = key >> 3, key & 7
        value: int | bytes
        if wire_type == VARINT:
            value, at = varint(data, at)
        elif wire_type == LENGTH:
            size, at = varint(data, at)
            value, at = _take(data, at, size), at + size
        elif wire_type == FIXED64:
            value, at = int.from_bytes(_take(data, at, 8), "little"), at + 8
        elif wire_type == FIXED32:
            value, at = int.from_bytes(_take(data, at, 4), "little"), at + 4
        else:
            raise ProtobufError(f"protobuf: wire type {wire_type} of field {number}")
        yield number, value


def _take(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise ProtobufError("protobuf: unexpected end of message")
    return data[at : at + size]


def text(value: int | bytes) -> str:
    if isinstance(value, int):
        raise ProtobufError("protobuf: a number where text is expected")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ProtobufError("protobuf: text is not UTF-8") from None


def message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ProtobufError("protobuf: a number where a message is expected")
    return value


def unwrap(body: bytes) -> Envelope:
    """Take the envelope off. Raises ProtobufError."""
    if not body.startswith(MAGIC):
        raise ProtobufError("protobuf: the body does not begin with the Kubernetes prefix")
    api_version = kind = ""
    raw = b""
    for number, value in fields(body[len(MAGIC) :]):
        if number == 1:
            for part, name in fields(message(value)):
                if part == 1:
                    api_version = text(name)
                elif part == 2:
                    kind = text(name)
        elif number == 2:
            raw = message(value)
        elif number == 3 and value:
            raise ProtobufError("protobuf: encoded content is not supported")
    return Envelope(api_version, kind, raw)
