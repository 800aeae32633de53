"""ControllerRevision (apps/v1)."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..formats import check_nonnegative
from ..printing import AGE, NAME, NONE, age, name


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    data, revision = obj.get("data"), obj.get("revision") or 0
    if data is None:
        out.append(fields.required("data", "data is mandatory"))
    check_nonnegative(revision, "revision", out)
    if old is not None and data != old.get("data"):
        out.append(fields.immutable("data", data))
    return out


def cells(obj: Object, now_s: float) -> list[Any]:
    owner = NONE
    for item in obj["metadata"].get("ownerReferences") or ():
        if item.get("controller"):
            group = item.get("apiVersion", "").rpartition("/")[0]
            kind = f"{item.get('kind', '')}.{group}" if group else item.get("kind", "")
            owner = f"{kind.lower()}/{item.get('name', '')}"
    return [name(obj), owner, obj.get("revision") or 0, age(obj, now_s)]


KIND = Kind(
    group="apps",
    version="v1",
    kind="ControllerRevision",
    storage="controllerrevisions",
    validate=validate,
    columns=(
        NAME,
        Column("Controller", "string", "Controller of the object"),
        Column("Revision", "string", "The revision's number."),
        AGE,
    ),
    cells=cells,
)
