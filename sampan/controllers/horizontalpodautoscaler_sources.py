"""What each kind of metric proposes: replicas, the metric's name in messages, and its status.

One function per source type (`SOURCES`); each reads by the `MetricsReader` and counts by the pure
functions of `horizontalpodautoscaler_replicas`. Texts are upstream's, oddities included.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from msgspec import Struct

from sampan.api.errors import Object
from sampan.api.selectors import Selector
from sampan.wire.quantity import milli, milli_text

from .horizontalpodautoscaler_metrics import MetricsError, MetricsReader
from .horizontalpodautoscaler_replicas import (
    Count,
    Scaled,
    by_average,
    by_share,
    by_utilization,
    by_value,
)
from .runtime.selection import selector_text

UNKNOWN = "InvalidMetricSourceType"


class Target(Struct, frozen=True):
    """What is scaled, and by what it is measured."""

    namespace: str
    selector: Selector
    scaled: Scaled
    reader: MetricsReader


class Proposal(NamedTuple):
    """What a metric asks for."""

    replicas: int
    metric: str
    status: Object


class SourceError(Exception):
    """A metric says nothing. Its text is that of the whole sync's error."""

    def __init__(self, reason: str, why: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        """Of the event and the condition."""
        self.why = why
        """What they say."""


Source = Callable[[Target, Object], Awaitable[Proposal]]


async def _resource(target: Target, source: Object) -> Proposal:
    name = source["name"]
    try:
        count, words = await _of_resource(target, source)
    except MetricsError as error:
        text = f"failed to get {name} resource metric value: {error}"
        raise SourceError("FailedGetResourceMetric", str(error), text) from None
    status = {"name": name, "current": _current(count, "averageValue")}
    return Proposal(count.replicas, words, {"type": "Resource", "resource": status})


async def _container(target: Target, source: Object) -> Proposal:
    name, container = source["name"], source["container"]
    try:
        count, words = await _of_resource(target, source)
    except MetricsError as error:
        text = f"failed to get {container} container metric value: {error}"
        raise SourceError("FailedGetContainerResourceMetric", str(error), text) from None
    current = _current(count, "averageValue")
    status = {"name": name, "container": container, "current": current}
    proposed = {"type": "ContainerResource", "containerResource": status}
    return Proposal(count.replicas, words, proposed)


async def _of_resource(target: Target, source: Object) -> tuple[Count, str]:
    """Raises MetricsError."""
    name, wanted, container = source["name"], source["target"], source.get("container") or ""
    average, percent = wanted.get("averageValue"), wanted.get("averageUtilization")
    if average is None and percent is None:
        raise MetricsError(
            "invalid resource metric source: neither an average utilization target nor an average "
            "value (usage) target was set"
        )
    kind = "utilization" if average is None else "usage"
    try:
        samples = await target.reader.resource(target.namespace, target.selector, name, container)
    except MetricsError as error:
        raise MetricsError(
            f"failed to get {name} {kind}: unable to get metrics for resource {name}: {error}"
        ) from None
    try:
        if average is not None:
            return by_average(target.scaled, samples, milli(average), name), f"{name} resource"
        count = by_utilization(target.scaled, samples, percent, name, container)
    except MetricsError as error:
        raise MetricsError(f"failed to get {name} {kind}: {error}") from None
    part = "container resource" if container else "resource"
    return count, f"{name} {part} utilization (percentage of request)"


async def _pods(target: Target, source: Object) -> Proposal:
    metric = source["metric"]
    name, wanted = metric["name"], milli(source["target"]["averageValue"])
    try:
        try:
            samples = await target.reader.pods(
                target.namespace, target.selector, name, metric.get("selector")
            )
        except MetricsError as error:
            raise MetricsError(f"unable to get metric {name}: {error}") from None
        count = by_average(target.scaled, samples, wanted)
    except MetricsError as error:
        text = f"failed to get pods metric value: {error}"
        raise SourceError("FailedGetPodsMetric", str(error), text) from None
    status = {"metric": metric, "current": _current(count, "averageValue")}
    return Proposal(count.replicas, f"pods metric {name}", {"type": "Pods", "pods": status})


async def _object(target: Target, source: Object) -> Proposal:
    metric, wanted, described = source["metric"], source["target"], source["describedObject"]
    name, reason, outer = metric["name"], "FailedGetObjectMetric", "failed to get object metric"
    shared = wanted.get("type") == "AverageValue"
    if not shared and wanted.get("type") != "Value":
        why = "invalid object metric source: neither a value target nor an average value target was"
        raise SourceError(reason, f"{why} set", f"{outer} value: {why} set")
    try:
        try:
            value = await target.reader.object(
                target.namespace, described, name, metric.get("selector")
            )
        except MetricsError as error:
            # The order of upstream's words.
            raise MetricsError(
                f"unable to get metric {name}: {described['kind']} on {target.namespace} "
                f"{described['name']}/{error}"
            ) from None
        if not shared:
            count = by_value(target.scaled, value, milli(wanted["value"]))
    except MetricsError as error:
        inner = f"failed to get {name} object metric: {error}" if shared else str(error)
        raise SourceError(reason, str(error), f"{outer} value: {inner}") from None
    if shared:
        count = by_share(target.scaled, value, milli(wanted["averageValue"]))
        status: Object = {"metric": metric, "current": _current(count, "averageValue")}
        words = f"external metric {name}({selector_text(metric.get('selector'))})"
    else:
        status = {"metric": metric, "current": _current(count, "value")}
        words = f"{described['kind']} metric {name}"
    status["describedObject"] = described
    return Proposal(count.replicas, words, {"type": "Object", "object": status})


async def _external(target: Target, source: Object) -> Proposal:
    metric, wanted = source["metric"], source["target"]
    name, reason = metric["name"], "FailedGetExternalMetric"
    outer = f"failed to get {name} external metric value"
    selector = metric.get("selector")
    average, whole = wanted.get("averageValue"), wanted.get("value")
    if average is None and whole is None:
        why = (
            "invalid external metric source: neither a value target nor an average value target "
            "was set"
        )
        raise SourceError(reason, why, f"{outer}: {why}")
    try:
        try:
            value = sum(await target.reader.external(target.namespace, name, selector))
        except MetricsError as error:
            raise MetricsError(
                f"unable to get external metric {target.namespace}/{name}/"
                f"{selector_text(selector)}: {error}"
            ) from None
        if average is not None:
            count = by_share(target.scaled, value, milli(average))
        else:
            count = by_value(target.scaled, value, milli(whole))
    except MetricsError as error:
        kind = (
            f"failed to get {name} external metric"
            if average is not None
            else f"failed to get external metric {name}"
        )
        raise SourceError(reason, str(error), f"{outer}: {kind}: {error}") from None
    current = _current(count, "averageValue" if average is not None else "value")
    status = {"metric": metric, "current": current}
    words = f"external metric {name}({selector_text(selector)})"
    return Proposal(count.replicas, words, {"type": "External", "external": status})


def _current(count: Count, field: str) -> Object:
    current: Object = {field: milli_text(count.milli)}
    if count.percent is not None:
        current["averageUtilization"] = count.percent
    return current


SOURCES: Mapping[str, tuple[str, Source]] = {
    "Resource": ("resource", _resource),
    "ContainerResource": ("containerResource", _container),
    "Pods": ("pods", _pods),
    "Object": ("object", _object),
    "External": ("external", _external),
}
"""By type: the field of the metric's spec, and who asks."""


async def propose(target: Target, metric: Object) -> Proposal:
    """What one metric of the spec asks for. Raises SourceError."""
    found = SOURCES.get(metric.get("type") or "")
    if found is None:
        why = f'unknown metric source type "{metric.get("type") or ""}"'
        raise SourceError(UNKNOWN, why, why)
    field, ask = found
    return await ask(target, metric.get(field) or {})
