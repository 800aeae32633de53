"""Who applied which field: metadata.managedFields, and the merge that server-side apply makes.

Only appliers are recorded. Sets of fields are kept as upstream's FieldsV1; an associative list is
known by the keys its schema names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import orjson

from sampan.api import schema
from sampan.api.errors import BadRequest, Cause, Conflict, Details, Object
from sampan.api.shapes import Shape

if TYPE_CHECKING:
    from .writing import Context

FieldSet = dict[str, Any]
"""FieldsV1: {"f:spec": {"f:replicas": {}}}; an empty map is a leaf."""

UNOWNED = frozenset({"apiVersion", "kind"})
UNOWNED_META = frozenset(
    {"name", "namespace", "uid", "creationTimestamp", "resourceVersion", "generation",
     "managedFields", "selfLink", "deletionTimestamp", "generateName"}
)  # fmt: skip


def first_applied(context: Context, obj: Object, now: str) -> None:
    """Record the manager of an object that apply creates."""
    obj["metadata"]["managedFields"] = [_entry(context, _fields(context, obj), now)]


def applied(context: Context, old: Object, config: Object, now: str) -> Object:
    """`old` with `config` applied: fields set, fields this manager no longer wants removed.

    Raises Conflict when another applier holds a field with another value, unless forced. The
    result shares with `old` and `config` what it does not change.
    """
    manager = context.options.field_manager
    entries = old["metadata"].get("managedFields") or []
    wanted = _fields(context, config)
    mine: FieldSet = {}
    others: list[tuple[Object, FieldSet]] = []
    for entry in entries:
        if entry.get("manager") == manager and _same_place(context, entry):
            mine = entry.get("fieldsV1") or {}
        else:
            others.append((entry, entry.get("fieldsV1") or {}))
    merged = _merge({"$ref": context.resource.definition}, old, config)
    taken = _conflicts(others, wanted, old, merged)
    if taken and not context.options.force:
        raise _conflict(taken)
    dropped = _minus(mine, wanted)
    for _, held in others:
        dropped = _minus(dropped, held)
    result = _without(merged, dropped)
    kept = [
        {**entry, "fieldsV1": left} if left != held else entry
        for entry, held in others
        if (left := _released(held, taken, entry))
    ]
    if wanted == mine and kept == [entry for entry, _ in others]:
        result["metadata"] = {**result["metadata"], "managedFields": entries}
    else:
        entry = _entry(context, wanted, now)
        result["metadata"] = {**result["metadata"], "managedFields": [*kept, entry]}
    return _private(result)


def _private(obj: Object) -> Object:
    copy: Object = orjson.loads(orjson.dumps(obj))
    return copy


def _same_place(context: Context, entry: Object) -> bool:
    return (
        entry.get("operation") == "Apply"
        and entry.get("subresource", "") == context.subresource
        and entry.get("apiVersion") == context.resource.api_version
    )


def _entry(context: Context, owned: FieldSet, now: str) -> Object:
    entry: Object = {
        "manager": context.options.field_manager,
        "operation": "Apply",
        "apiVersion": context.resource.api_version,
        "time": now,
        "fieldsType": "FieldsV1",
        "fieldsV1": owned,
    }
    if context.subresource:
        entry["subresource"] = context.subresource
    return entry


def _fields(context: Context, obj: Object) -> FieldSet:
    """The fields a configuration sets."""
    shape = schema.resolve({"$ref": context.resource.definition})
    out: FieldSet = {}
    for name, value in obj.items():
        if name in UNOWNED:
            continue
        if name == "metadata":
            value = {key: item for key, item in value.items() if key not in UNOWNED_META}
            if not value:
                continue
        out[f"f:{name}"] = _set_of(value, shape.get("properties", {}).get(name, {}))
    return out


def _set_of(value: Any, shape: Shape) -> FieldSet:
    inner = schema.resolve(shape)
    if (
        shape.get("x-kubernetes-map-type") == "atomic"
        or inner.get("x-kubernetes-map-type") == "atomic"
    ):
        return {}
    if isinstance(value, dict):
        below = inner.get("properties", {})
        each = inner.get("additionalProperties", {})
        each = each if isinstance(each, dict) else {}
        return {f"f:{name}": _set_of(item, below.get(name, each)) for name, item in value.items()}
    if isinstance(value, list):
        keys = schema.list_keys(shape)
        if keys:
            items = inner.get("items", {})
            return {_key(item, keys, items): {".": {}, **_set_of(item, items)} for item in value}
        if shape.get("x-kubernetes-list-type") == "set":
            return {f"v:{orjson.dumps(item).decode()}": {} for item in value}
    return {}


def _key(item: Any, keys: tuple[str, ...], shape: Shape) -> str:
    """What names an item of an associative list. Raises BadRequest when it lacks a key."""
    properties = schema.resolve(shape).get("properties", {})
    named = {}
    for key in sorted(keys):
        value = item.get(key) if isinstance(item, dict) else None
        if value is None:
            value = properties.get(key, {}).get("default")
        if value is None and key == "protocol":
            # The schema has lost this default; all protocols of the API default to it.
            value = "TCP"
        if value is None:
            raise BadRequest(
                "failed to create typed patch object: associative list with keys has an element "
                f'that omits key field "{key}" (and doesn\'t have default value)'
            )
        named[key] = value
    return f"k:{orjson.dumps(named).decode()}"


def _merge(shape: Shape, old: Any, new: Any) -> Any:
    """`new` merged into `old`: maps and associative lists by key, sets joined, the rest replaced
    (structured merge). The order of what is there stays; what is new comes behind it."""
    inner = schema.resolve(shape)
    if "atomic" in (shape.get("x-kubernetes-map-type"), inner.get("x-kubernetes-map-type")):
        return new
    if isinstance(old, dict) and isinstance(new, dict):
        below = inner.get("properties", {})
        each = inner.get("additionalProperties", {})
        each = each if isinstance(each, dict) else {}
        out = dict(old)
        for name, value in new.items():
            out[name] = _merge(below.get(name, each), old[name], value) if name in old else value
        return out
    if isinstance(old, list) and isinstance(new, list):
        keys = schema.list_keys(shape)
        if keys:
            return _merge_items(keys, inner.get("items", {}), old, new)
        if shape.get("x-kubernetes-list-type") == "set":
            return [*old, *(item for item in new if item not in old)]
    return new


def _merge_items(keys: tuple[str, ...], shape: Shape, old: list[Any], new: list[Any]) -> list[Any]:
    coming = {_key(item, keys, shape): item for item in new}
    if len(coming) != len(new):
        raise BadRequest(
            "failed to create typed patch object: duplicate entries for a key of an associative "
            f"list ({', '.join(keys)})"
        )
    out = []
    for item in old:
        wanted = coming.pop(_key(item, keys, shape), None)
        out.append(item if wanted is None else _merge(shape, item, wanted))
    return [*out, *coming.values()]


def _minus(left: FieldSet, right: FieldSet) -> FieldSet:
    """The leaves of `left` that `right` does not have."""
    out: FieldSet = {}
    for name, below in left.items():
        if name not in right:
            out[name] = below
        elif below and (rest := _minus(below, right[name])):
            out[name] = rest
    return out


def _common(left: FieldSet, right: FieldSet) -> FieldSet:
    out: FieldSet = {}
    for name, below in left.items():
        if name in right and name != ".":
            rest = _common(below, right[name])
            if rest or not below or not right[name]:
                out[name] = rest
    return out


def _conflicts(
    others: list[tuple[Object, FieldSet]], wanted: FieldSet, old: Object, new: Object
) -> list[tuple[Object, str]]:
    """(entry, path) of the fields others applied that this apply would change."""
    found = []
    for entry, held in others:
        for path in _leaves(_common(held, wanted), ()):
            if _at(old, path) != _at(new, path):
                found.append((entry, path))
    return [(entry, _text(path)) for entry, path in found]


def _leaves(owned: FieldSet, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name, below in owned.items():
        if name == ".":
            continue
        if below:
            yield from _leaves(below, (*path, name))
        else:
            yield (*path, name)


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        kind, rest = name[:2], name[2:]
        if kind == "f:":
            value = value.get(rest) if isinstance(value, dict) else None
        elif kind == "k:":
            value = _find(value, orjson.loads(rest))
        else:
            wanted = orjson.loads(rest)
            value = wanted if isinstance(value, list) and wanted in value else None
        if value is None:
            return None
    return value


def _find(items: Any, keys: Object) -> Any:
    for item in items if isinstance(items, list) else ():
        if _is_keyed(item, keys):
            return item
    return None


def _is_keyed(item: Any, keys: Object) -> bool:
    return isinstance(item, dict) and all(
        item.get(name, value) == value for name, value in keys.items()
    )


def _text(path: tuple[str, ...]) -> str:
    out = ""
    for name in path:
        kind, rest = name[:2], name[2:]
        if kind == "f:":
            out += f".{rest}"
        elif kind == "k:":
            keys = orjson.loads(rest)
            inner = ",".join(f"{key}={orjson.dumps(value).decode()}" for key, value in keys.items())
            out += f"[{inner}]"
        else:
            out += f"[={rest}]"
    return out


def _released(held: FieldSet, taken: list[tuple[Object, str]], entry: Object) -> FieldSet:
    """What an entry keeps when a forced apply took some of its fields."""
    lost = {path for owner, path in taken if owner is entry}
    if not lost:
        return held

    def prune(owned: FieldSet, path: tuple[str, ...]) -> FieldSet:
        out: FieldSet = {}
        for name, below in owned.items():
            place = (*path, name)
            if below:
                if rest := prune(below, place):
                    out[name] = rest
            elif _text(place) not in lost:
                out[name] = below
        return out

    return prune(held, ())


def _without(value: Any, dropped: FieldSet) -> Any:
    """A copy of `value` without the fields in `dropped`."""
    if not dropped:
        return value
    if isinstance(value, dict):
        out = dict(value)
        for name, below in dropped.items():
            field = name[2:]
            if name[:2] != "f:" or field not in out:
                continue
            if below and "." not in below:
                out[field] = _without(out[field], below)
            else:
                del out[field]
        return out
    if isinstance(value, list):
        return _without_items(value, dropped)
    return value


def _without_items(items: list[Any], dropped: FieldSet) -> list[Any]:
    gone = [orjson.loads(name[2:]) for name in dropped if name.startswith("v:")]
    keyed = [
        (orjson.loads(name[2:]), below) for name, below in dropped.items() if name.startswith("k:")
    ]
    out = []
    for item in items:
        if item in gone:
            continue
        below = next((below for keys, below in keyed if _is_keyed(item, keys)), None)
        if below is None:
            out.append(item)
        elif "." not in below:
            out.append(_without(item, below))
    return out


def _conflict(taken: list[tuple[Object, str]]) -> Conflict:
    """Upstream's conflict text (fieldmanager.ConflictToString)."""
    causes = []
    by_owner: dict[str, list[str]] = {}
    for entry, path in taken:
        using = f'conflict with "{entry.get("manager", "")}" using {entry.get("apiVersion", "")}'
        causes.append(Cause(path, using, "FieldManagerConflict"))
        by_owner.setdefault(using, []).append(path)
    plural = "s" if len(causes) > 1 else ""
    if len(causes) == 1:
        text = f"{causes[0].text}: {causes[0].path}"
    else:
        text = "\n".join(
            f"{using}:\n" + "\n".join(f"- {path}" for path in paths)
            if len(paths) > 1
            else f"{using}: {paths[0]}"
            for using, paths in by_owner.items()
        )
        text = text.replace("conflict with", "conflicts with")
    return Conflict(
        f"Apply failed with {len(causes)} conflict{plural}: {text}", Details(causes=causes)
    )
