"""From a JSON value to an object of a kind: types checked, unknown fields and nulls dropped.

Two passes with one meaning. A compiled check per definition answers "is this object clean?"
without building anything; nearly every object is, and is returned as it is. Only when it is not
does a walk over the schema build the pruned copy, list unknown fields and find the type error that
upstream's decoder (sigs.k8s.io/json) would report. Checks are compiled field by field when a field
is first seen.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from sampan.wire import quantity
from sampan.wire.quantity import QuantityError

from .errors import BadRequest, Object
from .shapes import Shape, definitions
from .times import TimeError, canonical_micro_time, canonical_time

Check = Callable[[Any], bool]
"""True when a value is already what decoding would make of it."""

INT_RANGES = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}

INT32: Shape = {"type": "integer", "format": "int32"}

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
PROPS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
MAX_PROBLEMS = 100
"""Unknown fields reported per object, as upstream's decoder does."""
MAX_SUMMARY = 30
"""Bytes of an undecodable body that an error message shows."""


class Decoded(NamedTuple):
    obj: Object
    problems: Sequence[str]
    """What strict decoding refuses and the server otherwise warns of: `unknown field "spec.x"`."""


class Malformed(Exception):
    """The first type error; the message is upstream's."""


def decode(
    definition: str, obj: Any, *, strict: bool = False, duplicates: Sequence[str] = ()
) -> Decoded:
    """Decode a JSON value. It is not changed; when it is clean it is returned itself.

    `duplicates` are the paths `wire.json` found twice in the body. Raises BadRequest for wrong
    types, and with `strict` for unknown and duplicate fields.
    """
    if check_of(definition)(obj):
        if not duplicates:
            return Decoded(obj, ())
        clean, problems = obj, [f'duplicate field "{path}"' for path in duplicates]
    else:
        walk = _Walk()
        clean = walk.value({"$ref": definition}, obj, (), "")
        if walk.error:
            raise BadRequest(f"{cannot_handle(definition, obj)}: {walk.error}")
        problems = [f'duplicate field "{path}"' for path in duplicates] + walk.problems
    if strict and problems:
        text = ", ".join(problems)
        raise BadRequest(f"{cannot_handle(definition, obj)}: strict decoding error: {text}")
    return Decoded(clean, problems)


def cannot_handle(definition: str, obj: Any) -> str:
    """`Pod in version "v1" cannot be handled as a Pod`."""
    wanted = definition.rsplit(".", 1)[-1]
    kind = obj.get("kind") if isinstance(obj, dict) else None
    version = obj.get("apiVersion") if isinstance(obj, dict) else None
    if not isinstance(kind, str) or not isinstance(version, str):
        return f"the object provided is unrecognized (must be of type {wanted})"
    return f'{kind} in version "{version.rpartition("/")[2]}" cannot be handled as a {wanted}'


def unrecognized(kind: str, why: str, body: bytes) -> BadRequest:
    """The error for a body whose kind cannot even be read (bad JSON, no object)."""
    if not body:
        shown = "<empty>"
    elif body[:1] == b"{":
        shown = body[:MAX_SUMMARY].decode(errors="replace")
    else:
        shown = body[:MAX_SUMMARY].hex()
    if len(body) > MAX_SUMMARY:
        shown += " ..."
    return BadRequest(
        f"the object provided is unrecognized (must be of type {kind}): {why} ({shown})"
    )


# The fast pass.


class _Fields(dict[str, Any]):
    """Checks by field name; a missing one is compiled, an unknown one is a KeyError.

    The value is `str` or `bool` for fields whose exact type is the whole check, else a Check.
    """

    __slots__ = ("_properties",)

    def __init__(self, properties: Shape) -> None:
        self._properties = properties

    def __missing__(self, name: str) -> Any:
        check = self[name] = _field_check(self._properties[name])
        return check


def _field_check(shape: Shape) -> Any:
    if "$ref" not in shape and "format" not in shape:
        if shape.get("type") == "string":
            return str
        if shape.get("type") == "boolean":
            return bool
    return _check(shape)


@cache
def check_of(definition: str) -> Check:
    """The compiled check of a definition; KeyError when there is none of that name."""
    special = _SPECIAL.get(definition)
    return special.check if special is not None else _check(definitions()[definition])


def _check(shape: Shape) -> Check:
    if "$ref" in shape:
        return check_of(shape["$ref"])
    kind = shape.get("type")
    if kind == "object":
        if "properties" in shape:
            return _object_check(_Fields(shape["properties"]))
        if "additionalProperties" in shape:
            return _map_check(_field_check(shape["additionalProperties"]))
        return _is_object
    if kind == "array":
        return _list_check(_field_check(shape["items"]))
    if kind == "integer":
        low, high = INT_RANGES[shape.get("format", "int64")]
        return lambda value: type(value) is int and low <= value <= high
    if kind == "string":
        return _is_base64 if shape.get("format") == "byte" else _is_string
    if kind == "boolean":
        return lambda value: type(value) is bool
    if kind == "number":
        return lambda value: type(value) is int or type(value) is float
    return _is_anything


def _object_check(fields: _Fields) -> Check:
    def check(obj: Any) -> bool:
        if type(obj) is not dict:
            return False
        try:
            for name, value in obj.items():
                test = fields[name]
                if type(value) is test:
                    continue
                if test is str or test is bool or not test(value):
                    return False
        except KeyError:
            return False
        return True

    return check


def _map_check(test: Any) -> Check:
    def check(obj: Any) -> bool:
        if type(obj) is not dict:
            return False
        for value in obj.values():
            if type(value) is test:
                continue
            if test is str or test is bool or not test(value):
                return False
        return True

    return check


def _list_check(test: Any) -> Check:
    def check(items: Any) -> bool:
        if type(items) is not list:
            return False
        for value in items:
            if type(value) is test:
                continue
            if test is str or test is bool or not test(value):
                return False
        return True

    return check


def _is_anything(value: Any) -> bool:
    return True


def _is_object(value: Any) -> bool:
    return type(value) is dict


def _is_string(value: Any) -> bool:
    return type(value) is str


def _is_base64(value: Any) -> bool:
    if type(value) is not str:
        return False
    try:
        binascii.a2b_base64(value.encode(), strict_mode=True)
    except ValueError:
        return False
    return True


def _is_quantity(value: Any) -> bool:
    try:
        return type(value) is str and quantity.canonical(value) == value
    except QuantityError:
        return False


def _is_int_or_string(value: Any) -> bool:
    return type(value) is str or (type(value) is int and -(2**31) <= value < 2**31)


def _is_time(value: Any) -> bool:
    try:
        return type(value) is str and canonical_time(value) == value
    except TimeError:
        return False


def _is_micro_time(value: Any) -> bool:
    try:
        return type(value) is str and canonical_micro_time(value) == value
    except TimeError:
        return False


# The slow pass: the same schema, interpreted.


class _Mismatch(Exception):
    """What was found, and the Go type it does not fit."""

    def __init__(self, found: str, wanted: str) -> None:
        super().__init__(found, wanted)
        self.found = found
        self.wanted = wanted


class _Walk:
    """One decoding: collects unknown fields, and the first error."""

    def __init__(self) -> None:
        self.error = ""
        self.problems: list[str] = []

    def value(self, shape: Shape, value: Any, path: tuple[str, ...], where: str) -> Any:
        """The decoded value. `path` is the Go decoder's field stack (its head is the innermost
        struct's name), `where` the path with indexes for unknown fields."""
        name = shape.get("$ref")
        if name is not None:
            special = _SPECIAL.get(name)
            if special is not None:
                return self._guard(path, special.decode, value, self, path, where)
            shape = definitions()[name]
        kind = shape.get("type")
        if kind == "object" and "properties" in shape:
            return self._guard(path, self._object, name or "", shape, value, path, where)
        if kind == "object" and "additionalProperties" in shape:
            return self._guard(path, self._map, shape, value, path, where)
        if kind == "array":
            return self._guard(path, self._list, shape, value, path, where)
        return self._guard(path, _scalar, shape, value)

    def _guard(self, path: tuple[str, ...], decode: Callable[..., Any], *args: Any) -> Any:
        try:
            return decode(*args)
        except _Mismatch as mismatch:
            place = f"Go struct field {path[0]}.{'.'.join(path[1:])}" if path else "Go value"
            text = f"json: cannot unmarshal {mismatch.found} into {place} of type {mismatch.wanted}"
        except (QuantityError, TimeError, Malformed) as problem:
            text = str(problem)
        self.error = self.error or text
        return None

    def _object(
        self, name: str, shape: Shape, value: Any, path: tuple[str, ...], where: str
    ) -> Any:
        if not isinstance(value, dict):
            raise _Mismatch(_found(value), _go_name(name))
        properties = shape["properties"]
        struct = name.rsplit(".", 1)[-1]
        out = {}
        for field, item in value.items():
            prop = properties.get(field)
            place = f"{where}.{field}" if where else field
            if prop is None:
                if len(self.problems) < MAX_PROBLEMS:
                    self.problems.append(f'unknown field "{place}"')
            elif item is not None:
                out[field] = self.value(prop, item, (struct, *path[1:], field), place)
        return out

    def _map(self, shape: Shape, value: Any, path: tuple[str, ...], where: str) -> Any:
        items = shape["additionalProperties"]
        if not isinstance(value, dict):
            raise _Mismatch(_found(value), _go_type(shape))
        return {
            name: _zero(items) if item is None else self.value(items, item, path, f"{where}.{name}")
            for name, item in value.items()
        }

    def _list(self, shape: Shape, value: Any, path: tuple[str, ...], where: str) -> Any:
        items = shape["items"]
        if not isinstance(value, list):
            raise _Mismatch(_found(value), _go_type(shape))
        return [
            _zero(items) if item is None else self.value(items, item, path, f"{where}[{position}]")
            for position, item in enumerate(value)
        ]


def _scalar(shape: Shape, value: Any) -> Any:
    kind = shape.get("type")
    if kind == "integer":
        form = shape.get("format", "int64")
        low, high = INT_RANGES[form]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _Mismatch(_found(value), form)
        if isinstance(value, float) or not low <= value <= high:
            raise _Mismatch(f"number {value}", form)
    elif kind == "string":
        if not isinstance(value, str):
            raise _Mismatch(_found(value), "[]uint8" if shape.get("format") == "byte" else "string")
        if shape.get("format") == "byte":
            return _base64(value)
    elif kind == "boolean":
        if not isinstance(value, bool):
            raise _Mismatch(_found(value), "bool")
    elif kind == "number":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _Mismatch(_found(value), "float64")
    elif kind == "object" and not isinstance(value, dict):
        raise _Mismatch(_found(value), "map[string]interface {}")
    return value


def _base64(value: str) -> str:
    """Go's decoder skips line breaks, and names the first byte it cannot use."""
    text = value.replace("\r", "").replace("\n", "")
    if _is_base64(text):
        return text
    good = re.match(r"[A-Za-z0-9+/]*", value)
    offset = good.end() if good else 0
    if offset == len(value):
        offset -= offset % 4
    raise Malformed(f"illegal base64 data at input byte {offset}")


def _found(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float):
        return "number"
    return "array" if isinstance(value, list) else "object"


def _go_name(definition: str) -> str:
    """ "io.k8s.api.core.v1.PodSpec" -> "v1.PodSpec"."""
    return ".".join(definition.split(".")[-2:])


def _go_type(shape: Shape) -> str:
    if "$ref" in shape:
        return _go_name(shape["$ref"])
    kind = shape.get("type")
    if kind == "array":
        return f"[]{_go_type(shape['items'])}"
    if kind == "object":
        return f"map[string]{_go_type(shape.get('additionalProperties', {}))}"
    if kind == "integer":
        return str(shape.get("format", "int64"))
    if kind == "string":
        return "[]uint8" if shape.get("format") == "byte" else "string"
    return {"boolean": "bool", "number": "float64"}.get(kind or "", "interface {}")


def _zero(shape: Shape) -> Any:
    """What null stands for inside a list or map: Go's zero value."""
    name = shape.get("$ref")
    if name in _SPECIAL:
        return _SPECIAL[name].zero
    kind = definitions()[name].get("type") if name else shape.get("type")
    zeros: dict[str, Any] = {"object": {}, "array": [], "string": "", "integer": 0, "number": 0}
    return False if kind == "boolean" else zeros.get(kind or "")


# Types that decode themselves.


class _Special(NamedTuple):
    check: Check
    decode: Callable[[Any, _Walk, tuple[str, ...], str], Any]
    zero: Any


def _decode_quantity(value: Any, walk: _Walk, path: tuple[str, ...], where: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise QuantityError(quantity.BAD_FORMAT)
    return quantity.canonical(value.strip() if isinstance(value, str) else str(value))


def _decode_int_or_string(value: Any, walk: _Walk, path: tuple[str, ...], where: str) -> Any:
    return (
        value if isinstance(value, str) else _scalar({"type": "integer", "format": "int32"}, value)
    )


def _decode_time(value: Any, walk: _Walk, path: tuple[str, ...], where: str) -> Any:
    if not isinstance(value, str):
        raise _Mismatch(_found(value), "string")
    return canonical_time(value)


def _decode_micro_time(value: Any, walk: _Walk, path: tuple[str, ...], where: str) -> Any:
    if not isinstance(value, str):
        raise _Mismatch(_found(value), "string")
    return canonical_micro_time(value)


def _props_or_list(value: Any) -> bool:
    check = check_of(PROPS)
    return all(map(check, value)) if type(value) is list else check(value)


def _decode_props_or_list(value: Any, walk: _Walk, path: tuple[str, ...], where: str) -> Any:
    if isinstance(value, list):
        return walk.value({"type": "array", "items": {"$ref": PROPS}}, value, path, where)
    return walk.value({"$ref": PROPS}, value, path, where)


def _props_or_bool(value: Any) -> bool:
    return type(value) is bool or check_of(PROPS)(value)


def _decode_props_or_bool(value: Any, walk: _Walk, path: tuple[str, ...], where: str) -> Any:
    if isinstance(value, bool):
        return value
    if not isinstance(value, dict):
        raise Malformed("boolean or JSON schema expected")
    return walk.value({"$ref": PROPS}, value, path, where)


def _props_or_strings(value: Any) -> bool:
    if type(value) is list:
        return all(type(item) is str for item in value)
    return check_of(PROPS)(value)


def _decode_props_or_strings(value: Any, walk: _Walk, path: tuple[str, ...], where: str) -> Any:
    if isinstance(value, list):
        return walk.value({"type": "array", "items": {"type": "string"}}, value, path, where)
    return walk.value({"$ref": PROPS}, value, path, where)


def _decode_as_is(value: Any, walk: _Walk, path: tuple[str, ...], where: str) -> Any:
    return value


_SPECIAL: dict[str, _Special] = {
    QUANTITY: _Special(_is_quantity, _decode_quantity, "0"),
    INT_OR_STRING: _Special(_is_int_or_string, _decode_int_or_string, 0),
    META + "Time": _Special(_is_time, _decode_time, None),
    META + "MicroTime": _Special(_is_micro_time, _decode_micro_time, None),
    PROPS + "OrArray": _Special(_props_or_list, _decode_props_or_list, None),
    PROPS + "OrBool": _Special(_props_or_bool, _decode_props_or_bool, None),
    PROPS + "OrStringArray": _Special(_props_or_strings, _decode_props_or_strings, None),
    "io.k8s.apimachinery.pkg.runtime.RawExtension": _Special(_is_anything, _decode_as_is, None),
}
