"""Lease (coordination.k8s.io/v1): renewed often, so its checks are few."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..formats import check_qualified
from ..printing import AGE, NAME, age, name

STRATEGY_PATH = "spec.strategy.strategy"
"""As upstream's errors have it."""
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
    if strategy is not None and "/" in strategy:
        check_qualified(strategy, STRATEGY_PATH, out)
    elif strategy is not None and strategy not in STRATEGIES:
        out.append(fields.not_supported(STRATEGY_PATH, strategy, STRATEGIES))
    if spec.get("preferredHolder") and not strategy:
        why = "may only be specified if `strategy` is defined"
        out.append(fields.forbidden("spec.preferredHolder", why))
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
