"""ConfigMap."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..formats import check_config_key
from ..printing import AGE, NAME, age, name

MAX_BYTES = 1024 * 1024
"""Of all values together, so that an object fits in etcd and in one message."""
IMMUTABLE = "field is immutable when `immutable` is set"


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    if old is not None and old.get("immutable"):
        if not obj.get("immutable"):
            out.append(fields.forbidden("immutable", IMMUTABLE))
        for field in ("data", "binaryData"):
            if (obj.get(field) or {}) != (old.get(field) or {}):
                out.append(fields.forbidden(field, IMMUTABLE))
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    size = 0
    for key, value in data.items():
        check_config_key(key, f"data[{key}]", out)
        if key in binary:
            why = "duplicate of key present in binaryData"
            out.append(fields.invalid(f"data[{key}]", key, why))
        size += len(value) if value.isascii() else len(value.encode())
    for key, value in binary.items():
        check_config_key(key, f"binaryData[{key}]", out)
        size += decoded_size(value)
    if size > MAX_BYTES:
        out.append(fields.too_long("[]", "", MAX_BYTES))
    return out


def decoded_size(value: str) -> int:
    """The number of bytes base64 text stands for."""
    return len(value) * 3 // 4 - value.count("=", -2)


def cells(obj: Object, now_s: float) -> list[Any]:
    count = len(obj.get("data") or ()) + len(obj.get("binaryData") or ())
    return [name(obj), count, age(obj, now_s)]


KIND = Kind(
    group="",
    version="v1",
    kind="ConfigMap",
    short_names=("cm",),
    storage="configmaps",
    validate=validate,
    columns=(NAME, Column("Data", "string", "The number of entries."), AGE),
    cells=cells,
)
