"""What decoding makes of a JSON value that is not clean: the schema, interpreted.

Unknown fields, nulls and the zero values that Go's `omitempty` drops are left out, quantities and
times made canonical, and the first type error is worded as upstream's decoder (sigs.k8s.io/json)
words it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sampan.wire import quantity
from sampan.wire.quantity import QuantityError

from .checks import (
    FREE_FORM,
    INT_OR_STRING,
    INT_RANGES,
    META,
    PROPS,
    QUANTITY,
    RAW_EXTENSION,
    check_of,
    is_base64,
)
from .shapes import Shape, definitions
from .times import TimeError, canonical_micro_time, canonical_time

MAX_PROBLEMS = 100
"""Unknown fields reported per object, as upstream's decoder does."""

Decoder = Callable[..., Any]


class Malformed(Exception):
    """A value that its type's own decoder refuses; the message is upstream's."""


class _Mismatch(Exception):
    """What was found, and the Go type it does not fit."""

    def __init__(self, found: str, wanted: str) -> None:
        super().__init__(found, wanted)
        self.found = found
        self.wanted = wanted


class Walk:
    """One decoding: collects unknown fields, and the first error."""

    def __init__(self) -> None:
        self.error = ""
        self.problems: list[str] = []

    def root(self, definition: str, value: Any) -> Any:
        """The decoded object, whose check has failed."""
        shape = definitions().get(definition, FREE_FORM)
        if "properties" not in shape:
            return self.value(shape, value, (), "")
        return self._guard((), self._object, definition, shape, value, (), "")

    def value(self, shape: Shape, value: Any, path: tuple[str, ...], where: str) -> Any:
        """The decoded value. `path` is the Go decoder's field stack (its head is the innermost
        struct's name), `where` the path with indexes for unknown fields."""
        name = shape.get("$ref")
        if name is not None:
            if check_of(name)(value):
                return value  # Clean: shared with the input.
            special = SPECIAL_DECODERS.get(name)
            if special is not None:
                return self._guard(path, special[0], value, self, path, where)
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
            struct, *steps = path or ("",)
            place = f"Go struct field {struct}.{'.'.join(steps)}" if steps else "Go value"
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
                kept = self.value(prop, item, (struct, *path[1:], field), place)
                if kept or "x-omitempty" not in prop:
                    out[field] = kept
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
    if is_base64(text):
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
    if name in SPECIAL_DECODERS:
        return SPECIAL_DECODERS[name][1]
    kind = definitions()[name].get("type") if name else shape.get("type")
    zeros: dict[str, Any] = {"object": {}, "array": [], "string": "", "integer": 0, "number": 0}
    return False if kind == "boolean" else zeros.get(kind or "")


def _decode_quantity(value: Any, walk: Walk, path: tuple[str, ...], where: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise QuantityError(quantity.BAD_FORMAT)
    return quantity.canonical(value.strip() if isinstance(value, str) else str(value))


def _decode_int_or_string(value: Any, walk: Walk, path: tuple[str, ...], where: str) -> Any:
    return (
        value if isinstance(value, str) else _scalar({"type": "integer", "format": "int32"}, value)
    )


def _decode_time(value: Any, walk: Walk, path: tuple[str, ...], where: str) -> Any:
    if not isinstance(value, str):
        raise _Mismatch(_found(value), "string")
    return canonical_time(value)


def _decode_micro_time(value: Any, walk: Walk, path: tuple[str, ...], where: str) -> Any:
    if not isinstance(value, str):
        raise _Mismatch(_found(value), "string")
    return canonical_micro_time(value)


def _decode_props_or_list(value: Any, walk: Walk, path: tuple[str, ...], where: str) -> Any:
    if isinstance(value, list):
        return walk.value({"type": "array", "items": {"$ref": PROPS}}, value, path, where)
    return walk.value({"$ref": PROPS}, value, path, where)


def _decode_props_or_bool(value: Any, walk: Walk, path: tuple[str, ...], where: str) -> Any:
    if isinstance(value, bool):
        return value
    if not isinstance(value, dict):
        raise Malformed("boolean or JSON schema expected")
    return walk.value({"$ref": PROPS}, value, path, where)


def _decode_props_or_strings(value: Any, walk: Walk, path: tuple[str, ...], where: str) -> Any:
    if isinstance(value, list):
        return walk.value({"type": "array", "items": {"type": "string"}}, value, path, where)
    return walk.value({"$ref": PROPS}, value, path, where)


def _decode_as_is(value: Any, walk: Walk, path: tuple[str, ...], where: str) -> Any:
    return value


# Types that upstream decodes by code of their own: how, and what null in a list stands for.
SPECIAL_DECODERS: dict[str, tuple[Decoder, Any]] = {
    QUANTITY: (_decode_quantity, "0"),
    INT_OR_STRING: (_decode_int_or_string, 0),
    META + "Time": (_decode_time, None),
    META + "MicroTime": (_decode_micro_time, None),
    PROPS + "OrArray": (_decode_props_or_list, None),
    PROPS + "OrBool": (_decode_props_or_bool, None),
    PROPS + "OrStringArray": (_decode_props_or_strings, None),
    RAW_EXTENSION: (_decode_as_is, None),
}
