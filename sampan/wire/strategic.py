"""Strategic merge patch (k8s.io/apimachinery util/strategicpatch), driven by a schema lookup.

Nothing given is changed; what the patch does not touch is shared with the original. The schema
comes in as a `Lookup`: field name -> how it merges, None for a field the schema does not know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from .patcherror import PatchError
from .values import fresh

DIRECTIVE = "$patch"
RETAIN_KEYS = "$retainKeys"
DELETE_PREFIX = "$deleteFromPrimitiveList/"
ORDER_PREFIX = "$setElementOrder/"

BAD_RETAIN_KEYS = "invalid patch format of retainKeys"
BAD_ORDER = "invalid patch format of setElementOrder list"
BAD_PRIMITIVES = "invalid patch format of primitive list"
LIST_OF_LISTS = "lists of lists are not supported"

MAX_DEPTH = 200
"""Nesting a patch may have; JSON bodies are refused far below that (see wire.json)."""

Value = Any
Map = dict[str, Any]


def free_form(name: str) -> Merge | None:
    """The lookup of objects without a schema: maps merge, lists are replaced."""
    return Merge()


class Merge(Struct, frozen=True):
    """How one field merges: lists are replaced unless `strategy` is "merge" (then items match by
    `key`, or as a set of scalars), maps merge unless it is "replace"."""

    strategy: str = ""
    key: str = ""
    below: Callable[[], Lookup] = lambda: free_form
    """The lookup for what lies below: of the map, or of a list's items."""


Lookup = Callable[[str], Merge | None]


def strategic_merge(original: Map, patch: Map, lookup: Lookup) -> Map:
    """The patched object. Raises PatchError for a patch that makes no sense."""
    if not isinstance(patch, dict):
        raise PatchError("invalid JSON document")
    return _merge_map(original, patch, lookup)


def _merge_map(original: Map, patch: Map, lookup: Lookup) -> Map:
    if DIRECTIVE in patch:
        return _whole_map(patch)
    out = dict(original)
    if RETAIN_KEYS in patch:
        _retain_keys(out, patch)
    ordered = {
        name.removeprefix(ORDER_PREFIX): value
        for name, value in patch.items()
        if name.startswith(ORDER_PREFIX)
    }
    for name, order in ordered.items():
        _apply_order(out, patch, name, order, lookup)
    for name, value in patch.items():
        if name == RETAIN_KEYS or name.startswith(ORDER_PREFIX) or name in ordered:
            continue
        if name.startswith(DELETE_PREFIX):
            _delete_primitives(out, name.removeprefix(DELETE_PREFIX), value)
        else:
            _merge_field(out, name, value, lookup)
    return out


def _whole_map(patch: Map) -> Map:
    """A map with a $patch directive of its own: replaced or emptied."""
    directive = patch[DIRECTIVE]
    if directive == "delete":
        return {}
    if directive != "replace":
        raise PatchError(f"unknown patch type: {directive} in map: {_show(patch)}")
    return {name: fresh(value) for name, value in patch.items() if name != DIRECTIVE}


def _merge_field(out: Map, name: str, value: Value, lookup: Lookup) -> None:
    if value is None:
        out.pop(name, None)
        return
    current = out.get(name)
    if isinstance(value, dict) and isinstance(current, dict):
        merge = _known(lookup, name)
        if merge.strategy == "replace":
            out[name] = plain(value)
        else:
            out[name] = _merge_map(current, value, merge.below())
    elif isinstance(value, list) and isinstance(current, list):
        out[name] = _merge_list(current, value, _known(lookup, name))
    elif not _is_directive(value):
        # A map with a directive and nothing to direct it at is left out, as upstream does.
        out[name] = plain(value)


def _known(lookup: Lookup, name: str) -> Merge:
    merge = lookup(name)
    if merge is None:
        raise PatchError(f'unable to find api field for the json field "{name}"', 422)
    return merge


def _retain_keys(out: Map, patch: Map) -> None:
    keep = patch[RETAIN_KEYS]
    if not isinstance(keep, list):
        raise PatchError(BAD_RETAIN_KEYS)
    for name, value in patch.items():
        if value is not None and not name.startswith("$") and name not in keep:
            raise PatchError(BAD_RETAIN_KEYS)
    for name in [name for name in out if name not in keep]:
        del out[name]


def _delete_primitives(out: Map, name: str, values: Value) -> None:
    current = out.get(name)
    if not isinstance(values, list):
        raise PatchError(BAD_PRIMITIVES)
    if isinstance(current, list):
        out[name] = [item for item in current if item not in values]


def _apply_order(out: Map, patch: Map, name: str, order: Value, lookup: Lookup) -> None:
    """Merge one list and bring it into the order the patch asks for."""
    current, items = out.get(name), patch.get(name)
    if not isinstance(order, list):
        raise PatchError(BAD_ORDER)
    for value in (current, items):
        if value is not None and not isinstance(value, list):
            raise PatchError(BAD_ORDER)
    if name in patch and items is None:
        out.pop(name, None)
        return
    merge = _known(lookup, name)
    _check_order(items or [], order, merge.key)
    if items is None and current is None:
        return
    if current is None:
        merged = _new_list(items or [])
    elif items is None:
        merged = current
    else:
        merged = _merge_list(current, items, merge)
    removed = patch.get(DELETE_PREFIX + name)
    if isinstance(removed, list):
        merged = [item for item in merged if item not in removed]
    out[name] = _in_order(merged, order, current or [], merge.key)


def _check_order(items: list[Value], order: list[Value], key: str) -> None:
    """What the patch adds or changes must appear in its own order list, in that order."""
    wanted = [_identity(item, key) for item in order]
    position = 0
    for item in items:
        if isinstance(item, dict) and item.get(DIRECTIVE) == "delete":
            continue
        try:
            position = wanted.index(_identity(item, key), position) + 1
        except ValueError:
            raise PatchError(
                f"The order in patch list:\n{_show(items)}\n doesn't match {ORDER_PREFIX[:-1]} "
                f"list:\n{_show(order)}\n"
            ) from None


def _merge_list(current: list[Value], items: list[Value], merge: Merge) -> list[Value]:
    if merge.strategy != "merge":
        return [plain(item) for item in items if not _is_directive(item)]
    if not current and not items:
        return current
    kinds = {dict if isinstance(item, dict) else type(item) for item in (*current, *items)}
    if list in kinds:
        raise PatchError(LIST_OF_LISTS)
    if dict not in kinds:
        merged = _unique([*current, *items])
        return _in_order(merged, items, current, "")
    if kinds != {dict}:
        raise PatchError("list element types are not identical")
    if not merge.key:
        raise PatchError("cannot merge lists without merge key")
    current, items = _directives(current, items, merge.key)
    merged = list(current)
    places = {_identity(item, merge.key): i for i, item in reversed([*enumerate(current)])}
    for item in items:
        identity = _identity(item, merge.key)
        place = places.get(identity)
        if place is None:
            places[identity] = len(merged)
            merged.append(plain(item))
        else:
            merged[place] = _merge_map(merged[place], item, merge.below())
    return _in_order(merged, items, current, merge.key)


def _directives(
    current: list[Value], items: list[Value], key: str
) -> tuple[list[Value], list[Value]]:
    """Carry out `$patch` elements; what is left of the original and of the patch."""
    rest, replace = [], False
    for item in items:
        directive = item.get(DIRECTIVE)
        if directive is None:
            if key not in item:
                raise PatchError(
                    f"map: {_show(item)} does not contain declared merge key: {key}", 422
                )
            rest.append(item)
        elif directive == "delete":
            if key not in item:
                raise PatchError(
                    f"map: {_show(item)} does not contain declared merge key: {key}", 422
                )
            current = [old for old in current if old.get(key) != item[key]]
        elif directive == "replace":
            replace = True
        elif directive == "merge":
            raise PatchError("merging lists cannot yet be specified in the patch")
        else:
            raise PatchError(f"unknown patch type: {directive} in map: {_show(item)}")
    return ([plain(item) for item in rest], []) if replace else (current, rest)


def _in_order(
    merged: list[Value], order: list[Value], current: list[Value], key: str
) -> list[Value]:
    """Items the patch names in its order, the server's own put between them where the live order
    says so (strategicpatch.mergeSortedSlice)."""
    rank: dict[Value, int] = {}
    for item in order:
        rank.setdefault(_identity(item, key), len(rank))
    live: dict[Value, int] = {}
    for item in current:
        live.setdefault(_identity(item, key), len(live))
    named = [item for item in merged if _identity(item, key) in rank]
    others = [item for item in merged if _identity(item, key) not in rank]
    named.sort(key=lambda item: rank[_identity(item, key)])
    others.sort(key=lambda item: live.get(_identity(item, key), len(live)))
    out: list[Value] = []
    left = 0
    for item in named:
        here = live.get(_identity(item, key))
        while left < len(others) and here is not None:
            there = live.get(_identity(others[left], key))
            if there is None or there >= here:
                break
            out.append(others[left])
            left += 1
        out.append(item)
    return out + others[left:]


def _identity(item: Value, key: str) -> Value:
    """What tells an item from its neighbours; always hashable, and 1 is not true."""
    value = item.get(key) if key and isinstance(item, dict) else item
    return (type(value) is bool, value) if not isinstance(value, dict | list) else _show(value)


def _unique(items: list[Value]) -> list[Value]:
    seen: dict[Value, Value] = {}
    for item in items:
        seen.setdefault(_identity(item, ""), item)
    return list(seen.values())


def _new_list(items: list[Value]) -> list[Value]:
    return [plain(item) for item in items if not _is_directive(item)]


def _is_directive(item: Value) -> bool:
    return isinstance(item, dict) and DIRECTIVE in item


def _is_marker(name: str) -> bool:
    return name in (DIRECTIVE, RETAIN_KEYS) or name.startswith((ORDER_PREFIX, DELETE_PREFIX))


def plain(value: Value) -> Value:
    """A value of the patch taken as it is: without nulls in maps, and without directives."""
    if isinstance(value, dict):
        return {
            name: plain(item)
            for name, item in value.items()
            if item is not None and not _is_directive(item) and not _is_marker(name)
        }
    if isinstance(value, list):
        return [plain(item) for item in value if not _is_directive(item)]
    return value


def _show(value: Value) -> str:
    """Go prints maps as map[a:1 b:2], lists as [1 2]."""
    if isinstance(value, dict):
        inner = " ".join(f"{name}:{_show(item)}" for name, item in sorted(value.items()))
        return f"map[{inner}]"
    if isinstance(value, list):
        return f"[{' '.join(map(_show, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "<nil>" if value is None else str(value)
