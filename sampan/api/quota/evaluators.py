"""How each resource counts. One evaluator per resource; those without rules of their own count as
objects, under `count/<plural>.<group>`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from msgspec import Struct

from ..errors import Object
from . import pods
from .amounts import Amounts, count, largest, read
from .scopes import Requirement, requirements_of

CLASS_SUFFIX = ".storageclass.storage.k8s.io/"
DEVICE_SUFFIX = ".deviceclass.resource.k8s.io/devices"
CLAIM_NAMES = ("persistentvolumeclaims", "requests.storage")
MOST_DEVICES = 32
"""What a request for all devices counts as: more are never allocated to a claim."""
LEGACY = frozenset({"configmaps", "resourcequotas", "replicationcontrollers", "secrets"})
"""Core plurals that also count under their own name."""
UNCOUNTED = frozenset(
    {
        ("", "bindings"), ("", "events"), ("events.k8s.io", "events"),
        ("authorization.k8s.io", "localsubjectaccessreviews"),
    }
)  # fmt: skip
"""Namespaced resources that are not stored, or not counted."""


class Evaluator(Struct, frozen=True):
    """`usage(obj, now_s)` is what an object counts as; `matching(names)` picks the names of a
    quota it counts under; `constraint(obj, names)` says what it must have and lacks."""

    group: str
    plural: str
    usage: Callable[[Object, float], Amounts]
    matching: Callable[[Iterable[str]], list[str]]
    on: Sequence[str] = ("CREATE",)
    """Operations that can change what an object counts as."""
    constraint: Callable[[Object, Iterable[str]], str] | None = None
    in_scope: Callable[[Object, Requirement], bool] | None = None

    def applies(self, quota: Object, obj: Object) -> bool:
        """Is the quota about the object? Only what its status has is enforced."""
        hard = (quota.get("status") or {}).get("hard") or {}
        if not self.matching(hard):
            return False
        return all(self.meets(obj, scope) for scope in requirements_of(quota))

    def meets(self, obj: Object, scope: Requirement) -> bool:
        return self.in_scope is not None and self.in_scope(obj, scope)


def _service_usage(obj: Object, now_s: float) -> Amounts:
    spec = obj.get("spec") or {}
    ports, kind = spec.get("ports") or (), spec.get("type")
    balanced = kind == "LoadBalancer"
    node_ports = len(ports) if kind in ("NodePort", "LoadBalancer") else 0
    if balanced and spec.get("allocateLoadBalancerNodePorts") is False:
        node_ports = sum(bool(port.get("nodePort")) for port in ports)
    return {
        "services": count(1),
        "count/services": count(1),
        "services.nodeports": count(node_ports),
        "services.loadbalancers": count(int(balanced)),
    }


def _claim_usage(obj: Object, now_s: float) -> Amounts:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    annotations = obj["metadata"].get("annotations") or {}
    named = annotations.get("volume.beta.kubernetes.io/storage-class")
    storage_class = (spec.get("storageClassName") or "") if named is None else named
    used = {"persistentvolumeclaims": count(1), "count/persistentvolumeclaims": count(1)}
    asked = read((spec.get("resources") or {}).get("requests"))
    # A resize that was taken back may still hold what was allocated for it.
    asked = largest(asked, read(status.get("allocatedResources")))
    if "storage" in asked:
        used["requests.storage"] = asked["storage"]
    if storage_class:
        for name in CLAIM_NAMES:
            if name in used:
                used[f"{storage_class}{CLASS_SUFFIX}{name}"] = used[name]
    return used


def _claim_names(names: Iterable[str]) -> list[str]:
    suffixes = tuple(CLASS_SUFFIX + name for name in CLAIM_NAMES)
    own = {*CLAIM_NAMES, "count/persistentvolumeclaims"}
    return [name for name in names if name in own or name.endswith(suffixes)]


def _claim_in_scope(obj: Object, scope: Requirement) -> bool:
    if scope.name != "VolumeAttributesClass":
        return False
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    target = (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName")
    found = {
        spec.get("volumeAttributesClassName"), status.get("currentVolumeAttributesClassName"),
        target,
    }  # fmt: skip
    return scope.holds({name for name in found if name})


def _device_usage(obj: Object, now_s: float) -> Amounts:
    used = {"count/resourceclaims.resource.k8s.io": count(1)}
    devices = (obj.get("spec") or {}).get("devices") or {}
    numbers: dict[str, int] = {}
    for request in devices.get("requests") or ():
        # Of alternatives the largest counts, whichever will be taken.
        options: dict[str, int] = {}
        for item in request.get("firstAvailable") or [request.get("exactly") or {}]:
            number = item.get("count") or 1
            if item.get("allocationMode") == "All":
                number = MOST_DEVICES
            name = item.get("deviceClassName") or ""
            options[name] = max(options.get(name, 0), number)
        for name, number in options.items():
            numbers[name] = numbers.get(name, 0) + number
    return used | {name + DEVICE_SUFFIX: count(number) for name, number in numbers.items() if name}


def _device_names(names: Iterable[str]) -> list[str]:
    own = "count/resourceclaims.resource.k8s.io"
    return [name for name in names if name == own or name.endswith(DEVICE_SUFFIX)]


_SERVICES = frozenset(
    {"services", "count/services", "services.nodeports", "services.loadbalancers"}
)

_SPECIAL = {
    (item.group, item.plural): item
    for item in (
        Evaluator("", "pods", pods.usage, pods.matching, ("CREATE",), pods.constraint,
                  pods.in_scope),
        Evaluator("", "services", _service_usage,
                  lambda names: [name for name in names if name in _SERVICES],
                  ("CREATE", "UPDATE")),
        Evaluator("", "persistentvolumeclaims", _claim_usage, _claim_names, ("CREATE", "UPDATE"),
                  in_scope=_claim_in_scope),
        Evaluator("resource.k8s.io", "resourceclaims", _device_usage, _device_names),
    )
}  # fmt: skip


@lru_cache(maxsize=1024)
def evaluator_of(group: str, plural: str) -> Evaluator | None:
    """The evaluator of a namespaced resource; None for what is never counted."""
    if (group, plural) in UNCOUNTED:
        return None
    special = _SPECIAL.get((group, plural))
    return special or _counter(group, plural)


def _counter(group: str, plural: str) -> Evaluator:
    names = {f"count/{plural}.{group}" if group else f"count/{plural}"}
    if not group and plural in LEGACY:
        names.add(plural)
    one = {name: count(1) for name in names}
    return Evaluator(
        group,
        plural,
        lambda obj, now_s: one,
        lambda wanted: [name for name in wanted if name in names],
    )
