"""What a pod asks of a node, read once from the pod. Pure.

`Demand` is what filters and scores look at; `shape` names everything in it that matters to them, so
that pods made from one template share one shape and are scheduled together (`shapes.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson

from sampan.api.errors import Object
from sampan.wire import quantity

# What a container that requests nothing counts as in scores (never in filters): upstream's
# DefaultMilliCPURequest and DefaultMemoryRequest.
SCORED_MILLI_CPU = 100
SCORED_MEMORY_BYTES = 200 * 1024 * 1024

PARSED = 1024
"""Distinct demands remembered: pods of one template are read once and share one object."""

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
    images: Sequence[str]
    """By container, as status.images of a node names them."""
    shape: bytes
    pod: Object = field(default_factory=dict, compare=False)
    """One pod of the shape, where a profile has plugins of the user's; else {}."""


def demand_of(pod: Object) -> Demand:
    """Read a pod's demand; equal texts give one and the same object. spec.nodeName is no part of
    it: such a pod is placed already."""
    spec = pod["spec"]
    text = [
        [_read(item) for item in spec.get("containers") or ()],
        [_read(item) for item in spec.get("initContainers") or ()],
        spec.get("resources"),
        spec.get("overhead"),
        spec.get("tolerations") or (),
        spec.get("nodeSelector") or {},
        (spec.get("affinity") or {}).get("nodeAffinity") or {},
    ]
    return _parse(orjson.dumps(text, option=orjson.OPT_SORT_KEYS))


def _read(container: Object) -> list[Any]:
    """What counts of a container."""
    ports = container.get("ports") or ()
    return [
        (container.get("resources") or {}).get("requests"),
        [port for port in ports if port.get("hostPort")] if ports else (),
        container.get("image"),
        container.get("restartPolicy"),
    ]


@lru_cache(maxsize=PARSED)
def _parse(text: bytes) -> Demand:
    started, prepared, resources, overhead, tolerations, selector, affinity = orjson.loads(text)
    containers, init_containers = (
        [
            {"resources": {"requests": item[0]}, "ports": item[1], "restartPolicy": item[3]}
            for item in items
        ]
        for items in (started, prepared)
    )
    spec = {
        "containers": containers,
        "initContainers": init_containers,
        "resources": resources,
        "overhead": overhead,
    }
    cpu = memory = 0
    for container in containers:
        asked = container["resources"]["requests"] or {}
        cpu += quantity.milli(asked["cpu"]) if "cpu" in asked else SCORED_MILLI_CPU
        memory += quantity.whole(asked["memory"]) if "memory" in asked else SCORED_MEMORY_BYTES
    sidecars = [item for item in init_containers if item["restartPolicy"] == "Always"]
    images = [image_name(item[2]) for item in (*started, *prepared) if item[2]]
    # The encoder's result keeps its whole buffer (4 KB); the shape lives as long as the pod.
    return Demand(
        requests_of(spec),
        cpu,
        memory,
        ports_of([*containers, *sidecars]),
        tolerations,
        selector,
        affinity,
        images,
        bytes(memoryview(text)),
    )


def image_name(name: str) -> str:
    """With its tag, as nodes name it."""
    return name if ":" in name.rpartition("/")[2] else name + ":latest"


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
