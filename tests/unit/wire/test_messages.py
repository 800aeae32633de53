"""Protobuf messages by table."""

from __future__ import annotations

import pytest

from sampan.wire.messages import BOOL, BYTES, INT, MAP, TEXT, decode, encode
from sampan.wire.protobuf import ProtobufError

INNER = {"n": (1, INT)}
SCHEMA = {
    "text": (1, TEXT), "flag": (2, BOOL), "many": (3, [TEXT]), "labels": (4, MAP),
    "one": (5, INNER), "some": (16, [INNER]), "raw": (7, BYTES), "number": (8, INT),
}  # fmt: skip
ZERO = {
    "text": "", "flag": False, "many": [], "labels": {}, "one": None, "some": [], "raw": b"",
    "number": 0,
}  # fmt: skip


def test_what_was_said_is_read() -> None:
    said = {
        "text": "ä", "flag": True, "many": ["a", ""], "labels": {"k": "v", "": "x"},
        "one": {"n": -1}, "some": [{"n": 300}, {"n": 0}], "raw": b"\0", "number": 1 << 40,
    }  # fmt: skip
    assert decode(SCHEMA, encode(SCHEMA, said)) == said


def test_bytes_are_protobufs_own() -> None:
    assert encode(SCHEMA, {"text": "a", "number": 150, "one": {}}) == b"\x0a\x01a\x40\x96\x01\x2a\0"
    assert encode(SCHEMA, {"labels": {"k": "v"}}) == b"\x22\x06\x0a\x01k\x12\x01v"


def test_zeros_are_not_sent_and_unknown_fields_passed_over() -> None:
    assert encode(SCHEMA, ZERO) == b""
    assert decode(SCHEMA, b"") == ZERO
    assert decode(INNER, encode(SCHEMA, {"many": ["x"]})) == {"n": 0}


@pytest.mark.parametrize("data", [b"\x0a\x05a", b"\x08\x01", b"\x12\x01a", b"\xff"])
def test_lies_are_errors(data: bytes) -> None:
    with pytest.raises(ProtobufError):
        decode(SCHEMA, data)
