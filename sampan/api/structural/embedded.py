"""Embedded objects (x-kubernetes-embedded-resource): they have an apiVersion, a kind and metadata
as every object (apiextensions-apiserver schema/objectmeta)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from sampan.api import names
from sampan.api.errors import Cause, Object
from sampan.api.fields import child, invalid, required
from sampan.api.meta import validate_annotations, validate_finalizers, validate_owners

Places = tuple[tuple[str, ...], ...]
EACH = "*"
"""Stands for every item of a list or map in a place."""

DecodeMeta = Callable[[Any, str, list[str]], Any]


def places_of(schema: Any) -> Places:
    """Where embedded objects are, as paths through the schema."""
    return tuple(_places(schema, ()))


def _places(schema: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if not isinstance(schema, dict):
        return
    if path and schema.get("x-kubernetes-embedded-resource"):
        yield path
    for name, inner in (schema.get("properties") or {}).items():
        yield from _places(inner, (*path, name))
    for key in ("items", "additionalProperties"):
        yield from _places(schema.get(key), (*path, EACH))


class _Known:
    """A schema by identity, so that its places are looked for once."""

    __slots__ = ("schema",)

    def __init__(self, schema: Object) -> None:
        self.schema = schema

    def __hash__(self) -> int:
        return id(self.schema)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Known) and other.schema is self.schema


@lru_cache(maxsize=256)
def _known_places(known: _Known) -> Places:
    return places_of(known.schema)


def coerce_embedded(
    schema: Object, obj: Object, unknown: list[str], decode_meta: DecodeMeta
) -> Object:
    """The object with the metadata of embedded ones decoded; shares what is clean. Raises what
    `decode_meta` raises."""

    def coerce(value: Any, where: str) -> Any:
        if not isinstance(value, dict) or value.get("metadata") is None:
            return value
        clean = decode_meta(value["metadata"], child(where, "metadata"), unknown)
        return value if clean is value["metadata"] else {**value, "metadata": clean}

    for place in _known_places(_Known(schema)):
        obj = _changed(obj, place, "", coerce)
    return obj


def _changed(
    value: Any, place: tuple[str, ...], where: str, change: Callable[[Any, str], Any]
) -> Any:
    if not place:
        return change(value, where)
    step, rest = place[0], place[1:]
    if isinstance(value, dict):
        for name in list(value) if step == EACH else [step] if step in value else []:
            new = _changed(value[name], rest, child(where, name), change)
            if new is not value[name]:
                value = {**value, name: new}
    elif isinstance(value, list) and step == EACH:
        for position, item in enumerate(value):
            new = _changed(item, rest, f"{where}[{position}]", change)
            if new is not item:
                value = [*value[:position], new, *value[position + 1 :]]
    return value


def validate_embedded(schema: Object, obj: Object, old: Object | None) -> list[Cause]:
    """Field errors of embedded objects."""
    out: list[Cause] = []

    def check(value: Any, where: str) -> Any:
        if isinstance(value, dict):
            out.extend(_problems(value, where))
        return value

    places = _known_places(_Known(schema))
    for place in places:
        _changed(obj, place, "", check)
    return out


def _problems(value: Object, where: str) -> Iterator[Cause]:
    version, kind = value.get("apiVersion"), value.get("kind")
    if not version:
        yield required(child(where, "apiVersion"), "must not be empty")
    elif not isinstance(version, str) or version.count("/") > 1:
        why = f"unexpected GroupVersion string: {version}"
        yield invalid(child(where, "apiVersion"), version, why)
    if not kind:
        yield required(child(where, "kind"), "must not be empty")
    elif not isinstance(kind, str) or names.label_1035_problems(kind.lower()):
        why = "may have mixed case, but should otherwise match: " + ",".join(
            names.label_1035_problems(str(kind).lower())
        )
        yield invalid(child(where, "kind"), kind, why)
    meta = value.get("metadata")
    if isinstance(meta, dict):
        yield from _meta_problems(meta, child(where, "metadata"))


def _meta_problems(meta: Object, where: str) -> Iterator[Cause]:
    for field in ("name", "generateName"):
        given = meta.get(field)
        if given:
            for why in names.name_problems(given, "subdomain", prefix=field != "name"):
                yield invalid(child(where, field), given, why)
    if meta.get("labels"):
        yield from names.validate_labels(meta["labels"], child(where, "labels"))
    if meta.get("annotations"):
        yield from validate_annotations(meta["annotations"], child(where, "annotations"))
    if meta.get("ownerReferences"):
        yield from validate_owners(meta["ownerReferences"], child(where, "ownerReferences"))
    if meta.get("finalizers"):
        yield from validate_finalizers(meta["finalizers"], child(where, "finalizers"))
