"""PersistentVolumeClaim."""

from __future__ import annotations

from typing import Any

from sampan.wire.quantity import NANO, QuantityError, canonical, parse

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ...meta import annotations_of
from ..doubts import doubt_claim_spec, doubt_class_annotation
from ..formats import check_qualified
from ..printing import AGE, NAME, UNSET, age, name
from .claimspec import CLASS_ANNOTATION, access_modes_text, check_claim_spec, class_name
from .podspec.equality import difference, same
from .podspec.resources import is_native

IMMUTABLE = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName "
    "for bound claims"
)

RESIZING = (
    "ControllerResizeFailed", "ControllerResizeInProgress", "NodeResizeFailed",
    "NodeResizeInProgress", "NodeResizePending",
)  # fmt: skip
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
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    kept = (old or {}).get("spec") or {}
    unknown = bool(source) and _kind_of(source) not in OLD_SOURCES
    if unknown and reference is None and not kept.get("dataSource"):
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
    if old is not None and spec == old.get("spec") and _annotated(obj) == _annotated(old):
        return out
    check_claim_spec(spec, "spec", out)
    if old is not None and not out:
        _check_update(obj, old, out)
    return out


def _annotated(obj: Object) -> str | None:
    """The class by annotation, as it was named before there was a field."""
    return annotations_of(obj).get(CLASS_ANNOTATION)


def _check_update(obj: Object, old: Object, out: list[Cause]) -> None:
    spec, before = obj["spec"], old["spec"]
    munged = dict(spec)
    if not before.get("volumeName"):
        munged.pop("volumeName", None)
    if _may_name_class(obj, old, out):
        munged.pop("storageClassName", None)
    resources = spec.get("resources") or {}
    if (obj.get("status") or {}).get("phase") == "Bound" and resources.get("requests"):
        size = ((before.get("resources") or {}).get("requests") or {}).get("storage", "0")
        munged["resources"] = {**resources, "requests": {**resources["requests"], "storage": size}}
    munged.pop("volumeAttributesClassName", None)
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
    out += fields.unchanged("volumeMode", spec.get("volumeMode"), before.get("volumeMode"))
    chosen, was = spec.get("volumeAttributesClassName"), before.get("volumeAttributesClassName")
    in_use = (old.get("status") or {}).get("currentVolumeAttributesClassName")
    if was is not None and chosen is None and in_use is not None:
        why = "update to nil is forbidden when status.currentVolumeAttributesClassName is not nil"
        out.append(fields.forbidden("spec.volumeAttributesClassName", why))


def _may_name_class(obj: Object, old: Object, out: list[Cause]) -> bool:
    """May the class, which no field named, be named by the field now?"""
    chosen, was = obj["spec"].get("storageClassName"), old["spec"].get("storageClassName")
    now, before = _annotated(obj), _annotated(old)
    unset = was is None and chosen is not None
    if before is not None and unset and chosen == before and now in (None, before):
        return True
    if (now or "") != (before or ""):
        path = f"metadata.annotations.{CLASS_ANNOTATION}"
        out.append(fields.immutable(path, now or ""))
    return unset and before in (None, chosen)


def _size(spec: Object) -> int:
    requests = (spec.get("resources") or {}).get("requests") or {}
    return parse(requests.get("storage", "0")).nanos


def validate_status(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    status = obj.get("status") or {}
    if not (obj.get("spec") or {}).get("accessModes"):
        out.append(fields.required("Spec.accessModes"))
    for resource, value in (status.get("capacity") or {}).items():
        _check_basic(value, f"status.capacity[{resource}]", out)
    path = "status.allocatedResourceStatus"
    for resource, word in (status.get("allocatedResourceStatuses") or {}).items():
        _check_key(resource, path, out)
        if word not in RESIZING:
            out.append(fields.not_supported(path, resource, RESIZING))
    path = "status.allocatedResources"
    for resource, value in (status.get("allocatedResources") or {}).items():
        before = len(out)
        _check_key(resource, path, out)
        if len(out) == before:
            _check_basic(value, f"{path}[{resource}]", out)
    return out


def _check_basic(value: Any, path: str, out: list[Cause]) -> None:
    try:
        nanos = parse(value).nanos
    except QuantityError as error:
        out.append(fields.invalid(path, value, str(error)))
        return
    if nanos < 0:
        # The value upstream shows is the number, rounded up.
        out.append(fields.invalid(path, -(-nanos // NANO), "must be a valid resource quantity"))


def _check_key(resource: str, path: str, out: list[Cause]) -> None:
    before = len(out)
    check_qualified(resource, path, out)
    if len(out) == before and is_native(resource) and resource != "storage":
        out.append(fields.not_supported(path, resource, ("storage",)))


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
