"""VolumeAttachment (storage.k8s.io/v1)."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import STATUS_ALONE, Column, Kind
from ...errors import Cause, Object
from ..core.podspec.volumes import check_driver_name
from ..formats import check_subdomain
from ..printing import AGE, NAME, age, name

MAX_METADATA = 256 * 1024
MAX_MESSAGE = 1024
"""Bytes of what an attacher tells; upstream's error about the message names the other limit."""


def default(obj: Object) -> None:
    obj.setdefault("status", {}).setdefault("attached", False)


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj.get("spec") or {}
    if old is not None:
        if spec != (old.get("spec") or {}):
            out.append(fields.immutable("spec", spec))
        return out
    check_driver_name(spec.get("attacher") or "", "spec.attacher", out)
    source = spec.get("source") or {}
    volume, inline = source.get("persistentVolumeName"), source.get("inlineVolumeSpec")
    if volume is None and inline is None:
        why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
        out.append(fields.required("spec.source", why))
    elif volume is not None and inline is not None:
        why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
        out.append(fields.forbidden("spec.source", why))
    elif volume is not None and not volume:
        out.append(
            fields.required(
                "spec.source.persistentVolumeName", "must specify non empty persistentVolumeName"
            )
        )
    check_subdomain(spec.get("nodeName") or "", "spec.nodeName", out)
    return out


def validate_status(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    status = obj.get("status") or {}
    metadata = status.get("attachmentMetadata") or {}
    if sum(len(key) + len(value) for key, value in metadata.items()) > MAX_METADATA:
        out.append(fields.too_long("status.attachmentMetadata", "", MAX_METADATA))
    for field in ("attachError", "detachError"):
        error = status.get(field) or {}
        if len(error.get("message") or "") > MAX_MESSAGE:
            out.append(fields.too_long(f"status.{field}.message", "", MAX_METADATA))
        if (error.get("errorCode") or 0) < 0:
            why = "must be between 0 and 2147483647, inclusive"
            out.append(fields.invalid(f"status.{field}.errorCode", error["errorCode"], why))
    return out


def cells(obj: Object, now_s: float) -> list[Any]:
    spec = obj.get("spec") or {}
    return [
        name(obj),
        spec.get("attacher") or "",
        (spec.get("source") or {}).get("persistentVolumeName") or "",
        spec.get("nodeName") or "",
        bool((obj.get("status") or {}).get("attached")),
        age(obj, now_s),
    ]


KIND = Kind(
    group="storage.k8s.io",
    version="v1",
    kind="VolumeAttachment",
    storage="volumeattachments",
    generation=False,
    default=default,
    validate=validate,
    validate_status=validate_status,
    columns=(
        NAME,
        Column("Attacher", "string", "The driver that attaches.", "name"),
        Column("PV", "string", "The volume."),
        Column("Node", "string", "The node."),
        Column("Attached", "boolean", "Is it done?"),
        AGE,
    ),
    cells=cells,
    status_keeps=STATUS_ALONE,
)
