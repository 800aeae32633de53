"""Endpoints written by hand into EndpointSlices: what to write. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from msgspec import Struct, field

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object

from .endpoints_triggers import ANNOTATION as CHANGE_TIME
from .endpointslice_plan import MANAGED_LABEL, NAME_LABEL
from .runtime.owners import controller_reference

MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP_LABEL = "endpointslice.kubernetes.io/skip-mirror"
_LEADER = "control-plane.alpha.kubernetes.io/leader"
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
# --mirroring-max-endpoints-per-subset: more are left out, as upstream does; a slice takes as many.
MAX_ENDPOINTS = 1000

_Port = tuple[str, str, int, str]
_Group = tuple[str, tuple[_Port, ...]]
"""Address family and ports: what one slice can have."""


class Plan(Struct):
    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)


def is_mirrored(service: Object, endpoints: Object) -> bool:
    meta = endpoints["metadata"]
    return not (
        service["spec"].get("selector")
        or (meta.get("labels") or {}).get(SKIP_LABEL) == "true"
        or _LEADER in (meta.get("annotations") or {})
        or meta.get("deletionTimestamp")
    )


def plan(endpoints: Object, resource: Descriptor, existing: Iterable[Object]) -> Plan:
    """Slices to write. `resource` is that of Endpoints. A slice whose family and ports stay is
    updated, so that its name stays too."""
    result = Plan()
    left = sorted(existing, key=lambda item: str(item["metadata"]["name"]))
    for group, found in _groups(endpoints).items():
        wanted = _slice(endpoints, resource, group, found)
        old = next((item for item in left if _group_of(item) == group), None)
        if old is None:
            result.create.append(wanted)
            continue
        left.remove(old)
        if _content(old) != _content(wanted):
            meta = {**old["metadata"], **{k: wanted["metadata"][k] for k in _KEPT}}
            result.update.append({**old, "metadata": meta, "endpoints": wanted["endpoints"]})
    result.delete += left
    return result


_KEPT = ("labels", "annotations")


def _content(item: Object) -> tuple[object, ...]:
    meta = item["metadata"]
    return (item.get("endpoints") or [], *(meta.get(key) or {} for key in _KEPT))


def _groups(endpoints: Object) -> dict[_Group, list[Object]]:
    groups: dict[_Group, dict[str, Object]] = {}
    for subset in endpoints.get("subsets") or ():
        ports = _ports(subset.get("ports") or ())
        count = 0
        for field_name, ready in (("addresses", True), ("notReadyAddresses", False)):
            for address in subset.get(field_name) or ():
                if count >= MAX_ENDPOINTS:
                    break
                count += 1
                group = (f"IPv{ip_address(address['ip']).version}", ports)
                # The same address ready and not ready, in two subsets: the first counts.
                groups.setdefault(group, {}).setdefault(address["ip"], _endpoint(address, ready))
    return {group: [*found.values()][:MAX_ENDPOINTS] for group, found in groups.items()}


def _endpoint(address: Object, ready: bool) -> Object:
    found: Object = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    for key in ("hostname", "nodeName", "targetRef"):
        if address.get(key):
            found[key] = address[key]
    return found


def _ports(ports: Iterable[Object]) -> tuple[_Port, ...]:
    return tuple(
        sorted(
            (
                item.get("name") or "",
                item.get("protocol") or "TCP",
                item.get("port") or 0,
                item.get("appProtocol") or "",
            )
            for item in ports
        )
    )


def _group_of(item: Object) -> _Group:
    return item.get("addressType", "IPv4"), _ports(item.get("ports") or ())


def _slice(endpoints: Object, resource: Descriptor, group: _Group, found: list[Object]) -> Object:
    meta = endpoints["metadata"]
    notes = meta.get("annotations") or {}
    ports = []
    for name, protocol, number, application in group[1]:
        port: Object = {"name": name, "port": number, "protocol": protocol}
        ports.append({**port, "appProtocol": application} if application else port)
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": f"{meta['name']}-",
            "namespace": meta["namespace"],
            "labels": {
                **(meta.get("labels") or {}),
                NAME_LABEL: meta["name"],
                MANAGED_LABEL: MANAGER,
            },
            "annotations": {k: v for k, v in notes.items() if k not in (CHANGE_TIME, _APPLIED)},
            "ownerReferences": [controller_reference(resource, endpoints)],
        },
        "addressType": group[0],
        "endpoints": found,
        "ports": ports,
    }
