"""PodTopologyLabels: a bound pod carries its node's zone and region, for the downward API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.resources import resource

from ..exchange import Write
from .plugin import Plugin

if TYPE_CHECKING:
    from ..app import Server

LABELS = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


def mutate(server: Server, write: Write) -> None:
    name = (write.obj.get("target") or {}).get("name") or ""
    node = server.find_object(resource("nodes"), "", name)
    if node is None:
        return
    labels = node["metadata"].get("labels") or {}
    found = {label: labels[label] for label in LABELS if label in labels}
    if found:
        meta = write.obj.setdefault("metadata", {})
        meta["labels"] = {**(meta.get("labels") or {}), **found}


PLUGIN = Plugin("PodTopologyLabels", {("", "pods/binding"): ("CREATE",)}, mutate)
