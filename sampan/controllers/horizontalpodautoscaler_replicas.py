"""How many replicas a metric asks for, pure (upstream's replica_calculator).

Pods without metrics count as if they held the change back: as using what is wanted when the others
ask for fewer, as idle when they ask for more. CPU of pods that are starting is not believed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from sampan.api.errors import Object
from sampan.api.times import parse_time
from sampan.wire.quantity import milli

from .horizontalpodautoscaler_metrics import MetricsError, Sample, Samples
from .runtime import pods as podlib

# Upstream's --horizontal-pod-autoscaler-cpu-initialization-period, -initial-readiness-delay and
# -tolerance.
CPU_START_S, READY_DELAY_S, TOLERANCE = 300.0, 30.0, 0.1


class Tolerance(NamedTuple):
    """How far a ratio may be off before anything is done (KEP-4951)."""

    down: float = TOLERANCE
    up: float = TOLERANCE

    def covers(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


class Count(NamedTuple):
    """Replicas, and the values they were counted by."""

    replicas: int
    milli: int
    """Average of a pod, or the whole value."""
    percent: int | None = None
    """Of what pods request."""


class Groups(NamedTuple):
    """Pods by what is known of them."""

    ready: int
    ignored: set[str]
    """Starting, or not ready: their figures are not taken."""
    missing: set[str]
    """Without figures."""


class Scaled(Struct, frozen=True):
    """The target of an autoscaler at this moment."""

    replicas: int
    """Those asked for."""
    running: int
    """Those its status tells of."""
    pods: Sequence[Object]
    tolerance: Tolerance
    now_s: float


def by_utilization(
    target: Scaled, samples: Samples, percent: int, resource: str, container: str = ""
) -> Count:
    """By the share of requested resources in use. Raises MetricsError."""
    if not target.pods:
        raise MetricsError("no pods returned by selector while calculating replica count")
    groups = grouped(target, samples, resource)
    requests = requested(target.pods, resource, container)
    known = {name: item for name, item in samples.items() if name not in groups.ignored}
    if not known:
        raise MetricsError("did not receive metrics for targeted pods (pods might be unready)")
    ratio, used, average = _share(known, requests, percent)
    count = Count(target.replicas, average, used)
    rebalance = bool(groups.ignored) and ratio > 1.0
    if not rebalance and not groups.missing:
        if target.tolerance.covers(ratio):
            return count
        return count._replace(replicas=math.ceil(ratio * groups.ready))
    if ratio < 1.0:
        held = max(100, percent)
        known |= {name: _sample(requests[name] * held // 100) for name in groups.missing}
    elif ratio > 1.0:
        known |= {name: _sample(0) for name in groups.missing}
    if rebalance:
        known |= {name: _sample(0) for name in groups.ignored}
    again, _, _ = _share(known, requests, percent)
    return count._replace(replicas=_settled(target, ratio, again, len(known)))


def by_average(target: Scaled, samples: Samples, wanted: int, resource: str = "") -> Count:
    """By a value per pod. Raises MetricsError."""
    if not target.pods:
        raise MetricsError("no pods returned by selector while calculating replica count")
    groups = grouped(target, samples, resource)
    known = {name: item for name, item in samples.items() if name not in groups.ignored}
    if not known:
        raise MetricsError("did not receive metrics for targeted pods (pods might be unready)")
    average = _average(known)
    ratio = average / wanted
    count = Count(target.replicas, average)
    rebalance = bool(groups.ignored) and ratio > 1.0
    if not rebalance and not groups.missing:
        if target.tolerance.covers(ratio):
            return count
        return count._replace(replicas=math.ceil(ratio * groups.ready))
    filled = wanted if ratio < 1.0 else 0
    known |= {name: _sample(filled) for name in groups.missing}
    if rebalance:
        known |= {name: _sample(0) for name in groups.ignored}
    again = _average(known) / wanted
    return count._replace(replicas=_settled(target, ratio, again, len(known)))


def by_value(target: Scaled, value: int, wanted: int) -> Count:
    """By one value of the whole, which each ready pod has its share of. From no replicas at all,
    as many as the value is worth. Raises MetricsError."""
    ratio = value / wanted
    if not target.replicas:
        return Count(math.ceil(ratio), value)
    if target.tolerance.covers(ratio):
        return Count(target.replicas, value)
    if not target.pods:
        raise MetricsError(
            "unable to calculate ready pods: no pods returned by selector while calculating "
            "replica count"
        )
    ready = sum(podlib.phase(pod) == "Running" and podlib.is_ready(pod) for pod in target.pods)
    return Count(math.ceil(ratio * ready), value)


def by_share(target: Scaled, value: int, wanted: int) -> Count:
    """By one value of the whole, divided among the replicas there are."""
    replicas = target.running
    if not replicas or not target.tolerance.covers(value / (wanted * replicas)):
        replicas = math.ceil(value / wanted)
    return Count(replicas, math.ceil(value / target.running) if target.running else value)


def _settled(target: Scaled, before: float, after: float, pods: int) -> int:
    """What the ratio with all pods asks for, unless it is another direction than the first one."""
    if target.tolerance.covers(after) or (before < 1.0 < after) or (after < 1.0 < before):
        return target.replicas
    wanted = math.ceil(after * pods)
    if (after < 1.0 and wanted > target.replicas) or (after > 1.0 and wanted < target.replicas):
        return target.replicas
    return wanted


def _sample(amount: int) -> Sample:
    return Sample(amount, 0.0, 0.0)


def _average(samples: Mapping[str, Sample]) -> int:
    return sum(item.milli for item in samples.values()) // len(samples)


def _share(
    samples: Mapping[str, Sample], requests: Mapping[str, int], percent: int
) -> tuple[float, int, int]:
    """Ratio to the wanted percentage, the percentage there is, and the average use."""
    used = sum(item.milli for name, item in samples.items() if name in requests)
    asked = sum(requests[name] for name in samples if name in requests)
    if not asked:
        raise MetricsError("no metrics returned matched known pods")
    current = used * 100 // asked
    return current / percent, current, used // len(samples)


def requested(pods: Sequence[Object], resource: str, container: str) -> dict[str, int]:
    """What each pod requests, or one container of it. Raises MetricsError for one that does not."""
    out = {}
    for pod in pods:
        spec, name = pod["spec"], pod["metadata"]["name"]
        whole = ((spec.get("resources") or {}).get("requests") or {}).get(resource)
        if whole is not None and not container:
            # Resources of the pod as a whole come before those of its containers (KEP-2837).
            out[name] = milli(whole)
            continue
        sidecars = [
            item for item in spec.get("initContainers") or () if _runs_beside(item, container)
        ]
        total = 0
        for item in [*spec["containers"], *sidecars]:
            if container and item["name"] != container:
                continue
            asked = ((item.get("resources") or {}).get("requests") or {}).get(resource)
            if asked is None:
                raise MetricsError(
                    f"missing request for {resource} in container {item['name']} of Pod {name}"
                )
            total += milli(asked)
        out[name] = total
    return out


def _runs_beside(item: Object, container: str) -> bool:
    """Is the init container a sidecar (KEP-753)?"""
    return item.get("restartPolicy") == "Always" and container in ("", item["name"])


def grouped(target: Scaled, samples: Mapping[str, Sample], resource: str) -> Groups:
    ready, ignored, missing = 0, set(), set()
    for pod in target.pods:
        name = pod["metadata"]["name"]
        if podlib.is_terminating(pod) or podlib.phase(pod) == "Failed":
            continue
        if podlib.phase(pod) == "Pending":
            ignored.add(name)
        elif name not in samples:
            missing.add(name)
        elif resource == "cpu" and _is_starting(pod, samples[name], target.now_s):
            ignored.add(name)
        else:
            ready += 1
    return Groups(ready, ignored, missing)


def _is_starting(pod: Object, sample: Sample, now_s: float) -> bool:
    """Is the CPU it used that of its start?"""
    found, started = podlib.ready_condition(pod), pod["status"].get("startTime")
    if found is None or not started or not found.get("lastTransitionTime"):
        return True
    unready, since_s = found.get("status") == "False", parse_time(found["lastTransitionTime"])
    if parse_time(started) + CPU_START_S > now_s:
        # Not ready, or measured in part before it was.
        return unready or sample.since_s < since_s + sample.window_s
    return unready and parse_time(started) + READY_DELAY_S > since_s
