"""Which pods stand behind a service, on which ports: shared by EndpointSlices and Endpoints. Pure.

Sources: KEP-0752 (slices), KEP-1672 (terminating endpoints), upstream's endpointslice/util.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from sampan.api.errors import Object

from .runtime import pods as podlib

HEADLESS_LABEL = "service.kubernetes.io/headless"
ZONE_LABEL = "topology.kubernetes.io/zone"

Port = tuple[str, str, int, str]
"""(name, protocol, number, appProtocol); number 0 for a service without ports."""


class Backend(Struct, frozen=True):
    """A pod behind a service, on one address family."""

    pod: Object
    address: str
    ports: tuple[Port, ...]
    ready: bool
    """As the service publishes it: not terminating, unless unready ones are published too."""
    serving: bool
    terminating: bool
    hostname: str
    node: str


def selects_pods(service: Object) -> bool:
    """Does this controller look after the service's endpoints?"""
    spec = service["spec"]
    return bool(spec.get("selector") and spec.get("type") != "ExternalName")


def is_headless(service: Object) -> bool:
    return bool(service["spec"].get("clusterIP") == "None")


def matches(service: Object, labels: Mapping[str, str] | None) -> bool:
    selector = service["spec"].get("selector") or {}
    return bool(selector.items() <= (labels or {}).items())


def families(service: Object) -> Sequence[str]:
    """Address families of the service: IPv4, IPv6, or both in its order."""
    return service["spec"].get("ipFamilies") or ("IPv4",)


def addresses(pod: Object) -> dict[str, str]:
    """The pod's address by family."""
    status = pod.get("status") or {}
    found = [item.get("ip", "") for item in status.get("podIPs") or ()]
    if not found and status.get("podIP"):
        found = [status["podIP"]]
    return {"IPv6" if ":" in item else "IPv4": item for item in reversed(found) if item}


def fingerprint(pod: Object) -> tuple[object, ...]:
    """All of a pod that endpoints depend on; equal means that no service need look."""
    meta, spec = pod["metadata"], pod["spec"]
    return (
        meta.get("uid"),
        meta.get("labels"),
        bool(meta.get("deletionTimestamp")),
        podlib.is_finished(pod),
        podlib.is_ready(pod),
        addresses(pod),
        spec.get("nodeName"),
        spec.get("hostname"),
        spec.get("subdomain"),
    )


def backends(service: Object, pods: Iterable[Object], family: str) -> list[Backend]:
    """The service's backends of one family, by pod name."""
    ordered = sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))
    found = (_backend(service, pod, family) for pod in ordered)
    return [item for item in found if item is not None]


def _backend(service: Object, pod: Object, family: str) -> Backend | None:
    address = addresses(pod).get(family)
    if not address or podlib.is_finished(pod):
        return None
    spec = pod["spec"]
    ports = resolve_ports(service, pod)
    serving = podlib.is_ready(pod)
    terminating = podlib.is_terminating(pod)
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    hostname = spec.get("hostname") or ""
    if spec.get("subdomain") != service["metadata"]["name"]:
        hostname = ""
    return Backend(
        pod=pod,
        address=address,
        ports=ports,
        ready=publish or (serving and not terminating),
        serving=serving,
        terminating=terminating,
        hostname=hostname,
        node=spec.get("nodeName") or "",
    )


def resolve_ports(service: Object, pod: Object) -> tuple[Port, ...]:
    """The service's ports on this pod. A named port the pod does not have is left out; without any
    the pod is still an endpoint, which has names, and gets no connections."""
    found = []
    for item in service["spec"].get("ports") or ():
        protocol = item.get("protocol") or "TCP"
        number = _number(item, pod, protocol)
        if number:
            port = (item.get("name") or "", protocol, number, item.get("appProtocol") or "")
            found.append(port)
    return tuple(sorted(found))


def _number(port: Object, pod: Object, protocol: str) -> int:
    target = port.get("targetPort")
    if target is None or target in (0, ""):
        return int(port["port"])
    if isinstance(target, int):
        return target
    spec = pod["spec"]
    sidecars = [
        item for item in spec.get("initContainers") or () if item.get("restartPolicy") == "Always"
    ]
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for item in container.get("ports") or ():
            if item.get("name") == target and (item.get("protocol") or "TCP") == protocol:
                return int(item["containerPort"])
    return 0


def target(pod: Object) -> Object:
    """The reference from an endpoint to its pod."""
    meta = pod["metadata"]
    return {
        "kind": "Pod",
        "namespace": meta["namespace"],
        "name": meta["name"],
        "uid": meta["uid"],
    }
