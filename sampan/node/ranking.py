"""Which pods go first when a node is short of something, and what they are told. Pure.

pkg/kubelet/eviction/helpers.go: pods that use more than they asked for come first, then those of
lesser priority, then those that exceed what they asked for by the most; processes are not asked
for, so only priority and number count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from sampan.api.errors import Object
from sampan.wire.quantity import BINARY, whole, whole_text

from .allocation import demands
from .thresholds import (
    DISK_SHORT,
    MEMORY_SHORT,
    PIDS_SHORT,
    SIGNALS,
    Observations,
    Threshold,
    crossing_text,
)


class Consumer(Struct, frozen=True):
    """A pod and how much it uses of the one resource that is short."""

    pod: Object
    used: int
    containers: Mapping[str, int] = field(default_factory=dict)
    """By container, where upstream tells of it (memory and disk)."""


def requested(pod: Object, resource: str) -> int:
    """The pod's request, of what can be asked for."""
    return demands(pod["spec"]).get(resource, 0) if resource in (MEMORY_SHORT, DISK_SHORT) else 0


def rank(consumers: Iterable[Consumer], resource: str) -> list[Consumer]:
    """The first is to be evicted first."""

    def order(item: Consumer) -> tuple[Any, ...]:
        asked = requested(item.pod, resource)
        # Upstream's order among pods that differ in nothing is that of its map: ours is by name.
        meta = item.pod["metadata"]
        name = (meta.get("namespace", ""), meta["name"])
        priority = int(item.pod["spec"].get("priority") or 0)
        if resource == PIDS_SHORT:
            return (priority, -item.used, name)
        return (item.used <= asked, priority, asked - item.used, name)

    return sorted(consumers, key=order)


def message(
    victim: Consumer, threshold: Threshold, met: Sequence[Threshold], seen: Observations
) -> tuple[str, dict[str, str]]:
    """(the pod's message, the event's annotations)."""
    resource = SIGNALS[threshold.signal].resource
    text = f"The node was low on resource: {resource}. "
    told = next((item for item in met if SIGNALS[item.signal].resource == resource), None)
    if told is not None and told.signal in seen:
        text += crossing_text(told, seen[told.signal])
    notes: dict[str, str] = {}
    own = ((victim.pod["spec"].get("resources") or {}).get("requests") or {}).get(resource)
    if resource == MEMORY_SHORT and own is not None:
        name, used = victim.pod["metadata"]["name"], whole_text(victim.used)
        text += f"Pod {name} was using {used}, request is {own}, has larger consumption of memory. "
        notes |= {"offending_pod": name, "offending_pod_usage": used}
    names, amounts = [], []
    for name, used_bytes, asked in _greedy(victim, resource):
        shown = whole_text(used_bytes, BINARY)
        text += (
            f"Container {name} was using {shown}, request is {asked}, "
            f"has larger consumption of {resource}. "
        )
        names.append(name)
        amounts.append(shown)
    notes["offending_containers"] = ",".join(names)
    notes["offending_containers_usage"] = ",".join(amounts)
    notes["starved_resource"] = resource
    return text, notes


def _greedy(victim: Consumer, resource: str) -> Iterable[tuple[str, int, str]]:
    """(container, its use, its request as text) of those that use more than they asked for."""
    spec = victim.pod["spec"]
    for container in (*spec["containers"], *(spec.get("initContainers") or ())):
        used = victim.containers.get(container["name"])
        if used is None:
            continue
        asked = ((container.get("resources") or {}).get("requests") or {}).get(resource)
        if used > (whole(asked) if asked is not None else 0):
            yield container["name"], used, str(asked) if asked is not None else "0"
