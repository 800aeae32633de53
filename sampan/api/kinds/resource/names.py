"""Names of devices and of what they have, and lists of them, as resource.k8s.io checks them.

Lists that are too long are not looked into: what is wrong with their items is not told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from ... import fields
from ...errors import Cause, Object
from ...names import regex_problem
from ..core.podspec.volumes import check_driver_name
from ..formats import check_subdomain

MAX_POOL = 253
MAX_ID = 32
"""Of a C identifier: the last part of an attribute's name."""
MAX_SHOWN_KEY = 63 + 1 + MAX_ID
PARAMETERS_BYTES = 10 << 10
_ID = "[A-Za-z_][A-Za-z0-9_]*"
_IDENTIFIER = re.compile(_ID)
_ID_TEXT = regex_problem(
    "a valid C identifier must start with alphabetic character or '_', followed by a string of "
    "alphanumeric characters or '_'",
    _ID, "my_name", "MY_NAME", "MyName",
)  # fmt: skip
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Check = Callable[[Any, str, list[Cause]], None]


def check_items(
    items: Sequence[Any] | None,
    most: int,
    check: Check,
    path: str,
    out: list[Cause],
    *,
    key: Callable[[Any], Any] | None = None,
) -> None:
    """Each of a list's items, of which there are `most` at most; with `key`, none is twice."""
    items = items or ()
    if len(items) > most:
        out.append(fields.too_many(path, len(items), most))
        return
    for position, item in enumerate(items):
        check(item, f"{path}[{position}]", out)
    if key is None:
        return
    seen = set()
    for position, item in enumerate(items):
        mark = key(item)
        if mark in seen:
            out.append(fields.duplicate(f"{path}[{position}]", mark))
        seen.add(mark)


def check_map(
    found: Mapping[str, Any] | None, check_key: Check, check: Check, path: str, out: list[Cause]
) -> None:
    for name, item in (found or {}).items():
        where = f"{path}[{_shortened(name, MAX_SHOWN_KEY)}]"
        check_key(name, where, out)
        check(item, where, out)


def _shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    left = most - 3
    return f"{text[: (left + 1) // 2]}...{text[len(text) - left // 2 :]}"


def check_pool(name: str, path: str, out: list[Cause]) -> None:
    if not name:
        out.append(fields.required(path))
        return
    if len(name) > MAX_POOL:
        out.append(fields.too_long(path, "", MAX_POOL))
    for part in name.split("/"):
        check_subdomain(part, path, out)


def check_identifier(name: str, path: str, out: list[Cause]) -> None:
    if len(name) > MAX_ID:
        out.append(fields.too_long(path, "", MAX_ID))
    if not _IDENTIFIER.fullmatch(name):
        out.append(fields.invalid(path, name, _ID_TEXT))


def check_attribute_name(name: str, path: str, out: list[Cause]) -> None:
    """[domain/]identifier."""
    parts = name.split("/")
    if len(parts) == 1:
        check_identifier(name, path, out)
    elif len(parts) == 2:
        if not parts[0]:
            out.append(fields.invalid(path, "", "the domain must not be empty"))
        else:
            check_driver_name(parts[0], path, out)
        if not parts[1]:
            out.append(fields.invalid(path, "", "the name must not be empty"))
        else:
            check_identifier(parts[1], path, out)


def check_full_name(name: str, path: str, out: list[Cause]) -> None:
    """domain/identifier."""
    check_attribute_name(name, path, out)
    if "/" not in name:
        why = "a fully qualified name must be a domain and a name separated by a slash"
        out.append(fields.invalid(path, name, why))


def check_uid(uid: str, path: str, out: list[Cause]) -> None:
    if _UUID.fullmatch(uid):
        return
    if _UUID.fullmatch(uid.lower()):
        why = (
            "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with "
            "lowercase hexadecimal characters"
        )
    elif len(uid) == 36:
        why = "error validating uid: invalid UUID format"
    else:
        why = f"error validating uid: invalid UUID length: {len(uid)}"
    out.append(fields.invalid(path, uid, why))


def check_raw(value: Any, path: str, out: list[Cause]) -> None:
    """An object of any form, and of bounded size (RawExtension)."""
    if value is None:
        out.append(fields.required(path))
    elif len(orjson.dumps(value)) > PARAMETERS_BYTES:
        out.append(fields.too_long(path, "", PARAMETERS_BYTES))
    elif not isinstance(value, dict):
        out.append(fields.invalid(path, "<value omitted>", "must be a valid JSON object"))


def check_config(config: Object, path: str, out: list[Cause]) -> None:
    """A DeviceConfiguration: what a driver is told."""
    opaque, where = config.get("opaque"), f"{path}.opaque"
    if opaque is None:
        out.append(fields.required(where))
        return
    check_driver_name(opaque.get("driver") or "", f"{where}.driver", out)
    check_raw(opaque.get("parameters"), f"{where}.parameters", out)
