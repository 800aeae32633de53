"""TaintNodesByCondition: a new node takes no pods before it has been seen ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..exchange import Write
from .plugin import Plugin

if TYPE_CHECKING:
    from ..app import Server

NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}


def mutate(server: Server, write: Write) -> None:
    spec = write.obj.setdefault("spec", {})
    taints = spec.get("taints") or []
    if not any(NOT_READY.items() <= item.items() for item in taints):
        spec["taints"] = [*taints, dict(NOT_READY)]


PLUGIN = Plugin("TaintNodesByCondition", {("", "nodes"): ("CREATE",)}, mutate)
