"""HorizontalPodAutoscaler (autoscaling/v1): a view of the stored v2 object.

v1 knows only CPU utilization. What else a v2 object says travels in annotations, as upstream's
conversion has it, so that a client of v1 loses nothing when it writes back what it read.
"""

from __future__ import annotations

from typing import Any

import orjson

from ...decoding import decode
from ...descriptor import Kind
from ...errors import BadRequest, Cause, Object
from . import horizontalpodautoscaler as v2

V2 = "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler"
PREFIX = "autoscaling.alpha.kubernetes.io/"
METRICS, BEHAVIOR = f"{PREFIX}metrics", f"{PREFIX}behavior"
CONDITIONS, CURRENT = f"{PREFIX}conditions", f"{PREFIX}current-metrics"


def _cpu(metric: Object, side: str) -> int | None:
    """The CPU utilization a v2 metric asks for ("target") or has ("current")."""
    source = metric.get("resource") or {}
    if metric.get("type") != "Resource" or source.get("name") != "cpu":
        return None
    value: int | None = (source.get(side) or {}).get("averageUtilization")
    return value


def _take_target(metrics: list[Object]) -> tuple[int | None, list[Object]]:
    """The CPU utilization asked for, and the other metrics."""
    for position, metric in enumerate(metrics):
        value = _cpu(metric, "target")
        if value is not None:
            return value, metrics[:position] + metrics[position + 1 :]
    return None, metrics


def from_stored(obj: Object) -> Object:
    """The v1 form of a v2 object."""
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    annotations = dict((obj.get("metadata") or {}).get("annotations") or {})
    percent, others = _take_target(spec.pop("metrics", None) or [])
    # All of them travel: what v1 says of the CPU leaves out its value.
    current: list[Object] = status.pop("currentMetrics", None) or []
    used = [part for metric in current if (part := _cpu(metric, "current")) is not None]
    if percent is not None:
        spec["targetCPUUtilizationPercentage"] = percent
    if used:
        status["currentCPUUtilizationPercentage"] = used[-1]
    for key, value in (
        (METRICS, others),
        (CURRENT, current),
        (BEHAVIOR, spec.pop("behavior", None)),
        (CONDITIONS, status.pop("conditions", None)),
    ):
        if value:
            annotations[key] = orjson.dumps(value).decode()
    return _object(obj, "autoscaling/v1", spec, status, annotations)


def to_stored(obj: Object) -> Object:
    """The v2 form of a v1 object."""
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    annotations = dict((obj.get("metadata") or {}).get("annotations") or {})
    metrics = _load(annotations.pop(METRICS, None), "spec", "metrics") or []
    percent = spec.pop("targetCPUUtilizationPercentage", None)
    if percent is not None:
        metrics = [*metrics, _cpu_metric("target", percent)]
    if metrics:
        spec["metrics"] = metrics
    behavior = _load(annotations.pop(BEHAVIOR, None), "spec", "behavior")
    if behavior:
        spec["behavior"] = behavior
    # What travelled knows more than the percentage.
    current = _load(annotations.pop(CURRENT, None), "status", "currentMetrics")
    used = status.pop("currentCPUUtilizationPercentage", None)
    if current is None and used is not None:
        current = [_cpu_metric("current", used)]
    if current:
        status["currentMetrics"] = current
    conditions = _load(annotations.pop(CONDITIONS, None), "status", "conditions")
    if conditions:
        status["conditions"] = conditions
    return _object(obj, "autoscaling/v2", spec, status, annotations)


def _cpu_metric(side: str, percent: int) -> Object:
    value: Object = {"averageUtilization": percent}
    if side == "target":
        value = {"type": "Utilization", **value}
    return {"type": "Resource", "resource": {"name": "cpu", side: value}}


def _load(text: str | None, part: str, field: str) -> Any:
    """What an annotation holds for a field of the v2 form; nothing, as upstream, if it is broken or
    of another type, since a user may write it."""
    if not text:
        return None
    try:
        found = decode(V2, {part: {field: orjson.loads(text)}}).obj
    except (orjson.JSONDecodeError, BadRequest):
        return None
    return (found.get(part) or {}).get(field)


def _object(obj: Object, version: str, spec: Object, status: Object, annotations: Object) -> Object:
    metadata = {
        key: value for key, value in (obj.get("metadata") or {}).items() if key != "annotations"
    }
    if annotations:
        metadata["annotations"] = annotations
    out = {**obj, "apiVersion": version, "metadata": metadata, "spec": spec}
    if status or "status" in obj:
        out["status"] = status
    return out


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if spec.get("minReplicas") is None:
        spec["minReplicas"] = 1
    annotations = obj["metadata"].get("annotations") or {}
    if spec.get("targetCPUUtilizationPercentage") is None and METRICS not in annotations:
        spec["targetCPUUtilizationPercentage"] = v2.CPU_PERCENT
    status = obj.setdefault("status", {})
    status.setdefault("currentReplicas", 0)
    status.setdefault("desiredReplicas", 0)


def validate(obj: Object, old: Object | None) -> list[Cause]:
    """By the stored form, which upstream's paths are of too."""
    return v2.validate(to_stored(obj), None if old is None else to_stored(old))


def cells(obj: Object, now_s: float) -> list[Any]:
    return v2.cells(to_stored(obj), now_s)


KIND = Kind(
    group="autoscaling",
    version="v1",
    kind="HorizontalPodAutoscaler",
    short_names=("hpa",),
    categories=("all",),
    storage="horizontalpodautoscalers",
    generation=False,
    stored_as=("autoscaling", "v2"),
    from_stored=from_stored,
    to_stored=to_stored,
    default=default,
    validate=validate,
    validate_status=v2.validate_status,
    columns=v2.COLUMNS,
    cells=cells,
)
