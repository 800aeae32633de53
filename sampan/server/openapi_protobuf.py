"""OpenAPI version 2 in protobuf (github.com/google/gnostic, openapi.v2.Document).

kubectl before 1.29 reads /openapi/v2 in no other form. Only the messages and fields our own
documents have are written; `x-` keys become vendor extensions, whose values are YAML text (ours
is JSON, which is YAML).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

MEDIA_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
ASKED_AS = frozenset((MEDIA_TYPE, MEDIA_TYPE.replace("v2.v1", "v2@v1")))
"""Clients ask with an "@", which no header may answer with: it is no character of a media type."""

_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}


def encode_document(document: dict[str, Any]) -> bytes:
    """The bytes of an openapi.v2.Document."""
    paths = _all(2, (_named(path, _path_item(item)) for path, item in document["paths"].items()))
    schemas = (_named(name, _schema(schema)) for name, schema in document["definitions"].items())
    info = document["info"]
    keys = (
        _named(name, _field(2, _strings(item, (("type", 1), ("name", 2), ("in", 3),
                                               ("description", 4)))))
        for name, item in document["securityDefinitions"].items()
    )  # fmt: skip
    needs = (
        _all(1, (_named(name, _all(1, map(str.encode, scopes))) for name, scopes in item.items()))
        for item in document["security"]
    )
    return b"".join((
        _text(1, document["swagger"]),
        _field(2, _strings(info, (("title", 1), ("version", 2)))),
        _field(8, paths),
        _field(9, _all(1, schemas)),
        _all(12, needs),
        _field(13, _all(1, keys)),
    ))  # fmt: skip


def _path_item(item: dict[str, Any]) -> bytes:
    operations = (
        _field(number, _operation(item[method]))
        for method, number in _METHODS.items()
        if method in item
    )
    return b"".join(operations) + _all(9, map(_parameter, item.get("parameters", ())))


def _operation(operation: dict[str, Any]) -> bytes:
    responses = (
        _named(code, _field(1, _response(answer)))
        for code, answer in operation["responses"].items()
    )
    return b"".join((
        _all(1, map(str.encode, operation.get("tags", ()))),
        _strings(operation, (("description", 3), ("operationId", 5))),
        _all(6, map(str.encode, operation.get("produces", ()))),
        _all(7, map(str.encode, operation.get("consumes", ()))),
        _all(8, map(_parameter, operation.get("parameters", ()))),
        _field(9, _all(1, responses)),
        _all(10, map(str.encode, operation.get("schemes", ()))),
        _extensions(13, operation),
    ))  # fmt: skip


def _response(answer: dict[str, Any]) -> bytes:
    out = _text(1, answer["description"])
    if "schema" in answer:
        out += _field(2, _field(1, _schema(answer["schema"])))
    return out


def _parameter(parameter: dict[str, Any]) -> bytes:
    """A ParametersItem."""
    required = _flag(1, parameter.get("required", False))
    if parameter["in"] == "body":
        body = b"".join((
            _strings(parameter, (("description", 1), ("name", 2), ("in", 3))),
            _flag(4, parameter.get("required", False)),
            _field(5, _schema(parameter["schema"])),
        ))  # fmt: skip
        return _field(1, _field(1, body))
    names = _strings(parameter, (("in", 2), ("description", 3), ("name", 4)))
    if parameter["in"] == "path":
        other = _strings(parameter, (("type", 5),)) + _flag(19, parameter.get("uniqueItems", False))
        return _field(1, _field(2, _field(4, required + names + other)))
    other = _strings(parameter, (("type", 6),)) + _flag(20, parameter.get("uniqueItems", False))
    return _field(1, _field(2, _field(3, required + names + other)))


def _schema(schema: dict[str, Any]) -> bytes:
    parts = [_strings(schema, (("$ref", 1), ("format", 2), ("description", 4)))]
    parts.append(_all(19, map(str.encode, schema.get("required", ()))))
    if "additionalProperties" in schema:
        parts.append(_field(21, _field(1, _schema(schema["additionalProperties"]))))
    if "type" in schema:
        parts.append(_field(22, _text(1, schema["type"])))
    if "items" in schema:
        parts.append(_field(23, _field(1, _schema(schema["items"]))))
    properties = schema.get("properties")
    if properties:
        named = (_named(name, _schema(inner)) for name, inner in properties.items())
        parts.append(_field(25, _all(1, named)))
    parts.append(_extensions(31, schema))
    return b"".join(parts)


def _extensions(number: int, obj: dict[str, Any]) -> bytes:
    """The `x-` keys as NamedAny, each value as text."""
    named = (
        _named(name, _field(2, orjson.dumps(value) + b"\n"))
        for name, value in obj.items()
        if name.startswith("x-")
    )
    return _all(number, named)


# Protocol buffers: length-delimited fields and one-byte booleans are all there is here.


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, payload: bytes) -> bytes:
    return b"%b%b%b" % (_varint(number << 3 | 2), _varint(len(payload)), payload)


def _all(number: int, payloads: Iterable[bytes]) -> bytes:
    return b"".join([_field(number, payload) for payload in payloads])


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode()) if text else b""


def _strings(obj: dict[str, Any], fields: tuple[tuple[str, int], ...]) -> bytes:
    return b"".join([_text(number, obj[name]) for name, number in fields if name in obj])


def _flag(number: int, value: bool) -> bytes:
    return _varint(number << 3) + b"\x01" if value else b""


def _named(name: str, payload: bytes) -> bytes:
    """A pair of a map: (name, message)."""
    return _text(1, name) + _field(2, payload)
