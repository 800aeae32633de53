"""Endpoints."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..addresses import check_ip, check_ordinary_ip
from ..doubts import doubt_ip
from ..formats import check_label, check_port, check_protocol, check_qualified, check_subdomain
from ..printing import AGE, NAME, NONE, age, name, shortened


def default(obj: Object) -> None:
    for subset in obj.get("subsets") or ():
        for port in subset.get("ports") or ():
            if not port.get("protocol"):
                port["protocol"] = "TCP"


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    subsets = obj.get("subsets") or ()
    if old is not None and subsets == (old.get("subsets") or ()):
        return out
    for position, subset in enumerate(subsets):
        path = f"subsets[{position}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            why = "must specify `addresses` or `notReadyAddresses`"
            out.append(fields.required(path, why))
        for field in ("addresses", "notReadyAddresses"):
            for index, address in enumerate(subset.get(field) or ()):
                _check_address(address, f"{path}.{field}[{index}]", out)
        ports = subset.get("ports") or ()
        for index, port in enumerate(ports):
            where = f"{path}.ports[{index}]"
            if port.get("name"):
                check_label(port["name"], f"{where}.name", out)
            elif len(ports) > 1:
                out.append(fields.required(f"{where}.name"))
            check_port(port.get("port") or 0, f"{where}.port", out)
            check_protocol(port.get("protocol"), f"{where}.protocol", out)
            if port.get("appProtocol") is not None:
                check_qualified(port["appProtocol"], f"{where}.appProtocol", out)
    return out


def _check_address(address: Object, path: str, out: list[Cause]) -> None:
    check_ip(address.get("ip"), f"{path}.ip", out)
    if address.get("hostname"):
        check_label(address["hostname"], f"{path}.hostname", out)
    if address.get("nodeName") is not None:
        check_subdomain(address["nodeName"], f"{path}.nodeName", out)
    check_ordinary_ip(address.get("ip") or "", f"{path}.ip", out)


def warnings(obj: Object, old: Object | None) -> list[str]:
    labels = obj["metadata"].get("labels") or {}
    if labels.get("endpoints.kubernetes.io/managed-by") == "endpoint-controller":
        return []
    return [
        text
        for position, subset in enumerate(obj.get("subsets") or ())
        for field in ("addresses", "notReadyAddresses")
        for place, address in enumerate(subset.get(field) or ())
        for text in doubt_ip(address.get("ip"), f"subsets[{position}].{field}[{place}].ip")
    ]


def cells(obj: Object, now_s: float) -> list[Any]:
    shown = []
    for subset in obj.get("subsets") or ():
        addresses = [item.get("ip", "") for item in subset.get("addresses") or ()]
        ports = subset.get("ports") or ()
        if not ports:
            shown += addresses
        for port in ports:
            shown += [_joined(address, port.get("port", 0)) for address in addresses]
    text = shortened(shown) if obj.get("subsets") else NONE
    return [name(obj), text, age(obj, now_s)]


def _joined(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


KIND = Kind(
    group="",
    version="v1",
    kind="Endpoints",
    short_names=("ep",),
    storage="services/endpoints",
    default=default,
    validate=validate,
    warnings=warnings,
    columns=(NAME, Column("Endpoints", "string", "Addresses and ports."), AGE),
    cells=cells,
    deprecated="v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
)
