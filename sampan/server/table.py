"""Tables and metadata-only forms of objects (meta.k8s.io): what `kubectl get` prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sampan.api.descriptor import Column, Descriptor
from sampan.api.errors import Object
from sampan.api.times import TimeError, parse_time

NAME_TEXT = (
    "Name must be unique within a namespace. Is required when creating resources, although some "
    "resources may allow a client to request the generation of an appropriate name automatically. "
    "Name is primarily intended for creation idempotence and configuration definition. Cannot be "
    "updated. More info: "
    "https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names"
)
AGE_TEXT = (
    "CreationTimestamp is a timestamp representing the server time when this object was created. "
    "It is not guaranteed to be set in happens-before order across separate operations. Clients "
    "may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the "
    "system. Read-only. Null for lists. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
)

PLAIN_COLUMNS = (
    Column("Name", "string", NAME_TEXT, "name"),
    Column("Age", "string", AGE_TEXT),
)
"""For kinds without columns of their own, as upstream's default convertor, but with an age that
reads as everywhere else."""


def table_of(
    resource: Descriptor,
    objects: Iterable[Object],
    version: str,
    include: str,
    now_s: float,
) -> Object:
    """A Table of `objects`; `include` is None, Metadata or Object."""
    columns = resource.rules.columns or PLAIN_COLUMNS
    cells = resource.rules.cells
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": {},
        "columnDefinitions": [_definition(column) for column in columns],
        "rows": [
            {
                "cells": cells(obj, now_s) if cells is not None else _plain_cells(obj, now_s),
                **_row_object(obj, version, include),
            }
            for obj in objects
        ],
    }


def _definition(column: Column) -> Object:
    return {
        "name": column.name,
        "type": column.type,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    }


def _row_object(obj: Object, version: str, include: str) -> Object:
    if include == "None":
        return {"object": None}
    return {"object": obj if include == "Object" else partial_of(obj, version)}


def partial_of(obj: Object, version: str) -> Object:
    """The object's metadata alone, as PartialObjectMetadata."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": obj["metadata"],
    }


def partial_list_of(objects: Iterable[Object], version: str, metadata: Object) -> Object:
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": metadata,
        "items": [partial_of(obj, version) for obj in objects],
    }


def _plain_cells(obj: Object, now_s: float) -> Sequence[Any]:
    metadata = obj["metadata"]
    return [metadata.get("name", ""), age_text(metadata.get("creationTimestamp"), now_s)]


def age_text(created: str | None, now_s: float) -> str:
    """How long ago, as kubectl says it (duration.HumanDuration)."""
    if not created:
        return "<unknown>"
    try:
        return human_duration(now_s - parse_time(created))
    except TimeError:
        return "<invalid>"


def human_duration(seconds_f: float) -> str:
    """Two figures at most: 59s, 2m5s, 12m, 3h4m, 2d3h, 400d, 3y12d."""
    seconds = int(seconds_f)
    if seconds < -1:
        return "<invalid>"
    if seconds < 0:
        return "0s"
    if seconds < 60 * 2:
        return f"{seconds}s"
    minutes = seconds // 60
    if minutes < 10:
        rest = seconds % 60
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    if minutes < 60 * 3:
        return f"{minutes}m"
    hours = minutes // 60
    if hours < 8:
        rest = minutes % 60
        return f"{hours}h{rest}m" if rest else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if hours < 24 * 8:
        rest = hours % 24
        return f"{days}d{rest}h" if rest else f"{days}d"
    if hours < 24 * 365 * 2:
        return f"{days}d"
    years = hours // (24 * 365)
    if hours < 24 * 365 * 8:
        rest = days % 365
        return f"{years}y{rest}d" if rest else f"{years}y"
    return f"{years}y"
