"""Service: defaults, columns, and the entry to its validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ... import fields
from ...descriptor import Column, Kind, Subresource
from ...errors import Cause, Object
from ..addresses import check_ip, parse_ip
from ..formats import check_optional, check_subdomain
from ..printing import AGE, NAME, NONE, age, balancer_text, labels_text, name
from .servicechanges import is_reached_from_outside, settle
from .servicedoubts import warn_service
from .servicespec import check_service, check_service_update

PROXY_VERBS = ("create", "delete", "get", "patch", "update")
SUBRESOURCES = {"proxy": Subresource("ServiceProxyOptions", PROXY_VERBS, version="v1")}
AFFINITY_TIMEOUT_S = 10800


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    affinity = spec.get("sessionAffinity")
    if not affinity:
        affinity = spec["sessionAffinity"] = "None"
    if affinity == "None":
        spec.pop("sessionAffinityConfig", None)
    elif affinity == "ClientIP":
        client = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        if client.get("timeoutSeconds") is None:
            config = {"clientIP": {"timeoutSeconds": AFFINITY_TIMEOUT_S}}
            spec["sessionAffinityConfig"] = config
    kind = spec.get("type")
    if not kind:
        kind = spec["type"] = "ClusterIP"
    for port in spec.get("ports") or ():
        if not port.get("protocol"):
            port["protocol"] = "TCP"
        if not port.get("targetPort") and "port" in port:
            port["targetPort"] = port["port"]
    if is_reached_from_outside(spec) and not spec.get("externalTrafficPolicy"):
        spec["externalTrafficPolicy"] = "Cluster"
    if kind in ("ClusterIP", "NodePort", "LoadBalancer"):
        spec.setdefault("internalTrafficPolicy", "Cluster")
    balancer = obj.setdefault("status", {}).setdefault("loadBalancer", {})
    if kind == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
        for ingress in balancer.get("ingress") or ():
            if ingress.get("ip"):
                ingress.setdefault("ipMode", "VIP")


def prepare(obj: Object, old: Object | None) -> None:
    """clusterIPs follows clusterIP, what the server chose stays, and fields of another type are
    dropped as the type changes, with the status of a load balancer that is none any more."""
    spec = obj.setdefault("spec", {})
    settle(spec, None if old is None else old.get("spec") or {})
    if old is not None and spec.get("type") != "LoadBalancer":
        obj["status"] = {**(obj.get("status") or {}), "loadBalancer": {}}


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    if old is not None:
        if obj["spec"] == old.get("spec"):
            return out
        check_service_update(obj["spec"], old["spec"], out)
    check_service(obj, out)
    return out


def validate_status(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    ingress = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    path = "status.loadBalancer.ingress"
    if ingress and obj["spec"].get("type") != "LoadBalancer":
        why = "may only be used when `spec.type` is 'LoadBalancer'"
        out.append(fields.forbidden(path, why))
        return out
    for position, item in enumerate(ingress):
        where = f"{path}[{position}]"
        address, mode, host = item.get("ip"), item.get("ipMode"), item.get("hostname")
        if address:
            check_ip(address, f"{where}.ip", out)
        elif mode is not None:
            why = "may not be specified when `ip` is not set"
            out.append(fields.forbidden(f"{where}.ipMode", why))
        check_optional(mode, ("Proxy", "VIP"), f"{where}.ipMode", out)
        if host:
            check_subdomain(host, f"{where}.hostname", out)
            if parse_ip(host) is not None:
                why = "must be a DNS name, not an IP address"
                out.append(fields.invalid(f"{where}.hostname", host, why))
    return out


def selectable(obj: Object) -> Mapping[str, str]:
    spec = obj.get("spec") or {}
    return {"spec.clusterIP": spec.get("clusterIP") or "", "spec.type": spec.get("type") or ""}


def cells(obj: Object, now_s: float) -> list[Any]:
    spec = obj.get("spec") or {}
    addresses = spec.get("clusterIPs")
    return [
        name(obj),
        spec.get("type") or "",
        addresses[0] if addresses else NONE,
        _external(obj, spec),
        ",".join(map(_port, spec.get("ports") or ())) or NONE,
        age(obj, now_s),
        labels_text(spec.get("selector")),
    ]


def _port(port: Object) -> str:
    node = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port', 0)}{node}/{port.get('protocol', '')}"


def _external(obj: Object, spec: Object) -> str:
    kind, external = spec.get("type"), list(spec.get("externalIPs") or ())
    if kind in ("ClusterIP", "NodePort"):
        return ",".join(external) or NONE
    if kind == "LoadBalancer":
        given = balancer_text(obj.get("status"))
        return ",".join([*([given] if given else []), *external]) or "<pending>"
    if kind == "ExternalName":
        return spec.get("externalName") or ""
    return "<unknown>"


KIND = Kind(
    group="",
    version="v1",
    kind="Service",
    short_names=("svc",),
    categories=("all",),
    storage="services/specs",
    name_rule="label",
    generation=False,
    default=default,
    prepare=prepare,
    validate=validate,
    warnings=warn_service,
    validate_status=validate_status,
    fields=selectable,
    columns=(
        NAME,
        Column("Type", "string", "How the service is reached."),
        Column("Cluster-IP", "string", "Its address within the cluster."),
        Column("External-IP", "string", "Its addresses from outside."),
        Column("Port(s)", "string", "Its ports, with node ports and protocols."),
        AGE,
        Column("Selector", "string", "Labels of the pods behind it.", "", 1),
    ),
    cells=cells,
    extra_subresources=SUBRESOURCES,
)
