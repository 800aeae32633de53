"""ReplicaSet (apps/v1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ... import fields
from ...descriptor import Kind
from ...errors import Cause, Object
from ..core.podspec.template import check_selected_template, default_template
from ..core.podspec.warnings import warn_workload
from ..core.replicas import REPLICA_COLUMNS, check_replica_status, replica_cells
from ..formats import check_nonnegative
from ..printing import selector_text


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    default_template(spec)
    obj.setdefault("status", {}).setdefault("replicas", 0)


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    if old is not None and spec == old.get("spec"):
        return out
    check_nonnegative(spec.get("replicas"), "spec.replicas", out)
    check_nonnegative(spec.get("minReadySeconds"), "spec.minReadySeconds", out)
    if old is not None and {**spec, "replicas": 0} == {**old["spec"], "replicas": 0}:
        # Scaling is by far the most frequent change.
        return out
    check_selected_template(spec, "spec", "ReplicaSet", out)
    if old is not None:
        out += fields.unchanged("spec.selector", spec.get("selector"), old["spec"].get("selector"))
    return out


def validate_status(obj: Object, old: Object | None) -> list[Cause]:
    return check_replica_status(obj)


def selectable(obj: Object) -> Mapping[str, str]:
    return {"status.replicas": str((obj.get("status") or {}).get("replicas") or 0)}


def cells(obj: Object, now_s: float) -> list[Any]:
    return replica_cells(obj, now_s, selector_text((obj.get("spec") or {}).get("selector")))


KIND = Kind(
    group="apps",
    version="v1",
    kind="ReplicaSet",
    short_names=("rs",),
    categories=("all",),
    storage="replicasets",
    default=default,
    validate=validate,
    warnings=warn_workload,
    validate_status=validate_status,
    fields=selectable,
    columns=REPLICA_COLUMNS,
    cells=cells,
)
