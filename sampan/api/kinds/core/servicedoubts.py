"""Warnings about services, in upstream's words (pkg/api/service/warnings.go)."""

from __future__ import annotations

from ...errors import Object
from ..doubts import doubt_ip, doubt_range
from .servicespec import HINTS, MODE


def warn_service(obj: Object, old: Object | None) -> list[str]:
    spec, kind = obj["spec"], obj["spec"].get("type")
    external = spec.get("externalIPs") or ()
    headless = kind == "ClusterIP" and spec.get("clusterIP") == "None"
    out: list[str] = []
    if HINTS in (obj["metadata"].get("annotations") or {}):
        out.append(f"annotation {HINTS} is deprecated, please use {MODE} instead")
    for position, address in enumerate(spec.get("clusterIPs") or ()):
        out += doubt_ip(address, f"spec.clusterIPs[{position}]")
    if headless:
        for name, given in (
            ("loadBalancerIP", bool(spec.get("loadBalancerIP"))),
            ("externalIPs", bool(external)),
            ("SessionAffinity", spec.get("sessionAffinity") != "None"),
        ):
            if given:
                out.append(f"spec.{name} is ignored for headless services")
    for position, address in enumerate(external):
        out += doubt_ip(address, f"spec.externalIPs[{position}]")
    if external and not headless and kind != "ExternalName":
        out.append(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
        )
    if spec.get("loadBalancerIP"):
        out += doubt_ip(spec["loadBalancerIP"], "spec.loadBalancerIP")
    for position, text in enumerate(spec.get("loadBalancerSourceRanges") or ()):
        out += doubt_range(text.strip(), f"spec.loadBalancerSourceRanges[{position}]")
    if external and kind == "ExternalName":
        out.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    if kind != "ExternalName" and spec.get("externalName"):
        out.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if spec.get("trafficDistribution") == "PreferClose":
        out.append('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"')
    return out
