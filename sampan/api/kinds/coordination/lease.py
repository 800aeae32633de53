"""Lease (coordination.k8s.io/v1): renewed often, so its checks are few."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..printing import AGE, NAME, age, name

STRATEGIES = ("OldestEmulationVersion",)


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj.get("spec") or {}
    seconds = spec.get("leaseDurationSeconds")
    if seconds is not None and seconds <= 0:
        out.append(fields.invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    transitions = spec.get("leaseTransitions")
    if transitions is not None and transitions < 0:
        why = "must be greater than or equal to 0"
        out.append(fields.invalid("spec.leaseTransitions", transitions, why))
    strategy = spec.get("strategy")
    if strategy is not None and "/" not in strategy and strategy not in STRATEGIES:
        out.append(fields.not_supported("spec.strategy", strategy, STRATEGIES))
    return out


def cells(obj: Object, now_s: float) -> list[Any]:
    return [name(obj), (obj.get("spec") or {}).get("holderIdentity") or "", age(obj, now_s)]


KIND = Kind(
    group="coordination.k8s.io",
    version="v1",
    kind="Lease",
    storage="leases",
    validate=validate,
    columns=(NAME, Column("Holder", "string", "Who holds the lease."), AGE),
    cells=cells,
)
