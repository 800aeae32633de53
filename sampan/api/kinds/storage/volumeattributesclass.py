"""VolumeAttributesClass (storage.k8s.io/v1)."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..core.podspec.volumes import check_driver_name
from ..printing import AGE, NAME, age, name
from .storageclass import check_parameters

DEFAULT_ANNOTATION = "storageclass.kubernetes.io/is-default-class"


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    if old is not None:
        for field in ("driverName", "parameters"):
            if (obj.get(field) or None) != (old.get(field) or None):
                out.append(fields.forbidden(field, f"updates to {field} are forbidden."))
        return out
    check_driver_name(obj.get("driverName") or "", "driverName", out)
    if not obj.get("parameters"):
        out.append(fields.required("parameters", "must contain at least one key/value pair"))
    check_parameters(obj.get("parameters") or {}, "parameters", out)
    return out


def cells(obj: Object, now_s: float) -> list[Any]:
    chosen = (obj["metadata"].get("annotations") or {}).get(DEFAULT_ANNOTATION) == "true"
    text = f"{name(obj)} (default)" if chosen else name(obj)
    return [text, obj.get("driverName") or "", age(obj, now_s)]


KIND = Kind(
    group="storage.k8s.io",
    version="v1",
    kind="VolumeAttributesClass",
    short_names=("vac",),
    storage="volumeattributesclasses",
    validate=validate,
    columns=(NAME, Column("DriverName", "string", "The CSI driver."), AGE),
    cells=cells,
)
