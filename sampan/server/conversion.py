"""Resources served in more than one version: one is stored (the hub), the others are views of it.

Conversions are pure functions on objects; they share what they do not change and never touch what
they are given. Events are one store for both groups, as upstream; HorizontalPodAutoscalers are
stored as autoscaling/v2, and what v1 has no field for travels in upstream's annotations.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import orjson
from msgspec import Struct

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object
from sampan.api.resources import resource as find_resource

Convert = Callable[[Object], Object]


class View(Struct, frozen=True):
    """How a version that is not stored relates to the one that is."""

    group: str
    version: str
    """Of the hub; the plural is the same."""
    from_hub: Convert
    to_hub: Convert
    prepare: Callable[[Callable[[], list[Object]]], Awaitable[None]] | None = None
    """Where `from_hub` takes a call out of the server, this must have been awaited for the
    objects it will get."""
    glance: Convert | None = None
    """What selectors look at, where `from_hub` needs preparation."""


def view_of(resource: Descriptor) -> View | None:
    """The view that `resource` is, None when it is stored as it is."""
    if resource.custom is not None:
        view: View | None = resource.custom.codec.view
        return view
    return VIEWS.get((resource.group, resource.version, resource.plural))


def glance_of(resource: Descriptor) -> Convert | None:
    """What shows stored objects of a custom resource in the version of `resource`, at once; None
    where they are stored so."""
    view = view_of(resource) if resource.custom is not None else None
    return None if view is None else view.glance or view.from_hub


def written_as(resource: Descriptor) -> View | None:
    """The view by whose hub a write of `resource` goes. None for custom resources too: each of
    their versions has rules of its own, and only bytes are converted (`custom.codec`)."""
    return None if resource.custom is not None else view_of(resource)


def hub_of(resource: Descriptor, view: View | None) -> Descriptor:
    """The descriptor that is stored."""
    if view is None:
        return resource
    return find_resource(resource.plural, view.group, view.version)


# Events: the same information under other names.

_EVENT_NAMES = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_CORE_NAMES = {new: old for old, new in _EVENT_NAMES.items()}


def _renamed(obj: Object, names: Mapping[str, str], api_version: str) -> Object:
    out = {names.get(name, name): value for name, value in obj.items()}
    out["apiVersion"] = api_version
    return out


def event_from_core(obj: Object) -> Object:
    return _renamed(obj, _EVENT_NAMES, "events.k8s.io/v1")


def event_to_core(obj: Object) -> Object:
    out = _renamed(obj, _CORE_NAMES, "v1")
    # Core events must name their object; the newer form calls it regarding and may leave it out.
    out.setdefault("involvedObject", {})
    return out


# HorizontalPodAutoscalers.

_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
_BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"
_CURRENT = "autoscaling.alpha.kubernetes.io/current-metrics"
_CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
_KEPT = (_METRICS, _BEHAVIOR, _CURRENT, _CONDITIONS)


def autoscaler_from_v2(obj: Object) -> Object:
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    notes = dict(obj["metadata"].get("annotations") or {})
    metrics = spec.pop("metrics", [])
    cpu, others = _split_cpu(metrics, "target")
    if cpu is not None:
        spec["targetCPUUtilizationPercentage"] = cpu
    current, other_current = _split_cpu(status.pop("currentMetrics", None) or [], "current")
    if current is not None:
        status["currentCPUUtilizationPercentage"] = current
    for name, value in (
        (_METRICS, others),
        (_BEHAVIOR, spec.pop("behavior", None)),
        (_CURRENT, other_current),
        (_CONDITIONS, status.pop("conditions", None)),
    ):
        if value:
            notes[name] = orjson.dumps(value).decode()
    return _assembled(obj, "autoscaling/v1", spec, status, notes)


def autoscaler_to_v2(obj: Object) -> Object:
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    notes = dict(obj["metadata"].get("annotations") or {})
    kept = {name: _parsed(notes.pop(name, None)) for name in _KEPT}
    metrics = list(kept[_METRICS] or [])
    cpu = spec.pop("targetCPUUtilizationPercentage", None)
    if cpu is not None:
        target = {"type": "Utilization", "averageUtilization": cpu}
        metrics.insert(0, {"type": "Resource", "resource": {"name": "cpu", "target": target}})
    if metrics:
        spec["metrics"] = metrics
    if kept[_BEHAVIOR]:
        spec["behavior"] = kept[_BEHAVIOR]
    current = list(kept[_CURRENT] or [])
    used = status.pop("currentCPUUtilizationPercentage", None)
    if used is not None:
        value = {"averageUtilization": used}
        current.insert(0, {"type": "Resource", "resource": {"name": "cpu", "current": value}})
    if current:
        status["currentMetrics"] = current
    if kept[_CONDITIONS]:
        status["conditions"] = kept[_CONDITIONS]
    return _assembled(obj, "autoscaling/v2", spec, status, notes)


def _split_cpu(metrics: list[Object], field: str) -> tuple[int | None, list[Object]]:
    """The utilisation of the first plain CPU metric, and the metrics v1 has no field for."""
    cpu, others = None, []
    for metric in metrics:
        inner = metric.get("resource") or {}
        used = (inner.get(field) or {}).get("averageUtilization")
        if cpu is None and inner.get("name") == "cpu" and used is not None:
            cpu = used
        else:
            others.append(metric)
    return cpu, others


def _parsed(text: str | None) -> list[Object] | None:
    if not text:
        return None
    try:
        value: list[Object] = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value


def _assembled(obj: Object, version: str, spec: Object, status: Object, notes: Object) -> Object:
    metadata = {name: value for name, value in obj["metadata"].items() if name != "annotations"}
    if notes:
        metadata["annotations"] = notes
    out = {"kind": obj["kind"], "apiVersion": version, "metadata": metadata, "spec": spec}
    if status or "status" in obj:
        out["status"] = status
    return out


VIEWS: Mapping[tuple[str, str, str], View] = {
    ("events.k8s.io", "v1", "events"): View("", "v1", event_from_core, event_to_core),
    ("autoscaling", "v1", "horizontalpodautoscalers"): View(
        "autoscaling", "v2", autoscaler_from_v2, autoscaler_to_v2
    ),
}
