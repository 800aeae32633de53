"""EndpointSlices of a service: what to write so that they show its backends. Pure.

Endpoints stay in the slice they are in; new ones fill what has room. So one pod that changes is
one slice of at most MAX_ENDPOINTS that is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object

from .endpoints_plan import (
    HEADLESS_LABEL,
    ZONE_LABEL,
    Backend,
    Port,
    is_headless,
    target,
)
from .endpoints_triggers import stamped
from .runtime.owners import controller_reference

# --max-endpoints-per-slice
MAX_ENDPOINTS = 100
MODE = "service.kubernetes.io/topology-mode"
OLD_MODE = "service.kubernetes.io/topology-aware-hints"
# PreferClose is the older name of PreferSameZone; a node's own zone comes after the node.
AUTO = "topology-mode Auto"
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
NAME_LABEL = "kubernetes.io/service-name"
MANAGED_LABEL = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"


class Plan(Struct):
    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    unhinted: dict[str, str] = field(default_factory=dict)
    """Family -> why its endpoints have no hints, "" if they have; of topology-mode Auto alone."""


class _Slice(Struct):
    """One slice in the making."""

    body: Object | None
    ports: Sequence[Object]
    endpoints: list[Object]

    @property
    def changed(self) -> bool:
        if self.body is None:
            return True
        return self.endpoints != (self.body.get("endpoints") or []) or [*self.ports] != (
            self.body.get("ports") or []
        )


def plan(
    service: Object,
    resource: Descriptor,
    backends: Mapping[str, Sequence[Backend]],
    existing: Iterable[Object],
    nodes: Mapping[str, Object],
    *,
    shares: Mapping[str, float] | None = None,
    since: str = "",
) -> Plan:
    """Slices to write. `backends` by address family; `resource` is services'; `nodes` by name.
    `shares` are the zones' parts of all processors, for a service of topology-mode Auto; `since` is
    when the changes began that are written now."""
    result = Plan()
    by_family: dict[str, list[Object]] = {family: [] for family in backends}
    for body in sorted(existing, key=lambda item: str(item["metadata"]["name"])):
        # A slice of a family the service no longer has goes; its address type cannot change.
        family = body.get("addressType", "IPv4")
        by_family.get(family, result.delete).append(body)
    for family, found in backends.items():
        wish = service["spec"].get("trafficDistribution") if shares is None else AUTO
        slices = _fill(found, by_family[family], nodes, wish)
        if shares is not None:
            from .endpointslice_zones import assign_zones

            every = [entry for item in slices for entry in item.endpoints]
            result.unhinted[family] = assign_zones(every, shares)
        _settle(result, service, resource, family, slices)
    for body in (*result.create, *result.update):
        meta = body["metadata"]
        annotations = stamped(meta.get("annotations"), since)
        if annotations != (meta.get("annotations") or {}):
            body["metadata"] = {**meta, "annotations": annotations}
    return result


def _fill(
    backends: Sequence[Backend],
    existing: Sequence[Object],
    nodes: Mapping[str, Object],
    distribution: str | None,
) -> list[_Slice]:
    """All slices of a family, those with no endpoints left included."""
    groups: dict[tuple[Port, ...], dict[str, Object]] = {}
    for backend in backends:
        group = groups.setdefault(backend.ports, {})
        group[backend.pod["metadata"]["uid"]] = endpoint(backend, nodes, distribution)
    slices = [_Slice(body, body.get("ports") or [], []) for body in existing]
    for key, wanted in groups.items():
        ports = port_objects(key)
        mine = [item for item in slices if _same_ports(item.ports, ports)]
        for item in mine:
            item.ports = ports
            for old in (item.body or {}).get("endpoints") or ():
                new = wanted.pop((old.get("targetRef") or {}).get("uid", ""), None)
                if new is not None:
                    if distribution == AUTO and old.get("hints"):
                        new["hints"] = old["hints"]
                    item.endpoints.append(new)
        left = [*wanted.values()]
        # What is written anyway takes them first, and then the fullest.
        for item in sorted(mine, key=lambda item: (not item.changed, -len(item.endpoints))):
            room = MAX_ENDPOINTS - len(item.endpoints)
            item.endpoints += left[:room]
            left = left[room:]
        for start in range(0, len(left), MAX_ENDPOINTS):
            slices.append(_Slice(None, ports, left[start : start + MAX_ENDPOINTS]))
    return slices


def _settle(
    result: Plan, service: Object, resource: Descriptor, family: str, slices: list[_Slice]
) -> None:
    """Sort slices into what to create, update and delete; one stays even without endpoints."""
    used = [item for item in slices if item.endpoints]
    empty = [item for item in slices if not item.endpoints]
    if not used:
        spare = empty.pop(0) if empty else _Slice(None, [], [])
        spare.ports = []
        used = [spare]
    result.delete += [item.body for item in empty if item.body is not None]
    labels = slice_labels(service)
    for item in used:
        if item.body is None:
            result.create.append(_new(service, resource, family, item))
            continue
        kept = item.body["metadata"].get("labels") or {}
        if item.changed or kept != labels:
            meta = {**item.body["metadata"], "labels": labels}
            body = {**item.body, "metadata": meta, "ports": [*item.ports]}
            result.update.append({**body, "endpoints": item.endpoints})


def _new(service: Object, resource: Descriptor, family: str, item: _Slice) -> Object:
    meta = service["metadata"]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": f"{meta['name']}-",
            "namespace": meta["namespace"],
            "labels": slice_labels(service),
            "ownerReferences": [controller_reference(resource, service)],
        },
        "addressType": family,
        "endpoints": item.endpoints,
        "ports": [*item.ports],
    }


def placed(
    service: Object, found: Mapping[str, Sequence[Backend]], nodes: Mapping[str, Object]
) -> dict[str, list[Backend]]:
    """Without the pods of nodes that are not there (any more), unless the service wants the
    addresses of all its pods."""
    everyone = bool(service["spec"].get("publishNotReadyAddresses"))
    return {
        family: [item for item in group if everyone or not item.node or item.node in nodes]
        for family, group in found.items()
    }


def is_automatic(service: Object) -> bool:
    """Does the service ask for zones by their processors (KEP-2433)?"""
    annotations = service["metadata"].get("annotations") or {}
    # The older name counts more where both are.
    mode = annotations.get(OLD_MODE, annotations.get(MODE))
    return mode in ("Auto", "auto")


def slice_labels(service: Object) -> dict[str, str]:
    """The service's own labels, and those that find its slices."""
    own = service["metadata"].get("labels") or {}
    labels = {key: value for key, value in own.items() if key != HEADLESS_LABEL}
    if is_headless(service):
        labels[HEADLESS_LABEL] = ""
    labels[NAME_LABEL] = service["metadata"]["name"]
    labels[MANAGED_LABEL] = MANAGER
    return labels


def endpoint(
    backend: Backend, nodes: Mapping[str, Object], distribution: str | None = None
) -> Object:
    """One entry of a slice. `distribution` is the service's wish (KEP-4444, KEP-3015)."""
    found: Object = {
        "addresses": [backend.address],
        "conditions": {
            "ready": backend.ready,
            "serving": backend.serving,
            "terminating": backend.terminating,
        },
    }
    if backend.hostname:
        found["hostname"] = backend.hostname
    found["targetRef"] = target(backend.pod)
    if backend.node:
        found["nodeName"] = backend.node
        node = nodes.get(backend.node)
        zone = (node["metadata"].get("labels") or {}).get(ZONE_LABEL) if node is not None else None
        if zone:
            found["zone"] = zone
            if distribution in _DISTRIBUTIONS and backend.ready:
                found["hints"] = {"forZones": [{"name": zone}]}
        if distribution == "PreferSameNode" and backend.ready:
            found.setdefault("hints", {})["forNodes"] = [{"name": backend.node}]
    return found


def port_objects(ports: Sequence[Port]) -> list[Object]:
    found = []
    for name, protocol, number, application in ports:
        item: Object = {"name": name, "port": number, "protocol": protocol}
        if application:
            item["appProtocol"] = application
        found.append(item)
    return found


def _same_ports(left: Sequence[Object], right: Sequence[Object]) -> bool:
    def keys(ports: Sequence[Object]) -> list[tuple[str, str, int, str]]:
        return sorted(
            (
                item.get("name") or "",
                item.get("protocol") or "TCP",
                item.get("port") or 0,
                item.get("appProtocol") or "",
            )
            for item in ports
        )

    return keys(left) == keys(right)
