"""ResourceClaim (resource.k8s.io/v1)."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import STATUS_ALONE, Column, Kind
from ...errors import Cause, Object
from ..printing import AGE, NAME, age, name
from .claimstatus import check_status
from .requests import check_requests, default_requests


def default(obj: Object) -> None:
    default_requests(obj.setdefault("spec", {}))
    obj.setdefault("status", {})


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    if old is not None:
        if obj["spec"] != (old.get("spec") or {}):
            out.append(fields.immutable("spec", obj["spec"]))
        return out
    check_requests(obj["spec"], "spec", out)
    return out


def validate_status(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    if old is not None:
        check_status(obj, old, out)
    return out


def cells(obj: Object, now_s: float) -> list[Any]:
    status, deleted = obj.get("status") or {}, "deletionTimestamp" in obj["metadata"]
    states = ["deleted"] if deleted else []
    if status.get("allocation") is None:
        states += [] if deleted else ["pending"]
    else:
        states.append("allocated")
        states += ["reserved"] if status.get("reservedFor") else []
    return [name(obj), ",".join(states), age(obj, now_s)]


KIND = Kind(
    group="resource.k8s.io",
    version="v1",
    kind="ResourceClaim",
    storage="resourceclaims",
    generation=False,
    default=default,
    validate=validate,
    validate_status=validate_status,
    columns=(
        NAME,
        Column(
            "State",
            "string",
            "A summary of the current state (allocated, pending, reserved, etc.).",
        ),
        AGE,
    ),
    cells=cells,
    status_keeps=STATUS_ALONE,
)
