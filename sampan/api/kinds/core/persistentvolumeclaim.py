"""PersistentVolumeClaim."""

from __future__ import annotations

from typing import Any

from sampan.wire.quantity import QuantityError, canonical, parse

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..doubts import doubt_claim_spec, doubt_class_annotation
from ..printing import AGE, NAME, UNSET, age, name
from .claimspec import CLASS_ANNOTATION, access_modes_text, check_claim_spec, class_name
from .podspec.equality import difference, same
from .podspec.resources import check_quantity

IMMUTABLE = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName "
    "for bound claims"
)

OLD_SOURCES = (("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot"))
"""(group, kind) of what dataSource may name."""


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("volumeMode", "Filesystem")
    status = obj.setdefault("status", {})
    if not status.get("phase"):
        status["phase"] = "Pending"


def prepare(obj: Object, old: Object | None) -> None:
    """dataSource and dataSourceRef name the same thing, unless it is in another namespace."""
    spec = obj.setdefault("spec", {})
    if old is not None:
        return
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    if reference is None and source and _kind_of(source) not in OLD_SOURCES:
        # KEP-1495: the old field means these two alone, and has always ignored others.
        del spec["dataSource"]
        return
    if source and not reference:
        spec["dataSourceRef"] = dict(source)
    elif reference and not source and not reference.get("namespace"):
        spec["dataSource"] = dict(reference)


def _kind_of(source: Object) -> tuple[str, str]:
    return source.get("apiGroup") or "", source.get("kind") or ""


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    if old is not None and spec == old.get("spec"):
        return out
    check_claim_spec(spec, "spec", out)
    if old is not None and not out:
        _check_update(obj, old, out)
    return out


def _check_update(obj: Object, old: Object, out: list[Cause]) -> None:
    spec, before = obj["spec"], old["spec"]
    munged = dict(spec)
    if not before.get("volumeName"):
        munged.pop("volumeName", None)
    if before.get("storageClassName") is None:
        annotation = (old["metadata"].get("annotations") or {}).get(CLASS_ANNOTATION)
        if annotation is None or spec.get("storageClassName") == annotation:
            munged.pop("storageClassName", None)
    if (obj.get("status") or {}).get("phase") == "Bound":
        munged["resources"] = before.get("resources") or {}
        if "volumeAttributesClassName" in spec:
            munged.pop("volumeAttributesClassName")
            if "volumeAttributesClassName" in before:
                munged["volumeAttributesClassName"] = before["volumeAttributesClassName"]
    if not same(munged, before):
        tail = difference(before, munged, "core.PersistentVolumeClaimSpec")
        out.append(fields.forbidden("spec", f"{IMMUTABLE}\n{tail}"))
    new_size, old_size = _size(spec), _size(before)
    if new_size < old_size:
        capacity = ((old.get("status") or {}).get("capacity") or {}).get("storage", "0")
        if new_size <= parse(capacity).nanos:
            why = "field can not be less than status.capacity"
            out.append(fields.forbidden("spec.resources.requests.storage", why))
    chosen, was = spec.get("volumeAttributesClassName"), before.get("volumeAttributesClassName")
    if was is not None and chosen is None:
        why = "update from non-nil value to nil is forbidden"
        out.append(fields.forbidden("spec.volumeAttributesClassName", why))


def _size(spec: Object) -> int:
    requests = (spec.get("resources") or {}).get("requests") or {}
    return parse(requests.get("storage", "0")).nanos


def validate_status(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    for resource, value in ((obj.get("status") or {}).get("capacity") or {}).items():
        check_quantity(resource, value, f"status.capacity[{resource}]", out)
    return out


def warnings(obj: Object, old: Object | None) -> list[str]:
    return doubt_class_annotation(obj) + doubt_claim_spec(obj["spec"], "spec")


def cells(obj: Object, now_s: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    phase = "Terminating" if "deletionTimestamp" in obj["metadata"] else status.get("phase", "")
    volume = spec.get("volumeName") or ""
    capacity = (status.get("capacity") or {}).get("storage", "0") if volume else ""
    try:
        capacity = canonical(str(capacity)) if capacity else ""
    except QuantityError:
        capacity = str(capacity)
    attributes = spec.get("volumeAttributesClassName")
    return [
        name(obj),
        phase,
        volume,
        capacity,
        access_modes_text(status.get("accessModes")) if volume else "",
        class_name(obj),
        UNSET if attributes is None else attributes,
        age(obj, now_s),
        spec.get("volumeMode") or UNSET,
    ]


KIND = Kind(
    group="",
    version="v1",
    kind="PersistentVolumeClaim",
    short_names=("pvc",),
    storage="persistentvolumeclaims",
    generation=False,
    default=default,
    prepare=prepare,
    validate=validate,
    warnings=warnings,
    validate_status=validate_status,
    columns=(
        NAME,
        Column("Status", "string", "Phase of the claim."),
        Column("Volume", "string", "The volume bound to it."),
        Column("Capacity", "string", "The volume's size."),
        Column("Access Modes", "string", "How it may be mounted."),
        Column("StorageClass", "string", "StorageClass of the pvc"),
        Column("VolumeAttributesClass", "string", "VolumeAttributesClass of the pvc"),
        AGE,
        Column("VolumeMode", "string", "File system or block device.", "", 1),
    ),
    cells=cells,
)
