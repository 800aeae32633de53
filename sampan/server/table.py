"""Tables and metadata-only forms of objects (meta.k8s.io): what `kubectl get` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sampan.api.descriptor import Column, Descriptor
from sampan.api.errors import BadRequest, Object
from sampan.api.fields import invalid
from sampan.api.kinds.printing import since

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


def _completed(reason: str, message: str) -> Object:
    return {"type": "Completed", "status": "True", "reason": reason, "message": message}


FINISHED = {
    "Succeeded": _completed("Succeeded", "The pod has completed successfully."),
    "Failed": _completed("Failed", "The pod failed."),
}
"""Row conditions of pods that are over, by phase."""


def _precedence(schema: Object) -> tuple[int, str]:
    spec = schema.get("spec") or {}
    return spec.get("matchingPrecedence") or 0, schema["metadata"].get("name", "")


ORDERS: Mapping[tuple[str, str], Callable[[Object], Any]] = {
    ("flowcontrol.apiserver.k8s.io", "flowschemas"): _precedence,
}
"""Kinds that are not printed by name."""

INCLUDES = ("Metadata", "None", "Object", "")


def include_of(text: str) -> str:
    """What of its object a row carries. Raises BadRequest in upstream's words."""
    if text not in INCLUDES:
        cause = invalid("includeObject", text, "must be 'Metadata', 'Object', 'None', or empty")
        raise BadRequest(f"Unable to convert to Table as requested: {cause}")
    return text or "Metadata"


def columns_of(resource: Descriptor) -> list[Object]:
    """The columnDefinitions of a kind."""
    return [_definition(column) for column in resource.rules.columns or PLAIN_COLUMNS]


def empty(version: str) -> Object:
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": {},
        "columnDefinitions": [],
        "rows": [],
    }


def table_of(
    resource: Descriptor,
    objects: Iterable[Object],
    version: str,
    include: str,
    now_s: float,
) -> Object:
    """A Table of `objects`; `include` is None, Metadata or Object."""
    cells = resource.rules.cells or _plain_cells
    made = empty(version)
    made["columnDefinitions"] = columns_of(resource)
    key = (resource.group, resource.plural)
    rows = made["rows"]
    for obj in sorted(objects, key=ORDERS[key]) if key in ORDERS else objects:
        row: Object = {"cells": cells(obj, now_s)}
        if key == ("", "pods") and (
            over := FINISHED.get((obj.get("status") or {}).get("phase") or "")
        ):
            row["conditions"] = [over]
        row["object"] = _row_object(obj, version, include)
        rows.append(row)
    return made


def _definition(column: Column) -> Object:
    return {
        "name": column.name,
        "type": column.type,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    }


def _row_object(obj: Object, version: str, include: str) -> Object | None:
    if include == "None":
        return None
    return obj if include == "Object" else partial_of(obj, version)


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


def _plain_cells(obj: Object, now_s: float) -> list[Any]:
    metadata = obj["metadata"]
    return [metadata.get("name", ""), since(metadata.get("creationTimestamp"), now_s)]
