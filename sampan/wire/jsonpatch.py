"""JSON patch (RFC 6902), with the texts of evanphx/json-patch, which upstream uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .patcherror import PatchError
from .values import fresh, same

MAX_OPERATIONS = 10_000
"""Upstream's bound: a few bytes per operation can otherwise cost a copy of the object each."""
MAX_INDEX_DIGITS = 9
MAX_COPIED = 3 * 1024 * 1024
"""Bytes that `copy` operations of one patch may add up to (upstream: the request limit): copying
a field into itself doubles it each time."""

Value = Any
Path = list[str]


def json_patch(obj: Value, operations: Value) -> Value:
    """The patched value. Raises PatchError (400 malformed, 413 too many, 422 does not apply)."""
    if not isinstance(operations, list):
        raise PatchError("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    if len(operations) > MAX_OPERATIONS:
        raise PatchError(
            f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, "
            f"got {len(operations)}",
            413,
        )
    copied = 0
    for operation in operations:
        if not isinstance(operation, dict):
            raise PatchError(
                "json: cannot unmarshal value into Go value of type jsonpatch.Operation"
            )
        name = operation.get("op")
        if name == "copy":
            copied += _size(_get(obj, _path(operation, "from"), "copy"))
            if copied > MAX_COPIED:
                raise PatchError(
                    f"unable to copy, the accumulated size increase of copy operations exceeded "
                    f"the limit {MAX_COPIED}",
                    413,
                )
        apply = _OPERATIONS.get(name) if isinstance(name, str) else None
        if apply is None:
            raise PatchError(f"Unexpected kind: {name if name is not None else 'unknown'}", 422)
        obj = apply(obj, operation)
    return obj


def _add(obj: Value, operation: dict[str, Value]) -> Value:
    path = _path(operation)
    value = _value(operation)
    return _insert(obj, path, value, "add")


def _remove(obj: Value, operation: dict[str, Value]) -> Value:
    return _take(obj, _path(operation), "remove")


def _replace(obj: Value, operation: dict[str, Value]) -> Value:
    path = _path(operation)
    value = _value(operation)
    if not path:
        return value

    def put(parent: Value, name: str) -> Value:
        if isinstance(parent, list):
            place = _place(parent, name, "replace", path)
            return [*parent[:place], value, *parent[place + 1 :]]
        if name not in parent:
            raise _missing("replace", path)
        return {**parent, name: value}

    return _at(obj, path, put, "replace")


def _move(obj: Value, operation: dict[str, Value]) -> Value:
    source, target = _path(operation, "from"), _path(operation)
    if target[: len(source)] == source and len(target) > len(source):
        raise PatchError("jsonpatch move operation cannot move a value into itself", 422)
    value = _get(obj, source, "move")
    return _insert(_take(obj, source, "move"), target, value, "move")


def _copy(obj: Value, operation: dict[str, Value]) -> Value:
    value = _get(obj, _path(operation, "from"), "copy")
    return _insert(obj, _path(operation), fresh(value), "copy")


def _test(obj: Value, operation: dict[str, Value]) -> Value:
    path = _path(operation)
    want = operation.get("value")
    try:
        found = _get(obj, path, "test")
    except PatchError:
        if want is not None:
            raise
        found = None
    if not same(found, want):
        raise PatchError(f"testing value {_text(path)} failed", 422)
    return obj


_OPERATIONS: dict[str, Callable[[Value, dict[str, Value]], Value]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
}


def _path(operation: dict[str, Value], field: str = "path") -> Path:
    text = operation.get(field)
    if not isinstance(text, str):
        raise PatchError(f"operation missing {field} field" if text is None else "bad path", 422)
    if text == "":
        return []
    if not text.startswith("/"):
        raise PatchError(f"invalid JSON pointer: {text}", 422)
    return [part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/")]


def _value(operation: dict[str, Value]) -> Value:
    if "value" not in operation:
        raise PatchError("operation missing value field", 422)
    return fresh(operation["value"])


def _text(path: Path) -> str:
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)


def _missing(name: str, path: Path) -> PatchError:
    return PatchError(
        f"{name} operation does not apply: doc is missing key: {_text(path)}: missing value", 422
    )


def _no_path(name: str, path: Path) -> PatchError:
    return PatchError(
        f"{name} operation does not apply: doc is missing path: {_text(path)}: missing value", 422
    )


def _place(items: list[Value], name: str, operation: str, path: Path) -> int:
    """An index that exists. Upstream's library also counts from the end with negative ones."""
    digits = name.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or len(digits) > MAX_INDEX_DIGITS:
        raise _missing(operation, path)
    place = int(name)
    if place < 0:
        place += len(items)
    if not 0 <= place < len(items):
        raise PatchError(
            f"{operation} operation does not apply: doc is missing key: {_text(path)}: "
            f"Unable to access invalid index: {name}: invalid index referenced",
            422,
        )
    return place


def _get(obj: Value, path: Path, operation: str) -> Value:
    for part in path:
        if isinstance(obj, list):
            obj = obj[_place(obj, part, operation, path)]
        elif isinstance(obj, dict) and part in obj:
            obj = obj[part]
        else:
            raise _missing(operation, path)
    return obj


def _at(obj: Value, path: Path, change: Callable[[Value, str], Value], operation: str) -> Value:
    """`obj` with the parent of `path` changed, and every level above it copied."""
    levels = []
    for part in path[:-1]:
        levels.append((obj, part))
        if isinstance(obj, list):
            obj = obj[_place(obj, part, operation, path)]
        elif isinstance(obj, dict) and part in obj:
            obj = obj[part]
        else:
            raise _no_path(operation, path)
    if not isinstance(obj, dict | list):
        raise _no_path(operation, path)
    out = change(obj, path[-1])
    for parent, part in reversed(levels):
        if isinstance(parent, list):
            place = _place(parent, part, operation, path)
            out = [*parent[:place], out, *parent[place + 1 :]]
        else:
            out = {**parent, part: out}
    return out


def _insert(obj: Value, path: Path, value: Value, operation: str) -> Value:
    if not path:
        return value

    def put(parent: Value, name: str) -> Value:
        if isinstance(parent, dict):
            return {**parent, name: value}
        if name == "-":
            return [*parent, value]
        place = len(parent) if name == str(len(parent)) else _place(parent, name, operation, path)
        return [*parent[:place], value, *parent[place:]]

    return _at(obj, path, put, operation)


def _take(obj: Value, path: Path, operation: str) -> Value:
    if not path:
        raise PatchError(f"{operation} operation does not apply: cannot remove the whole doc", 422)

    def cut(parent: Value, name: str) -> Value:
        if isinstance(parent, list):
            place = _place(parent, name, operation, path)
            return [*parent[:place], *parent[place + 1 :]]
        if name not in parent:
            raise _missing(operation, path)
        return {key: item for key, item in parent.items() if key != name}

    return _at(obj, path, cut, operation)


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
