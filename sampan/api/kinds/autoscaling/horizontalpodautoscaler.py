"""HorizontalPodAutoscaler (autoscaling/v2), the stored form."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..core.podspec.resources import check_quantity
from ..formats import check_nonnegative
from ..printing import AGE, NAME, UNSET, age, name
from .metrics import check_metric, check_target_ref, metrics_text

CPU_PERCENT = 80
MAX_PERIOD_S, MAX_WINDOW_S = 1800, 3600
COLUMNS = (
    NAME,
    Column("Reference", "string", "What it scales."),
    Column("Targets", "string", "Current and wanted metrics."),
    Column("MinPods", "string", "Fewest pods."),
    Column("MaxPods", "string", "Most pods."),
    Column("Replicas", "string", "Pods there are."),
    AGE,
)


def _up_policies() -> list[Object]:
    return [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ]


def _down_policies() -> list[Object]:
    return [{"type": "Percent", "value": 100, "periodSeconds": 15}]


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if spec.get("minReplicas") is None:
        spec["minReplicas"] = 1
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": CPU_PERCENT}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    behavior = spec.get("behavior")
    if behavior is not None:
        up = behavior["scaleUp"] = behavior.get("scaleUp") or {}
        if up.get("stabilizationWindowSeconds") is None:
            up["stabilizationWindowSeconds"] = 0
        down = behavior["scaleDown"] = behavior.get("scaleDown") or {}
        for rules, policies in ((up, _up_policies), (down, _down_policies)):
            if rules.get("selectPolicy") is None:
                rules["selectPolicy"] = "Max"
            if rules.get("policies") is None:
                rules["policies"] = policies()
    status = obj.setdefault("status", {})
    status.setdefault("desiredReplicas", 0)


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    if old is not None and spec == old.get("spec"):
        return out
    low, high = spec.get("minReplicas"), spec.get("maxReplicas") or 0
    # Zero is for those that have it already, until scaling to zero is on by default (KEP-2021).
    least = 1 if old is None or (old.get("spec") or {}).get("minReplicas") != 0 else 0
    if low is not None and low < least:
        why = f"must be greater than or equal to {least}"
        out.append(fields.invalid("spec.minReplicas", low, why))
    if high < 1:
        out.append(fields.invalid("spec.maxReplicas", high, "must be greater than 0"))
    if low is not None and high < low:
        why = "must be greater than or equal to `minReplicas`"
        out.append(fields.invalid("spec.maxReplicas", high, why))
    check_target_ref(spec.get("scaleTargetRef") or {}, "spec.scaleTargetRef", out)
    for position, metric in enumerate(spec.get("metrics") or ()):
        check_metric(metric, f"spec.metrics[{position}]", out)
    outer = {metric.get("type") for metric in spec.get("metrics") or ()} & {"Object", "External"}
    if low == 0 and not outer:
        why = (
            "must specify at least one Object or External metric to support scaling to zero "
            "replicas"
        )
        out.append(fields.forbidden("spec.metrics", why))
    for direction in ("scaleUp", "scaleDown"):
        rules = (spec.get("behavior") or {}).get(direction)
        if rules is not None:
            _check_rules(rules, f"spec.behavior.{direction}", out)
    return out


def _check_rules(rules: Object, path: str, out: list[Cause]) -> None:
    window = rules.get("stabilizationWindowSeconds")
    if window is not None and not 0 <= window <= MAX_WINDOW_S:
        why = "greater than or equal to zero" if window < 0 else (
            f"less than or equal to {MAX_WINDOW_S}"
        )  # fmt: skip
        out.append(fields.invalid(f"{path}.stabilizationWindowSeconds", window, f"must be {why}"))
    if rules.get("tolerance") is not None:
        check_quantity("", rules["tolerance"], f"{path}.tolerance", out)
    choice = rules.get("selectPolicy")
    if choice is not None and choice not in ("Disabled", "Max", "Min"):
        allowed = ("Disabled", "Max", "Min")
        out.append(fields.not_supported(f"{path}.selectPolicy", choice, allowed))
    if not rules.get("policies"):
        out.append(fields.required(f"{path}.policies", "must specify at least one Policy"))
    for position, policy in enumerate(rules.get("policies") or ()):
        where = f"{path}.policies[{position}]"
        if policy.get("type") not in ("Percent", "Pods"):
            kind = policy.get("type") or ""
            out.append(fields.not_supported(f"{where}.type", kind, ("Percent", "Pods")))
        for field in ("value", "periodSeconds"):
            value = policy.get(field) or 0
            if value <= 0:
                why = "must be greater than zero"
                out.append(fields.invalid(f"{where}.{field}", value, why))
        if (policy.get("periodSeconds") or 0) > MAX_PERIOD_S:
            why = f"must be less than or equal to {MAX_PERIOD_S}"
            out.append(fields.invalid(f"{where}.periodSeconds", policy["periodSeconds"], why))


def validate_status(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    status = obj.get("status") or {}
    for field in ("currentReplicas", "desiredReplicas"):
        check_nonnegative(status.get(field), f"status.{field}", out)
    return out


def cells(obj: Object, now_s: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    target = spec.get("scaleTargetRef") or {}
    low = spec.get("minReplicas")
    return [
        name(obj),
        f"{target.get('kind', '')}/{target.get('name', '')}",
        metrics_text(spec.get("metrics") or (), status.get("currentMetrics") or ()),
        UNSET if low is None else str(low),
        spec.get("maxReplicas") or 0,
        status.get("currentReplicas") or 0,
        age(obj, now_s),
    ]


KIND = Kind(
    group="autoscaling",
    version="v2",
    kind="HorizontalPodAutoscaler",
    short_names=("hpa",),
    categories=("all",),
    storage="horizontalpodautoscalers",
    generation=False,
    default=default,
    validate=validate,
    validate_status=validate_status,
    columns=COLUMNS,
    cells=cells,
)
