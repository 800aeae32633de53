"""ReplicationController."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ... import fields
from ...descriptor import Kind
from ...errors import Cause, Object
from ..formats import check_nonnegative
from ..printing import labels_text
from .podspec.template import check_runs_for_ever, default_template
from .podspec.validate import check_template
from .podspec.warnings import warn_workload
from .replicas import REPLICA_COLUMNS, check_replica_status, replica_cells


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if labels:
        if not spec.get("selector"):
            spec["selector"] = dict(labels)
        if not obj["metadata"].get("labels"):
            obj["metadata"]["labels"] = dict(labels)
    spec.setdefault("replicas", 1)
    if spec.get("template") is not None:
        default_template(spec)
    obj.setdefault("status", {}).setdefault("replicas", 0)


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    if old is not None and spec == old.get("spec"):
        return out
    check_nonnegative(spec.get("minReadySeconds"), "spec.minReadySeconds", out)
    selector, template = spec.get("selector"), spec.get("template")
    if not selector:
        out.append(fields.required("spec.selector"))
    check_nonnegative(spec.get("replicas"), "spec.replicas", out)
    if template is None:
        out.append(fields.required("spec.template"))
        return out
    labels = (template.get("metadata") or {}).get("labels") or {}
    if any(labels.get(key) != value for key, value in (selector or {}).items()):
        why = "`selector` does not match template `labels`"
        out.append(fields.invalid("spec.template.metadata.labels", labels or fields.NIL, why))
    check_template(template, "spec.template", out)
    where = "spec.template.spec"
    check_runs_for_ever(template.get("spec") or {}, where, "ReplicationController", out)
    return out


def validate_status(obj: Object, old: Object | None) -> list[Cause]:
    return check_replica_status(obj)


def selectable(obj: Object) -> Mapping[str, str]:
    return {"status.replicas": str((obj.get("status") or {}).get("replicas") or 0)}


def cells(obj: Object, now_s: float) -> list[Any]:
    return replica_cells(obj, now_s, labels_text((obj.get("spec") or {}).get("selector")))


KIND = Kind(
    group="",
    version="v1",
    kind="ReplicationController",
    short_names=("rc",),
    categories=("all",),
    storage="controllers",
    default=default,
    defaults_metadata=True,
    validate=validate,
    warnings=warn_workload,
    validate_status=validate_status,
    fields=selectable,
    columns=REPLICA_COLUMNS,
    cells=cells,
)
