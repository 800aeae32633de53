"""CSIStorageCapacity (storage.k8s.io/v1)."""

from __future__ import annotations

from typing import Any

from sampan.wire.quantity import QuantityError, canonical

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ...selectors import validate_label_selector
from ..core.podspec.resources import check_quantity
from ..doubts import doubt_selector
from ..formats import check_subdomain
from ..printing import NAME, UNSET, name


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    if old is not None:
        # What a driver was asked for stays; what it answered is not looked at again, as upstream.
        for field in ("nodeTopology", "storageClassName"):
            out += fields.unchanged(field, obj.get(field), old.get(field))
        return out
    if obj.get("nodeTopology") is not None:
        out += validate_label_selector(obj["nodeTopology"], "nodeTopology")
    check_subdomain(obj.get("storageClassName") or "", "storageClassName", out)
    if obj.get("capacity") is not None:
        check_quantity("storage", obj["capacity"], "capacity", out)
    return out


def warnings(obj: Object, old: Object | None) -> list[str]:
    return doubt_selector(obj.get("nodeTopology"), "nodeTopology")


def cells(obj: Object, now_s: float) -> list[Any]:
    capacity = obj.get("capacity")
    try:
        text = UNSET if capacity is None else canonical(str(capacity))
    except QuantityError:
        text = str(capacity)
    return [name(obj), obj.get("storageClassName") or "", text]


KIND = Kind(
    group="storage.k8s.io",
    version="v1",
    kind="CSIStorageCapacity",
    storage="csistoragecapacities",
    validate=validate,
    warnings=warnings,
    columns=(
        NAME,
        Column("StorageClassName", "string", "The class it is about."),
        Column("Capacity", "string", "What is left."),
    ),
    cells=cells,
)
