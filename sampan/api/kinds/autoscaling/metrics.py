"""Metrics of horizontal pod autoscalers: validation and text (autoscaling/v2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sampan.wire.quantity import QuantityError, parse

from ... import fields
from ...errors import Cause, Object
from ...names import path_problems
from ..core.podspec.resources import check_container_resource_name
from ..formats import check_label
from ..printing import NONE, UNKNOWN

FIELDS = {
    "ContainerResource": "containerResource", "External": "external", "Object": "object",
    "Pods": "pods", "Resource": "resource",
}  # fmt: skip
"""Metric source types and the field each needs."""
CHECKED = ("object", "external", "pods", "resource", "containerResource")
"""Fields of sources in upstream's order: the first one given is checked."""
SHOWN_METRICS = 2


def check_metric(metric: Object, path: str, out: list[Cause]) -> None:
    kind = metric.get("type") or ""
    if not kind:
        out.append(fields.required(f"{path}.type", "must specify a metric source type"))
    if kind not in FIELDS:
        out.append(fields.not_supported(f"{path}.type", kind, tuple(FIELDS)))
    given = [name for name in CHECKED if metric.get(name) is not None]
    if given:
        # The others are looked at when only one is left.
        _check_source(given[0], metric[given[0]], f"{path}.{given[0]}", out)
    field = FIELDS.get(kind, "")
    if field and field not in given:
        why = "must populate information for the given metric source"
        out.append(fields.required(f"{path}.{field}", why))
    for name in given if len(given) > 1 else ():
        if name != field:
            why = "must populate the given metric source only"
            out.append(fields.forbidden(f"{path}.{name}", why))


def _check_source(field: str, source: Object, path: str, out: list[Cause]) -> None:
    if field in ("resource", "containerResource"):
        name = source.get("name")
        if not name:
            out.append(fields.required(f"{path}.name", "must specify a resource name"))
        elif field == "containerResource":
            check_container_resource_name(name, f"{path}.name", out)
        if field == "containerResource":
            container = source.get("container")
            if not container:
                out.append(fields.required(f"{path}.container", "must specify a container"))
            else:
                check_label(container, f"{path}.container", out)
    else:
        if field == "object":
            described = source.get("describedObject") or {}
            check_target_ref(described, f"{path}.describedObject", out)
        metric = (source.get("metric") or {}).get("name")
        if not metric:
            why = "must specify a metric name"
            out.append(fields.required(f"{path}.metric.name", why))
        else:
            for why in path_problems(metric):
                out.append(fields.invalid(f"{path}.metric.name", metric, why))
    _check_target(field, source.get("target") or {}, f"{path}.target", out)


def _check_target(field: str, target: Object, path: str, out: list[Cause]) -> None:
    if not target.get("type"):
        out.append(fields.required(f"{path}.type", "must specify a metric target type"))
    if target.get("type") not in ("Utilization", "Value", "AverageValue"):
        why = "must be either Utilization, Value, or AverageValue"
        out.append(fields.invalid(f"{path}.type", target.get("type") or "", why))
    for name in ("value", "averageValue"):
        if target.get(name) is not None and not _positive(target[name]):
            out.append(fields.invalid(f"{path}.{name}", target[name], "must be positive"))
    utilization, average = target.get("averageUtilization"), target.get("averageValue")
    value = target.get("value")
    if utilization is not None and utilization < 1:
        why = "must be greater than 0"
        out.append(fields.invalid(f"{path}.averageUtilization", utilization, why))
    if field in ("resource", "containerResource"):
        if utilization is None and average is None:
            why = "must set either a target raw value or a target utilization"
            out.append(fields.required(f"{path}.averageUtilization", why))
        elif utilization is not None and average is not None:
            why = "may not set both a target raw value and a target utilization"
            out.append(fields.forbidden(f"{path}.averageValue", why))
    elif field == "pods":
        if average is None:
            why = "must specify a positive target averageValue"
            out.append(fields.required(f"{path}.averageValue", why))
    elif value is None and average is None:
        why = (
            "value or averageValue" if field == "object" else "value for metric or a per-pod target"
        )
        out.append(fields.required(f"{path}.averageValue", f"must set either a target {why}"))
    elif field == "external" and value is not None and average is not None:
        why = "may not set both a target value for metric and a per-pod target"
        out.append(fields.forbidden(f"{path}.value", why))


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
