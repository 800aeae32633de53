"""PodDisruptionBudget (policy/v1)."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ...selectors import validate_label_selector
from ..conditions import check_conditions
from ..formats import check_count_or_percent, check_nonnegative, check_not_over_100
from ..printing import AGE, NAME, age, name

COUNTERS = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
EVICTION_POLICIES = ("AlwaysAllow", "IfHealthyBudget")


def default(obj: Object) -> None:
    obj.setdefault("spec", {})
    status = obj.setdefault("status", {})
    for counter in COUNTERS:
        status.setdefault(counter, 0)


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    if old is not None and spec == old.get("spec"):
        return out
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        why = "minAvailable and maxUnavailable cannot be both set"
        out.append(fields.invalid("spec", spec, why))
    for field in ("minAvailable", "maxUnavailable"):
        if spec.get(field) is not None:
            check_count_or_percent(spec[field], f"spec.{field}", out)
            check_not_over_100(spec[field], f"spec.{field}", out)
    if spec.get("selector") is not None:
        out += validate_label_selector(spec["selector"], "spec.selector")
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy is not None and policy not in EVICTION_POLICIES:
        path = "spec.unhealthyPodEvictionPolicy"
        out.append(fields.not_supported(path, policy, EVICTION_POLICIES))
    return out


def validate_status(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    status = obj.get("status") or {}
    check_conditions(status.get("conditions") or (), "status.conditions", out)
    for counter in COUNTERS:
        check_nonnegative(status.get(counter), f"status.{counter}", out)
    return out


def cells(obj: Object, now_s: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    limits = [spec.get(field) for field in ("minAvailable", "maxUnavailable")]
    return [
        name(obj),
        *("N/A" if limit is None else str(limit) for limit in limits),
        status.get("disruptionsAllowed") or 0,
        age(obj, now_s),
    ]


KIND = Kind(
    group="policy",
    version="v1",
    kind="PodDisruptionBudget",
    short_names=("pdb",),
    storage="poddisruptionbudgets",
    default=default,
    validate=validate,
    validate_status=validate_status,
    columns=(
        NAME,
        Column("Min Available", "string", "The minimum number of pods that must be available."),
        Column("Max Unavailable", "string", "The maximum number of pods that may be unavailable."),
        Column(
            "Allowed Disruptions",
            "integer",
            "Calculated number of pods that may be disrupted at this time.",
        ),
        AGE,
    ),
    cells=cells,
    name_rule="path",
)
