"""EndpointSlice (discovery.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ...meta import labels_of
from ...names import label_problems, label_value_problems, subdomain_problems
from ..addresses import check_ordinary_ip, parse_ip
from ..doubts import doubt_ip
from ..formats import PROTOCOLS, check_label, check_labels, check_qualified, check_subdomain
from ..printing import AGE, NAME, UNSET, age, name, shortened

MAX_ENDPOINTS, MAX_PORTS, MAX_ADDRESSES = 1000, 20000, 100
MAX_TOPOLOGY, MAX_HINTS = 16, 8
HOSTNAME = "kubernetes.io/hostname"
TYPES = ("FQDN", "IPv4", "IPv6")
_FAMILIES = {
    "IPv4": (4, "must be a valid IPv4 address"),
    "IPv6": (6, "must be a valid IPv6 address"),
}

OWN_CONTROLLERS = ("endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io")
"""They write addresses as they should be: looking at them again would be time lost."""


def default(obj: Object) -> None:
    for port in obj.get("ports") or ():
        if port.get("name") is None:
            port["name"] = ""
        if not port.get("protocol"):
            port["protocol"] = "TCP"
    if obj.get("endpoints") is None:
        # Upstream's list has no omitempty; clients iterate over it.
        obj["endpoints"] = []


def prepare(obj: Object, old: Object | None) -> None:
    """v1 has no topology but what older versions have left."""
    endpoints = obj.get("endpoints") or ()
    if old is not None and endpoints == old.get("endpoints"):
        return
    known = {
        (item.get("deprecatedTopology") or {}).get(HOSTNAME)
        for item in (old or {}).get("endpoints") or ()
    } - {None}
    for endpoint in endpoints:
        host = (endpoint.pop("deprecatedTopology", None) or {}).get(HOSTNAME)
        if host in known and endpoint.get("nodeName") is None:
            endpoint["nodeName"] = host


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    kind = obj.get("addressType") or ""
    if old is not None:
        out += fields.unchanged("addressType", kind, old.get("addressType"))
    if not kind:
        out.append(fields.required("addressType"))
    elif kind not in TYPES:
        out.append(fields.not_supported("addressType", kind, TYPES))
    endpoints, ports = obj.get("endpoints") or [], obj.get("ports") or []
    if len(endpoints) > MAX_ENDPOINTS:
        out.append(fields.too_many("endpoints", len(endpoints), MAX_ENDPOINTS))
    elif old is None or endpoints != old.get("endpoints"):
        for position, endpoint in enumerate(endpoints):
            _check_endpoint(endpoint, kind, f"endpoints[{position}]", out)
    if len(ports) > MAX_PORTS:
        out.append(fields.too_many("ports", len(ports), MAX_PORTS))
    else:
        _check_ports(ports, out)
    return out


def _check_endpoint(endpoint: Object, kind: str, path: str, out: list[Cause]) -> None:
    addresses = endpoint.get("addresses") or ()
    if not addresses:
        why = "must contain at least 1 address"
        out.append(fields.required(f"{path}.addresses", why))
    elif len(addresses) > MAX_ADDRESSES:
        out.append(fields.too_many(f"{path}.addresses", len(addresses), MAX_ADDRESSES))
    for position, address in enumerate(addresses):
        where = f"{path}.addresses[{position}]"
        if kind in _FAMILIES:
            version, why = _FAMILIES[kind]
            if getattr(parse_ip(address), "version", 0) != version:
                out.append(fields.invalid(where, address, why))
            check_ordinary_ip(address, where, out)
        elif kind == "FQDN":
            _check_full_name(address, where, out)
    if endpoint.get("nodeName") is not None:
        check_subdomain(endpoint["nodeName"], f"{path}.nodeName", out)
    topology = endpoint.get("deprecatedTopology") or {}
    if topology:
        if len(topology) > MAX_TOPOLOGY:
            where = f"{path}.deprecatedTopology"
            out.append(fields.too_many(where, len(topology), MAX_TOPOLOGY))
        check_labels(topology, f"{path}.deprecatedTopology", out)
    if endpoint.get("hostname") is not None:
        check_label(endpoint["hostname"], f"{path}.hostname", out)
    hints = endpoint.get("hints") or {}
    _check_hints(hints.get("forZones") or (), f"{path}.hints.forZones", label_value_problems, out)
    _check_hints(hints.get("forNodes") or (), f"{path}.hints.forNodes", subdomain_problems, out)


def _check_full_name(text: str, path: str, out: list[Cause]) -> None:
    """A host name with a domain (IsFullyQualifiedDomainName)."""
    if not text:
        out.append(fields.required(path))
        return
    text = text.removesuffix(".")
    problems = subdomain_problems(text)
    if problems:
        out.append(fields.invalid(path, text, ",".join(problems)))
    elif "." not in text:
        why = "should be a domain with at least two segments separated by dots"
        out.append(fields.invalid(path, text, why))
    for label in () if problems or "." not in text else text.split("."):
        if label_problems(label):
            out.append(fields.invalid(path, label, ",".join(label_problems(label))))


def _check_hints(
    hints: Sequence[Object], path: str, problems: Callable[[str], Iterable[str]], out: list[Cause]
) -> None:
    if len(hints) > MAX_HINTS:
        out.append(fields.too_many(path, len(hints), MAX_HINTS))
        return
    seen: set[str] = set()
    for position, hint in enumerate(hints):
        where, text = f"{path}[{position}].name", hint.get("name") or ""
        if text in seen:
            out.append(fields.duplicate(where, text))
        seen.add(text)
        out += [fields.invalid(where, text, why) for why in problems(text)]


def _check_ports(ports: list[Object], out: list[Cause]) -> None:
    seen: set[str] = set()
    for position, port in enumerate(ports):
        path = f"ports[{position}]"
        text = port.get("name") or ""
        if text:
            check_label(text, f"{path}.name", out)
        if text in seen:
            out.append(fields.duplicate(f"{path}.name", text))
        seen.add(text)
        protocol = port.get("protocol")
        if protocol is None:
            out.append(fields.required(f"{path}.protocol"))
        elif protocol not in PROTOCOLS:
            out.append(fields.not_supported(f"{path}.protocol", protocol, PROTOCOLS))
        if port.get("appProtocol") is not None:
            check_qualified(port["appProtocol"], f"{path}.appProtocol", out)


def grows(new: Object, old: Object) -> bool:
    """Labels count too: they say which service the endpoints are of."""
    parts = ("addressType", "endpoints", "ports")
    return any(new.get(part) != old.get(part) for part in parts) or labels_of(new) != labels_of(old)


def warnings(obj: Object, old: Object | None) -> list[str]:
    out = []
    if old is None and obj.get("addressType") == "FQDN":
        out.append("spec.addressType: FQDN endpoints are deprecated")
    labels = obj["metadata"].get("labels") or {}
    if labels.get("endpointslice.kubernetes.io/managed-by") in OWN_CONTROLLERS:
        return out
    for position, endpoint in enumerate(obj.get("endpoints") or ()):
        for place, address in enumerate(endpoint.get("addresses") or ()):
            out += doubt_ip(address, f"endpoints[{position}].addresses[{place}]")
    return out


def cells(obj: Object, now_s: float) -> list[Any]:
    ports = [
        str(port["port"]) if port.get("port") is not None else port.get("name") or "*"
        for port in obj.get("ports") or ()
    ]
    addresses = [
        address
        for endpoint in obj.get("endpoints") or ()
        for address in endpoint.get("addresses") or ()
    ]
    return [
        name(obj),
        obj.get("addressType") or "",
        shortened(ports) or UNSET,
        shortened(addresses) or UNSET,
        age(obj, now_s),
    ]


KIND = Kind(
    group="discovery.k8s.io",
    version="v1",
    kind="EndpointSlice",
    storage="endpointslices",
    generation=True,
    default=default,
    prepare=prepare,
    validate=validate,
    warnings=warnings,
    columns=(
        NAME,
        Column("AddressType", "string", "IPv4, IPv6 or FQDN."),
        Column("Ports", "string", "The ports of every endpoint."),
        Column("Endpoints", "string", "The endpoints' addresses."),
        AGE,
    ),
    cells=cells,
    grows=grows,
)
