"""Secret."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..formats import check_config_key
from ..printing import AGE, NAME, age, name
from .configmap import IMMUTABLE, MAX_BYTES, decoded_size
from .secretcontents import contents, json_problem, key_pair_problem

ACCOUNT_TOKEN = "kubernetes.io/service-account-token"
ACCOUNT_NAME = "kubernetes.io/service-account.name"
TLS = "kubernetes.io/tls"
REDACTED = "<secret contents redacted>"
REQUIRED_KEYS = {
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    TLS: ("tls.crt", "tls.key"),
}
DOCKER_KEYS = {
    "kubernetes.io/dockercfg": ".dockercfg",
    "kubernetes.io/dockerconfigjson": ".dockerconfigjson",
}


def prepare(obj: Object, old: Object | None) -> None:
    """stringData is write-only: it is folded into data."""
    plain = obj.pop("stringData", None)
    if plain:
        data = obj["data"] = dict(obj.get("data") or {})
        for key, value in plain.items():
            data[key] = base64.b64encode(value.encode()).decode()


def default(obj: Object) -> None:
    if not obj.get("type"):
        obj["type"] = "Opaque"


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    data = obj.get("data") or {}
    if old is not None:
        out += fields.unchanged("type", obj.get("type"), old.get("type"))
        if old.get("immutable"):
            if not obj.get("immutable"):
                out.append(fields.forbidden("immutable", IMMUTABLE))
            if data != (old.get("data") or {}):
                out.append(fields.forbidden("data", IMMUTABLE))
    size = 0
    for key, value in data.items():
        check_config_key(key, f"data[{key}]", out)
        size += decoded_size(value or "")
    if size > MAX_BYTES:
        out.append(fields.too_long("data", "", MAX_BYTES))
    kind = obj.get("type")
    if kind not in (None, "", "Opaque"):
        _check_type(kind, obj, data, out)
    return out


def _check_type(kind: str, obj: Object, data: Mapping[str, str], out: list[Cause]) -> None:
    if kind == ACCOUNT_TOKEN:
        if not (obj["metadata"].get("annotations") or {}).get(ACCOUNT_NAME):
            out.append(fields.required(f"metadata.annotations[{ACCOUNT_NAME}]"))
    elif kind in DOCKER_KEYS:
        key = DOCKER_KEYS[kind]
        if key not in data:
            out.append(fields.required(f"data[{key}]"))
        else:
            problem = json_problem(contents(data[key]))
            if problem:
                out.append(fields.invalid(f"data[{key}]", REDACTED, problem))
    elif kind == "kubernetes.io/basic-auth":
        if "username" not in data and "password" not in data:
            out += [fields.required("data[username]"), fields.required("data[password]")]
    else:
        for key in REQUIRED_KEYS.get(kind, ()):
            if key not in data or (key == "ssh-privatekey" and not data[key]):
                out.append(fields.required(f"data[{key}]"))


def warnings(obj: Object, old: Object | None) -> list[str]:
    """Of a key pair that is none: whoever serves with it will find out later."""
    if obj.get("type") != TLS:
        return []
    data = obj.get("data") or {}
    problem = key_pair_problem(contents(data.get("tls.crt")), contents(data.get("tls.key")))
    return [problem] if problem else []


def selectable(obj: Object) -> Mapping[str, str]:
    return {"type": obj.get("type") or ""}


def cells(obj: Object, now_s: float) -> list[Any]:
    return [name(obj), obj.get("type") or "", len(obj.get("data") or ()), age(obj, now_s)]


KIND = Kind(
    group="",
    version="v1",
    kind="Secret",
    storage="secrets",
    default=default,
    prepare=prepare,
    validate=validate,
    warnings=warnings,
    fields=selectable,
    columns=(
        NAME,
        Column("Type", "string", "What the secret is for."),
        Column("Data", "string", "The number of entries."),
        AGE,
    ),
    cells=cells,
)
