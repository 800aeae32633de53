"""CSINode (storage.k8s.io/v1)."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..core.podspec.volumes import check_driver_name
from ..formats import check_qualified
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
        for key in driver.get("topologyKeys") or ():
            check_qualified(key, f"{path}.topologyKeys", out)
    return out


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
