"""Metrics of horizontal pod autoscalers: validation and text (autoscaling/v2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sampan.wire.quantity import QuantityError, parse

from ... import fields
from ...errors import Cause, Object
from ...names import path_problems
from ..printing import NONE, UNKNOWN

FIELDS = {
    "ContainerResource": "containerResource", "External": "external", "Object": "object",
    "Pods": "pods", "Resource": "resource",
}  # fmt: skip
"""Metric source types and the field each needs."""
SHOWN_METRICS = 2


def check_metric(metric: Object, path: str, out: list[Cause]) -> None:
    kind = metric.get("type") or ""
    if not kind:
        out.append(fields.required(f"{path}.type", "must specify a metric source type"))
    if kind not in FIELDS:
        out.append(fields.not_supported(f"{path}.type", kind, tuple(FIELDS)))
        return
    field = FIELDS[kind]
    given = [name for name in FIELDS.values() if metric.get(name) is not None]
    if field not in given:
        why = "must populate information for the given metric source"
        out.append(fields.required(f"{path}.{field}", why))
    for name in given:
        if name != field:
            why = "must populate the given metric source only"
            out.append(fields.forbidden(f"{path}.{name}", why))
    if given == [field]:
        _check_source(kind, metric[field], f"{path}.{field}", out)


def _check_source(kind: str, source: Object, path: str, out: list[Cause]) -> None:
    target = source.get("target") or {}
    if kind in ("Resource", "ContainerResource"):
        if not source.get("name"):
            out.append(fields.required(f"{path}.name", "must specify a resource name"))
        if kind == "ContainerResource" and not source.get("container"):
            out.append(fields.required(f"{path}.container", "must specify a container"))
    else:
        metric = (source.get("metric") or {}).get("name")
        if not metric:
            why = "must specify a metric name"
            out.append(fields.required(f"{path}.metric.name", why))
        else:
            for why in path_problems(metric):
                out.append(fields.invalid(f"{path}.metric.name", metric, why))
    if kind == "Object":
        check_target_ref(source.get("describedObject") or {}, f"{path}.describedObject", out)
    _check_target(kind, target, f"{path}.target", out)


def _check_target(kind: str, target: Object, path: str, out: list[Cause]) -> None:
    allowed = ("Utilization", "Value", "AverageValue")
    if not target.get("type"):
        out.append(fields.required(f"{path}.type", "must specify a metric target type"))
    elif target["type"] not in allowed:
        why = "must be either Utilization, Value, or AverageValue"
        out.append(fields.invalid(f"{path}.type", target["type"], why))
    for field in ("value", "averageValue"):
        if target.get(field) is not None and not _positive(target[field]):
            out.append(fields.invalid(f"{path}.{field}", target[field], "must be positive"))
    utilization, average = target.get("averageUtilization"), target.get("averageValue")
    if utilization is not None and utilization < 1:
        why = "must be greater than 0"
        out.append(fields.invalid(f"{path}.averageUtilization", utilization, why))
    if kind in ("Resource", "ContainerResource"):
        if utilization is None and average is None:
            why = "must set either a target raw value or a target utilization"
            out.append(fields.required(f"{path}.averageUtilization", why))
        elif utilization is not None and average is not None:
            why = "may not set both a target raw value and a target utilization"
            out.append(fields.forbidden(f"{path}.averageValue", why))
    elif kind == "Pods":
        if average is None:
            why = "must specify a positive target averageValue"
            out.append(fields.required(f"{path}.averageValue", why))
    elif target.get("value") is None and average is None:
        why = "must set either a target value or averageValue"
        out.append(fields.required(f"{path}.averageValue", why))


def _positive(value: Any) -> bool:
    try:
        return parse(value).nanos > 0
    except QuantityError:
        return False


def check_target_ref(reference: Object, path: str, out: list[Cause]) -> None:
    """A CrossVersionObjectReference."""
    for field in ("kind", "name"):
        value = reference.get(field)
        if not value:
            out.append(fields.required(f"{path}.{field}"))
        else:
            out += [fields.invalid(f"{path}.{field}", value, why) for why in path_problems(value)]


def metrics_text(specs: Sequence[Object], statuses: Sequence[Object]) -> str:
    if not specs:
        return NONE
    texts = [
        _metric_text(spec, statuses[position] if position < len(statuses) else {})
        for position, spec in enumerate(specs)
    ]
    rest = len(texts) - SHOWN_METRICS
    shown = ", ".join(texts[:SHOWN_METRICS])
    return f"{shown} + {rest} more..." if rest > 0 else shown


def _metric_text(spec: Object, status: Object) -> str:
    kind = spec.get("type") or ""
    if kind not in FIELDS:
        return "<unknown type>"
    source = spec.get(FIELDS[kind]) or {}
    current = (status.get(FIELDS[kind]) or {}).get("current")
    target = source.get("target") or {}
    if kind in ("Resource", "ContainerResource"):
        if target.get("averageValue") is not None:
            now = UNKNOWN if current is None else _text(current.get("averageValue"))
            return f"{source.get('name', '')}: {now}/{_text(target['averageValue'])}"
        used, wanted = (current or {}).get("averageUtilization"), target.get("averageUtilization")
        now = UNKNOWN if used is None else f"{used}%"
        goal = "<auto>" if wanted is None else f"{wanted}%"
        return f"{source.get('name', '')}: {now}/{goal}"
    if kind == "Pods":
        now = UNKNOWN if current is None else _text(current.get("averageValue"))
        return f"{now}/{_text(target.get('averageValue'))}"
    if target.get("averageValue") is not None:
        average = (current or {}).get("averageValue")
        now = UNKNOWN if average is None else _text(average)
        return f"{now}/{_text(target['averageValue'])} (avg)"
    now = UNKNOWN if current is None else _text(current.get("value"))
    return f"{now}/{_text(target.get('value'))}"


def _text(value: Any) -> str:
    try:
        return str(parse(value if value is not None else "0"))
    except QuantityError:
        return str(value)
