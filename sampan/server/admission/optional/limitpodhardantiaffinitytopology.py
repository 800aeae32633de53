"""LimitPodHardAntiAffinityTopology: no pod keeps others out of more than its own node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...exchange import Write
from ..configuration import Settings
from ..plugin import Plugin, refuse

if TYPE_CHECKING:
    from ...app import Server

HOSTNAME = "kubernetes.io/hostname"


def validate(server: Server, write: Write) -> None:
    affinity = (write.obj.get("spec") or {}).get("affinity") or {}
    anti = affinity.get("podAntiAffinity") or {}
    for term in anti.get("requiredDuringSchedulingIgnoredDuringExecution") or ():
        key = term.get("topologyKey") or ""
        if key != HOSTNAME:
            raise refuse(
                write,
                "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey"
                f" {key} but only key {HOSTNAME} is allowed",
            )


def make(settings: Settings) -> Plugin:
    """It has no configuration."""
    return Plugin(settings.name, {("", "pods"): ("CREATE", "UPDATE")}, validate=validate)
