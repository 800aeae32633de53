"""What ReplicaSet and ReplicationController share: their status and their row."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import Column
from ...errors import Cause, Object
from ..formats import check_nonnegative
from ..printing import AGE, CONTAINERS, IMAGES, NAME, SELECTOR, age, container_cells, name

REPLICA_COLUMNS = (
    NAME,
    Column("Desired", "integer", "The number of pods wanted."),
    Column("Current", "integer", "The number of pods there are."),
    Column("Ready", "integer", "The number of ready pods."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
)


def check_replica_status(obj: Object) -> list[Cause]:
    out: list[Cause] = []
    status = obj.get("status") or {}
    get = status.get
    for field in (
        "replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas",
        "observedGeneration",
    ):  # fmt: skip
        check_nonnegative(get(field), f"status.{field}", out)
    total = get("replicas") or 0
    for field in ("fullyLabeledReplicas", "readyReplicas", "availableReplicas"):
        if (get(field) or 0) > total:
            why = "cannot be greater than status.replicas"
            out.append(fields.invalid(f"status.{field}", get(field), why))
    if (get("availableReplicas") or 0) > (get("readyReplicas") or 0):
        why = "cannot be greater than readyReplicas"
        out.append(fields.invalid("status.availableReplicas", get("availableReplicas"), why))
    return out


def replica_cells(obj: Object, now_s: float, selector: str) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return [
        name(obj),
        spec.get("replicas") or 0,
        status.get("replicas") or 0,
        status.get("readyReplicas") or 0,
        age(obj, now_s),
        *container_cells(spec.get("template")),
        selector,
    ]
