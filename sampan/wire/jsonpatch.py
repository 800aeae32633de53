"""JSON patch (RFC 6902) as evanphx/json-patch v4 applies it, which upstream uses: the same leniency
(replacing or copying a key that is not there), the same complaints.

Containers are persistent: every change copies the level it is on, and only that one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from .patcherror import PatchError
from .values import fresh, same

MAX_OPERATIONS = 10_000
"""Upstream's bound: a few bytes per operation can otherwise cost a copy of the object each."""
MAX_COPIED = 3 * 1024 * 1024
"""Bytes that `copy` operations of one patch may add up to (upstream: the request limit): copying
a field into itself doubles it each time."""

_INDEX = re.compile(r"[-+]?[0-9]+", re.ASCII)
_MAX_INDEX = 2**63 - 1

Value = Any
Operation = dict[str, Value]


class _Problem(Exception):
    """Why a step failed; each operation says where in its own words."""


class _Place(NamedTuple):
    """Where a pointer leads: the containers on the way, and the last step."""

    levels: list[tuple[Value, str]]
    parent: Value
    key: str


def json_patch(obj: Value, operations: Value) -> Value:
    """The patched value. Raises PatchError (400 malformed, 413 too many, 422 does not apply)."""
    if not isinstance(operations, list):
        raise PatchError(
            f"json: cannot unmarshal {_kind(operations)} into Go value of type jsonpatch.Patch"
        )
    if len(operations) > MAX_OPERATIONS:
        raise PatchError(
            f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, "
            f"got {len(operations)}",
            413,
        )
    for operation in operations:
        if not isinstance(operation, dict):
            raise PatchError(
                f"json: cannot unmarshal {_kind(operation)} into Go value of type "
                "jsonpatch.Operation"
            )
    copied = 0
    for operation in operations:
        name = operation.get("op")
        apply = _OPERATIONS.get(name) if isinstance(name, str) else None
        if apply is None:
            raise PatchError(
                f"Unexpected kind: {name if isinstance(name, str) else 'unknown'}", 422
            )
        if name == "copy":
            copied += _copy_size(obj, operation)
            if copied > MAX_COPIED:
                raise PatchError(
                    "Unable to complete the copy, the accumulated size increase of copy is "
                    f"{copied}, exceeding the limit {MAX_COPIED}",
                    413,
                )
        obj = apply(obj, operation)
    return obj


# The operations.


def _add(obj: Value, operation: Operation) -> Value:
    path = _pointer(operation, "path")
    place = _find(obj, path)
    if place is None:
        raise _refusal(f'add operation does not apply: doc is missing path: "{path}"', missing=True)
    try:
        return _rebuilt(place, _added(place.parent, place.key, fresh(operation.get("value"))))
    except _Problem as problem:
        raise _refusal(f"error in add for path: '{path}': {problem}") from None


def _remove(obj: Value, operation: Operation) -> Value:
    path = _pointer(operation, "path")
    place = _find(obj, path)
    if place is None:
        raise _refusal(
            f'remove operation does not apply: doc is missing path: "{path}"', missing=True
        )
    try:
        return _rebuilt(place, _removed(place.parent, place.key))
    except _Problem as problem:
        raise _refusal(f"error in remove for path: '{path}': {problem}") from None


def _replace(obj: Value, operation: Operation) -> Value:
    path = _pointer(operation, "path")
    value = fresh(operation.get("value"))
    if path == "":
        return value
    place = _find(obj, path)
    if place is None:
        raise _refusal(
            f"replace operation does not apply: doc is missing path: {path}", missing=True
        )
    try:
        _got(place.parent, place.key)
    except _Problem:
        raise _refusal(
            f"replace operation does not apply: doc is missing key: {path}", missing=True
        ) from None
    return _rebuilt(place, _put(place.parent, place.key, value))


def _move(obj: Value, operation: Operation) -> Value:
    source = _pointer(operation, "from")
    place = _find(obj, source)
    if place is None:
        raise _refusal(
            f"move operation does not apply: doc is missing from path: {source}", missing=True
        )
    try:
        value = _got(place.parent, place.key)
        obj = _rebuilt(place, _removed(place.parent, place.key))
    except _Problem as problem:
        raise _refusal(f"error in move for path: '{place.key}': {problem}") from None
    path = _pointer(operation, "path", "move")
    target = _find(obj, path)
    if target is None:
        raise _refusal(
            f"move operation does not apply: doc is missing destination path: {path}", missing=True
        )
    try:
        return _rebuilt(target, _added(target.parent, target.key, value))
    except _Problem as problem:
        raise _refusal(f"error in move for path: '{path}': {problem}") from None


def _copied(obj: Value, operation: Operation) -> Value:
    source = _pointer(operation, "from")
    place = _find(obj, source)
    if place is None:
        raise _refusal(
            f"copy operation does not apply: doc is missing from path: {source}", missing=True
        )
    try:
        return _got(place.parent, place.key)
    except _Problem as problem:
        raise _refusal(f"error in copy for from: '{source}': {problem}") from None


def _copy(obj: Value, operation: Operation) -> Value:
    value = fresh(_copied(obj, operation))
    path = _pointer(operation, "path")
    target = _find(obj, path)
    if target is None:
        raise _refusal(
            f"copy operation does not apply: doc is missing destination path: {path}", missing=True
        )
    try:
        return _rebuilt(target, _added(target.parent, target.key, value))
    except _Problem as problem:
        raise _refusal(f"error while adding value during copy: {problem}") from None


def _copy_size(obj: Value, operation: Operation) -> int:
    return _size(_copied(obj, operation))


def _test(obj: Value, operation: Operation) -> Value:
    path = _pointer(operation, "path")
    want = operation.get("value")
    if path == "":
        found = obj
    else:
        place = _find(obj, path)
        if place is None:
            raise _refusal(f"test operation does not apply: is missing path: {path}", missing=True)
        try:
            found = _got(place.parent, place.key)
        except _Problem as problem:
            raise _refusal(f"error in test for path: '{path}': {problem}") from None
    if not same(found, want):
        raise _refusal(f"testing value {path} failed: test failed")
    return obj


_OPERATIONS: dict[str, Callable[[Value, Operation], Value]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
}


def _refusal(text: str, *, missing: bool = False) -> PatchError:
    return PatchError(f"{text}: missing value" if missing else text, 422)


def _pointer(operation: Operation, field: str, name: str = "") -> str:
    text = operation.get(field)
    if not isinstance(text, str):
        name = name or operation["op"]
        if field == "from":
            text = f"{name} operation failed to decode from: operation, missing from field"
            raise _refusal(text, missing=True)
        raise _refusal(f"{name} operation failed to decode path", missing=True)
    return text


# Steps in one container.


def _find(obj: Value, path: str) -> _Place | None:
    """The container a pointer ends in; None when there is none. What stands before the first slash
    does not count."""
    parts = path.split("/")
    if len(parts) < 2:
        return None
    steps = [part.replace("~1", "/").replace("~0", "~") for part in parts[1:]]
    levels = []
    for step in steps[:-1]:
        try:
            inner = _got(obj, step)
        except _Problem:
            return None
        if not isinstance(inner, dict | list):
            return None
        levels.append((obj, step))
        obj = inner
    return _Place(levels, obj, steps[-1]) if isinstance(obj, dict | list) else None


def _rebuilt(place: _Place, container: Value) -> Value:
    """The whole value again, with `container` where `place` leads."""
    for parent, step in reversed(place.levels):
        container = _put(parent, step, container)
    return container


def _put(parent: Value, key: str, value: Value) -> Value:
    """`parent` with an item set that is there (or, in a map, may be)."""
    if isinstance(parent, dict):
        return {**parent, key: value}
    position = _position(parent, key)
    return [*parent[:position], value, *parent[position + 1 :]]


def _got(parent: Value, key: str) -> Value:
    """The item; None for a key that a map does not have."""
    return parent.get(key) if isinstance(parent, dict) else parent[_position(parent, key)]


def _removed(parent: Value, key: str) -> Value:
    if isinstance(parent, dict):
        if key not in parent:
            raise _Problem(f"Unable to remove nonexistent key: {key}: missing value")
        return {name: item for name, item in parent.items() if name != key}
    position = _position(parent, key)
    return [*parent[:position], *parent[position + 1 :]]


def _added(parent: Value, key: str, value: Value) -> Value:
    if isinstance(parent, dict):
        return {**parent, key: value}
    if key == "-":
        return [*parent, value]
    try:
        number = _number(key)
    except _Problem as problem:
        raise _Problem(f"value was not a proper array index: '{key}': {problem}") from None
    position = _bounded(number, len(parent) + 1)
    return [*parent[:position], value, *parent[position:]]


def _position(items: list[Value], key: str) -> int:
    return _bounded(_number(key), len(items))


def _number(key: str) -> int:
    """Go's strconv.Atoi."""
    if not _INDEX.fullmatch(key):
        raise _Problem(f'strconv.Atoi: parsing "{key}": invalid syntax')
    if len(key) > 20 or abs(int(key)) > _MAX_INDEX:
        raise _Problem(f'strconv.Atoi: parsing "{key}": value out of range')
    return int(key)


def _bounded(number: int, size: int) -> int:
    """A position; negative numbers count from the end."""
    if not -size <= number < size:
        raise _Problem(f"Unable to access invalid index: {number}: invalid index referenced")
    return number if number >= 0 else number + size


def _kind(value: Value) -> str:
    """What Go calls a JSON value."""
    if isinstance(value, bool):
        return "bool"
    names = {dict: "object", list: "array", str: "string", type(None): "null"}
    return names.get(type(value), "number")


def _size(value: Value) -> int:
    """Roughly the bytes of a value in JSON; stops counting past the bound."""
    total, todo = 0, [value]
    while todo and total <= MAX_COPIED:
        item = todo.pop()
        if isinstance(item, str):
            total += len(item) + 2
        elif isinstance(item, dict):
            total += sum(len(name) + 4 for name in item)
            todo.extend(item.values())
        elif isinstance(item, list):
            total += len(item) + 2
            todo.extend(item)
        else:
            total += 4
    return total
