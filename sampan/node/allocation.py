"""What the node has promised its pods: cpu and memory, per container and all together (KEP-1287).

A pod's first promise is its spec. A later wish (pods/resize) becomes the promise when it fits
beside those of the other pods; else it is Deferred until something is given back, or Infeasible.
Nothing polls: whatever gives back lets the waiting try again, in upstream's order. Bounds: one
entry and at most one waiter per pod of the node.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct, field

from sampan.api.errors import Object
from sampan.api.kinds.core.podspec.quality import BURSTABLE, qos_class
from sampan.api.kinds.core.podspec.resources import total_requests
from sampan.wire.quantity import QuantityError, milli, parse, whole

DEFERRED, INFEASIBLE = "Deferred", "Infeasible"
KINDS = ("requests", "limits")
RESIZABLE = ("cpu", "memory")
WHOLE_POD = ""
"""Stands among the containers' names for the pod's own resources (KEP-2837, KEP-5419)."""

Resources = Mapping[str, Any]
"""A container's `resources`."""


class NotEnough(Exception):
    """No container may have so many processors of its own now."""


class Demand(Struct, frozen=True):
    """What a pod's containers request together."""

    cpu_milli: int = 0
    memory_bytes: int = 0
    burstable: bool = False
    """Of that class of quality, whose pods share processors by what they ask for."""


NOTHING = Demand()


class Waiter(Struct, frozen=True):
    """A pod whose wish is deferred. The smallest `order` tries first."""

    order: tuple[Any, ...]
    retry: Callable[[], None]


def demands(spec: Mapping[str, Any]) -> dict[str, int]:
    """A pod's requests with its overhead, as the scheduler counts them, CPU in thousandths: its
    own stand before the sum of its containers'."""
    own = (spec.get("resources") or {}).get("requests") or {}
    asked = total_requests(dict(spec)) | own
    over = spec.get("overhead") or {}
    out = {}
    for name in (*asked, *(over.keys() - asked.keys())):
        measure = milli if name == "cpu" else whole
        out[name] = sum(measure(part[name]) for part in (asked, over) if name in part)
    return out


def demand_of(spec: Mapping[str, Any]) -> Demand:
    """Of what the ledger keeps."""
    found = demands(spec)
    burstable = qos_class(spec) == BURSTABLE
    return Demand(found.get("cpu", 0), found.get("memory", 0), burstable)


class Ledger(Struct):
    """All promises of one node."""

    allocatable: Mapping[str, str]
    _held: dict[str, Demand] = field(default_factory=dict)
    _waiting: dict[str, Waiter] = field(default_factory=dict)
    _cpu: int = 0
    _memory: int = 0
    burstable: int = 0
    """Thousandths of a processor that Burstable pods ask for together."""

    def hold(self, uid: str, demand: Demand) -> None:
        """Promise a pod this much instead of what it had."""
        before = self._set(uid, demand)
        if demand.cpu_milli < before.cpu_milli or demand.memory_bytes < before.memory_bytes:
            self._retry()

    def release(self, uid: str) -> None:
        """The pod runs no more."""
        self._waiting.pop(uid, None)
        if self._set(uid, NOTHING) != NOTHING:
            self._retry()
        self._held.pop(uid, None)

    def wait(self, uid: str, waiter: Waiter) -> None:
        """Have `retry` called whenever something was given back."""
        self._waiting[uid] = waiter

    def stop_waiting(self, uid: str) -> None:
        self._waiting.pop(uid, None)

    def refusal(self, uid: str, wanted: Demand) -> tuple[str, str] | None:
        """Reason and message when the pod cannot have that much (now); None when it can.

        What a pod does not ask more of than it has is not refused.
        """
        has = self._held.get(uid, NOTHING)
        memory = whole(self.allocatable.get("memory", "0"))
        cpu = milli(self.allocatable.get("cpu", "0"))
        asked = (
            ("memory", wanted.memory_bytes, has.memory_bytes, self._memory, memory),
            ("cpu", wanted.cpu_milli, has.cpu_milli, self._cpu, cpu),
        )
        grown = [item for item in asked if item[1] > item[2]]
        for name, amount, _, _, capacity in grown:
            if amount > capacity:
                text = f"{name}, requested: {amount}, capacity: {capacity}"
                return INFEASIBLE, f"Node didn't have enough capacity: {text}"
        for name, amount, own, total, capacity in reversed(grown):
            used = total - own
            if amount > capacity - used:
                text = f"{name}, requested: {amount}, used: {used}, capacity: {capacity}"
                return DEFERRED, f"Node didn't have enough resource: {text}"
        return None

    def used(self, name: str) -> int:
        """How much cpu (in thousandths) or memory is promised in all."""
        return self._cpu if name == "cpu" else self._memory

    def _set(self, uid: str, demand: Demand) -> Demand:
        before = self._held.get(uid, NOTHING)
        self._held[uid] = demand
        self._cpu += demand.cpu_milli - before.cpu_milli
        self._memory += demand.memory_bytes - before.memory_bytes
        self.burstable += demand.burstable * demand.cpu_milli - before.burstable * before.cpu_milli
        return before

    def _retry(self) -> None:
        for waiter in sorted(self._waiting.values(), key=lambda item: item.order):
            waiter.retry()


def resizable(spec: Mapping[str, Any]) -> dict[str, Resources]:
    """The resources that pods/resize may change: of containers by name, and of `WHOLE_POD`."""
    every = (*(spec.get("initContainers") or ()), *spec["containers"])
    out = {item["name"]: item.get("resources") or {} for item in every}
    if spec.get("resources"):
        out[WHOLE_POD] = spec["resources"]
    return out


def changed_resources(new: Resources, old: Resources) -> list[str]:
    """Which of cpu and memory differ, in limit or request."""
    return [
        name
        for name in RESIZABLE
        if any(_amount(new, kind, name) != _amount(old, kind, name) for kind in KINDS)
    ]


def _amount(resources: Resources, kind: str, name: str) -> int | None:
    text = (resources.get(kind) or {}).get(name)
    if text is None:
        return None
    try:
        return parse(text).nanos
    except QuantityError:
        return None


def allocated_pod(pod: Object, allocated: Mapping[str, Resources]) -> Object:
    """The pod as it was promised: itself, when that is what it asks for."""
    wanted = resizable(pod["spec"])
    other = {
        name: given
        for name, given in allocated.items()
        if name in wanted and changed_resources(wanted[name], given)
    }
    if not other:
        return pod
    spec = dict(pod["spec"])
    if WHOLE_POD in other:
        spec["resources"] = other[WHOLE_POD]
    for part in ("containers", "initContainers"):
        if spec.get(part):
            spec[part] = [
                {**item, "resources": other[item["name"]]} if item["name"] in other else item
                for item in spec[part]
            ]
    return {**pod, "spec": spec}


def needs_restart(container: Mapping[str, Any], changed: list[str]) -> bool:
    """Whether the container's resizePolicy wants a restart for one of the changed resources."""
    return any(
        item.get("restartPolicy") == "RestartContainer" and item.get("resourceName") in changed
        for item in container.get("resizePolicy") or ()
    )


def resize_message(prefix: str, pod: Object, generation: int, error: str = "") -> str:
    """An event's text: what is wanted as JSON, as upstream's autoscalers read it."""
    spec = pod["spec"]
    summary: dict[str, Any] = {}
    for part in ("initContainers", "containers"):
        if spec.get(part):
            summary[part] = [
                {"name": item["name"], "resources": _in_order(item.get("resources") or {})}
                for item in spec[part]
            ]
    summary["generation"] = generation
    if error:
        summary["error"] = error
    return f"{prefix}: {json.dumps(summary, separators=(',', ':'), ensure_ascii=False)}"


def _in_order(resources: Resources) -> dict[str, Any]:
    return {
        kind: dict(sorted(resources[kind].items()))
        for kind in ("limits", "requests")
        if resources.get(kind)
    }
