"""Is a JSON value already what decoding would make of it? One compiled check per definition.

A check builds nothing and stops at the first doubt: a wrong type, a null, an unknown field, a
zero value that Go leaves out, a quantity or time that is not in its canonical form. Checks are
compiled field by field, when a field is first seen.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from functools import cache
from typing import Any

from sampan.wire import quantity
from sampan.wire.quantity import QuantityError

from .shapes import Shape, definitions
from .times import TimeError, canonical_micro_time, canonical_time

Check = Callable[[Any], bool]

INT_RANGES = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
PROPS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
FREE_FORM: Shape = {"type": "object"}
RAW_EXTENSION = "io.k8s.apimachinery.pkg.runtime.RawExtension"


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
    if "x-omitempty" in shape:
        return _nonzero_check(shape)
    if "$ref" not in shape and "format" not in shape:
        if shape.get("type") == "string":
            return str
        if shape.get("type") == "boolean":
            return bool
    return _check(shape)


def _nonzero_check(shape: Shape) -> Check:
    """The check of a field whose zero value is left out."""
    if shape.get("type") == "string" and "format" not in shape:
        return _is_text
    if shape.get("type") == "boolean":
        return _is_true
    check = _check(shape)
    return lambda value: bool(value) and check(value)


@cache
def check_of(definition: str) -> Check:
    """The compiled check of a definition; one that is not built in takes any object."""
    special = SPECIAL.get(definition)
    return special if special is not None else _check(definitions().get(definition, FREE_FORM))


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
        return is_base64 if shape.get("format") == "byte" else _is_string
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


def _is_text(value: Any) -> bool:
    return type(value) is str and value != ""


def _is_true(value: Any) -> bool:
    return value is True


def is_base64(value: Any) -> bool:
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


def _props_or_list(value: Any) -> bool:
    check = check_of(PROPS)
    return all(map(check, value)) if type(value) is list else check(value)


def _props_or_bool(value: Any) -> bool:
    return type(value) is bool or check_of(PROPS)(value)


def _props_or_strings(value: Any) -> bool:
    if type(value) is list:
        return all(type(item) is str for item in value)
    return check_of(PROPS)(value)


# Types that upstream decodes by code of their own.
SPECIAL: dict[str, Check] = {
    QUANTITY: _is_quantity,
    INT_OR_STRING: _is_int_or_string,
    META + "Time": _is_time,
    META + "MicroTime": _is_micro_time,
    PROPS + "OrArray": _props_or_list,
    PROPS + "OrBool": _props_or_bool,
    PROPS + "OrStringArray": _props_or_strings,
    RAW_EXTENSION: _is_anything,
}
