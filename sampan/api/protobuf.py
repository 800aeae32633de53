"""Objects sent as application/vnd.kubernetes.protobuf, turned into the dicts JSON would give.

kubectl since 1.33, and every client made with client-go's typed clients, sends its writes so and
takes JSON back. Field numbers come from `protobuf.json`, made when the package is built; what a
number's value means comes from the schema. A decoder is compiled per definition when first needed.

Go's encoder sends zero values of plain fields where its JSON encoder leaves them out; such fields
are marked in the table and dropped here, so that both encodings of an object decode to the same.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from sampan.wire.protobuf import ProtobufError, fields, message, signed, text, unwrap

from .errors import Object
from .schema import Shape, definitions, resolve
from .times import format_micro_time, format_time

Value = int | bytes
Decoder = Callable[[Value], Any]
Plan = dict[int, Callable[[Object, Value], None]]

INLINE, OMIT_ZERO = "=", "?"
META = "io.k8s.apimachinery.pkg.apis.meta.v1."


def decode(body: bytes) -> Object:
    """The object in a protobuf body. Raises ValueError when it is none, or of an unknown kind."""
    envelope = unwrap(body)
    definition = _definition(envelope.api_version, envelope.kind)
    obj: Object = {"apiVersion": envelope.api_version, "kind": envelope.kind}
    _fill(obj, _plan(definition, definition), envelope.raw)
    return obj


@cache
def _numbers() -> dict[str, dict[str, str]]:
    """Definition -> field number -> JSON name, with "?" behind it where zero means absent; "="
    and a definition for a struct whose fields are the parent's."""
    table: dict[str, dict[str, str]] = orjson.loads(
        Path(__file__).with_name("protobuf.json").read_bytes()
    )
    return table


@cache
def _kinds() -> dict[tuple[str, str], str]:
    return {
        (f"{item['group']}/{item['version']}".lstrip("/"), item["kind"]): name
        for name, shape in definitions().items()
        for item in shape.get("x-kubernetes-group-version-kind", ())
    }


def _definition(api_version: str, kind: str) -> str:
    name = _kinds().get((api_version, kind))
    if name is None or name not in _numbers():
        raise ProtobufError(f'no kind "{kind}" is registered for version "{api_version}"')
    return name


def _fill(obj: Object, plan: Plan, data: bytes) -> None:
    for number, value in fields(data):
        put = plan.get(number)
        if put is not None:
            put(obj, value)


@cache
def _plan(numbers: str, definition: str) -> Plan:
    """What to do with each field of a message. `definition` has the shapes: for an inlined struct
    it is the parent's."""
    properties: dict[str, Shape] = definitions()[definition].get("properties", {})
    plan: Plan = {}
    for number, name in _numbers()[numbers].items():
        if name.startswith(INLINE):
            plan[int(number)] = _inlined(name[1:], definition)
        else:
            field = name.rstrip(OMIT_ZERO)
            if field in properties:
                plan[int(number)] = _field(field, properties[field], name != field)
    return plan


def _inlined(numbers: str, definition: str) -> Callable[[Object, Value], None]:
    def put(obj: Object, value: Value) -> None:
        _fill(obj, _plan(numbers, definition), message(value))

    return put


def _field(name: str, shape: Shape, omit_zero: bool) -> Callable[[Object, Value], None]:
    if shape.get("type") == "array":
        return _list_field(name, _decoder(shape["items"]), _is_number(shape["items"]))
    if shape.get("additionalProperties") and "$ref" not in shape:
        return _map_field(name, _decoder(shape["additionalProperties"]))
    one = _decoder(shape)

    def put(obj: Object, value: Value) -> None:
        decoded = one(value)
        if decoded is not None and (decoded or not omit_zero or isinstance(decoded, dict)):
            obj[name] = decoded

    return put


def _list_field(name: str, one: Decoder, numeric: bool) -> Callable[[Object, Value], None]:
    def put(obj: Object, value: Value) -> None:
        items = obj.setdefault(name, [])
        if numeric and isinstance(value, bytes):
            # Packed: several numbers in one field. Each is a varint.
            items.extend(one(item) for item in _packed(value))
        else:
            items.append(one(value))

    return put


def _packed(data: bytes) -> list[int]:
    from sampan.wire.protobuf import varint

    at, found = 0, []
    while at < len(data):
        number, at = varint(data, at)
        found.append(number)
    return found


def _map_field(name: str, one: Decoder) -> Callable[[Object, Value], None]:
    def put(obj: Object, value: Value) -> None:
        key, decoded = "", one(b"")
        for number, part in fields(message(value)):
            if number == 1:
                key = text(part)
            elif number == 2:
                decoded = one(part)
        obj.setdefault(name, {})[key] = decoded

    return put


def _is_number(shape: Shape) -> bool:
    return shape.get("type") in ("integer", "boolean")


def _decoder(shape: Shape) -> Decoder:
    """How a single value of this shape is read."""
    reference = shape.get("$ref", "")
    if reference in SPECIAL:
        return SPECIAL[reference]
    if reference in _numbers():
        return _message_decoder(reference)
    kind = resolve(shape).get("type")
    if kind == "string":
        return _base64 if shape.get("format") == "byte" else text
    if kind == "integer":
        return _integer
    if kind == "boolean":
        return bool
    if kind == "number":
        return _double
    if kind == "array":
        # A named list inside a map (ExtraValue): a message with one repeated field.
        one = _decoder(resolve(shape)["items"])
        return lambda value: [one(item) for number, item in fields(message(value)) if number == 1]
    return _raw


def _message_decoder(definition: str) -> Decoder:
    def read(value: Value) -> Object:
        obj: Object = {}
        _fill(obj, _plan(definition, definition), message(value))
        return obj

    return read


def _integer(value: Value) -> int:
    if isinstance(value, bytes):
        if value:
            raise ProtobufError("protobuf: text where a number is expected")
        return 0
    return signed(value)


def _double(value: Value) -> float:
    bits = value if isinstance(value, int) else 0
    return float(struct.unpack("<d", bits.to_bytes(8, "little"))[0])


def _base64(value: Value) -> str:
    return base64.b64encode(message(value)).decode()


def _parts(value: Value) -> dict[int, Value]:
    return dict(fields(message(value)))


def _quantity(value: Value) -> str:
    return text(_parts(value).get(1, b"0"))


def _int_or_string(value: Value) -> int | str:
    parts = _parts(value)
    return text(parts.get(3, b"")) if parts.get(1) else _integer(parts.get(2, 0))


def _moment(value: Value) -> tuple[int, int] | None:
    parts = _parts(value)
    if not parts:
        return None
    return _integer(parts.get(1, 0)), _integer(parts.get(2, 0))


def _time(value: Value) -> str | None:
    moment = _moment(value)
    return None if moment is None else format_time(moment[0])


def _micro_time(value: Value) -> str | None:
    moment = _moment(value)
    return None if moment is None else format_micro_time(moment[0] + moment[1] / 1e9)


def _raw(value: Value) -> Any:
    """RawExtension, FieldsV1, JSON: field 1 is JSON text."""
    data = message(_parts(value).get(1, b""))
    try:
        return orjson.loads(data) if data else None
    except orjson.JSONDecodeError as error:
        raise ProtobufError(f"protobuf: embedded JSON: {error}") from None


SPECIAL: dict[str, Decoder] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": _quantity,
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": _int_or_string,
    META + "Time": _time,
    META + "MicroTime": _micro_time,
    META + "FieldsV1": _raw,
    "io.k8s.apimachinery.pkg.runtime.RawExtension": _raw,
}
