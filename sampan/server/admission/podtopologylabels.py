"""PodTopologyLabels: a bound pod carries its node's zone and region, for the downward API."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from orjson import loads

from sampan.api.resources import resource

from ..exchange import Write
from .plugin import Plugin

if TYPE_CHECKING:
    from ..app import Server

LABELS = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")
REMEMBERED = 8192
"""Nodes whose labels are remembered: every binding asks for another one. The store's own bytes are
the key; their hash is made once."""


def mutate(server: Server, write: Write) -> None:
    name = (write.obj.get("target") or {}).get("name") or ""
    record = server.store.get(resource("nodes").key("", name))
    found = _found(record.value) if record is not None else {}
    if found:
        meta = write.obj.setdefault("metadata", {})
        meta["labels"] = {**(meta.get("labels") or {}), **found}


@lru_cache(maxsize=REMEMBERED)
def _found(node: bytes) -> dict[str, str]:
    labels = loads(node)["metadata"].get("labels") or {}
    return {label: labels[label] for label in LABELS if label in labels}


PLUGIN = Plugin("PodTopologyLabels", {("", "pods/binding"): ("CREATE",)}, mutate)
