"""What a pod asks of a node, read once from the pod. Pure.

`Demand` is what filters and scores look at; `shape` names everything in it that matters to them, so
that pods made from one template share one shape and are scheduled together (`shapes.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from sampan.api.errors import Object
from sampan.wire import quantity

# What a container that requests nothing counts as in scores (never in filters): upstream's
# DefaultMilliCPURequest and DefaultMemoryRequest.
SCORED_MILLI_CPU = 100
SCORED_MEMORY_BYTES = 200 * 1024 * 1024

Port = tuple[str, str, int]
"""(host IP, protocol, host port)."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Amounts are milli-CPU for "cpu" and whole units for every other resource."""

    requests: Mapping[str, int]
    scored_cpu: int
    scored_memory: int
    ports: Sequence[Port]
    tolerations: Sequence[Object]
    node_selector: Mapping[str, str]
    affinity: Object
    """spec.affinity.nodeAffinity, {} when absent."""
    shape: bytes


def demand_of(pod: Object) -> Demand:
    """Read a pod's demand. spec.nodeName is no part of it: such a pod is placed already."""
    spec = pod["spec"]
    containers = spec.get("containers") or ()
    requests = requests_of(spec)
    cpu = memory = 0
    for container in containers:
        asked = (container.get("resources") or {}).get("requests") or {}
        cpu += quantity.milli(asked["cpu"]) if "cpu" in asked else SCORED_MILLI_CPU
        memory += quantity.whole(asked["memory"]) if "memory" in asked else SCORED_MEMORY_BYTES
    ports = ports_of(containers)
    tolerations = spec.get("tolerations") or ()
    selector = spec.get("nodeSelector") or {}
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    shape = orjson.dumps(
        [requests, cpu, memory, ports, tolerations, selector, affinity],
        option=orjson.OPT_SORT_KEYS,
    )
    # The encoder's result keeps its whole buffer (4 KB); the shape lives as long as the pod.
    shape = bytes(memoryview(shape))
    return Demand(requests, cpu, memory, ports, tolerations, selector, affinity, shape)


def requests_of(spec: Object) -> dict[str, int]:
    """Effective requests: the sum of the containers and restartable init containers, or the
    largest init container on top of the sidecars started before it, whichever is more; plus the
    overhead. Pod-level requests win where they are set."""
    total: dict[str, int] = {}
    for container in spec.get("containers") or ():
        _add(total, _requests(container))
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in spec.get("initContainers") or ():
        asked = _requests(container)
        if container.get("restartPolicy") == "Always":
            _add(sidecars, asked)
            asked = dict(sidecars)
        else:
            asked = {key: asked.get(key, 0) + sidecars.get(key, 0) for key in asked | sidecars}
        for key, amount in asked.items():
            peak[key] = max(peak.get(key, 0), amount)
    _add(total, sidecars)
    for key, amount in peak.items():
        total[key] = max(total.get(key, 0), amount)
    total.update(_amounts((spec.get("resources") or {}).get("requests") or {}))
    _add(total, _amounts(spec.get("overhead") or {}))
    return {key: amount for key, amount in total.items() if amount}


def _requests(container: Object) -> dict[str, int]:
    return _amounts((container.get("resources") or {}).get("requests") or {})


def _amounts(values: Mapping[str, Any]) -> dict[str, int]:
    return {key: amount_of(key, value) for key, value in values.items()}


def amount_of(resource: str, value: Any) -> int:
    return quantity.milli(value) if resource == "cpu" else quantity.whole(value)


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for key, amount in more.items():
        total[key] = total.get(key, 0) + amount


def ports_of(containers: Sequence[Object]) -> list[Port]:
    return [
        (port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", port["hostPort"])
        for container in containers
        for port in container.get("ports") or ()
        if port.get("hostPort")
    ]
