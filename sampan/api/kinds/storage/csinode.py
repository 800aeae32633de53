"""CSINode (storage.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..core.podspec.equality import same
from ..core.podspec.volumes import check_driver_name
from ..formats import check_nonnegative, check_qualified
from ..printing import AGE, NAME, age, name

MAX_NODE_ID = 192


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    seen: set[str] = set()
    drivers = (obj.get("spec") or {}).get("drivers") or ()
    for position, driver in enumerate(drivers):
        path = f"spec.drivers[{position}]"
        own_name, node = driver.get("name") or "", driver.get("nodeID") or ""
        check_driver_name(own_name, f"{path}.name", out)
        if not node:
            out.append(fields.required(f"{path}.nodeID", node))
        elif len(node) > MAX_NODE_ID:
            why = f"must be {MAX_NODE_ID} characters or less"
            out.append(fields.invalid(f"{path}.nodeID", node, why))
        if own_name in seen:
            out.append(fields.duplicate(f"{path}.name", own_name))
        seen.add(own_name)
        count = (driver.get("allocatable") or {}).get("count")
        check_nonnegative(count, f"{path}.allocatable.count", out)
        keys = driver.get("topologyKeys") or ()
        for place, key in enumerate(keys):
            if not key:
                out.append(fields.required(path))
            if key in keys[:place]:
                out.append(fields.duplicate(path, key))
            check_qualified(key, path, out)
    if old is not None:
        _check_update(drivers, old, out)
    return out


def _check_update(drivers: Iterable[Object], old: Object, out: list[Cause]) -> None:
    """A driver stays as it registered, but for how many volumes it takes (KEP-4876)."""
    before = {item.get("name"): item for item in (old.get("spec") or {}).get("drivers") or ()}
    for driver in drivers:
        stored = before.get(driver.get("name"))
        if stored is not None and not same(_fixed(driver), _fixed(stored)):
            out.append(fields.immutable("spec.drivers", _fixed(driver)))


def _fixed(driver: Object) -> Object:
    return {key: value for key, value in driver.items() if key != "allocatable"}


def cells(obj: Object, now_s: float) -> list[Any]:
    return [name(obj), len((obj.get("spec") or {}).get("drivers") or ()), age(obj, now_s)]


KIND = Kind(
    group="storage.k8s.io",
    version="v1",
    kind="CSINode",
    storage="csinodes",
    validate=validate,
    columns=(
        NAME,
        Column(
            "Drivers",
            "integer",
            "Drivers indicates the number of CSI drivers registered on the node",
        ),
        AGE,
    ),
    cells=cells,
)
