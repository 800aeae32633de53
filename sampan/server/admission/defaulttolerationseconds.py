"""DefaultTolerationSeconds: pods stay five minutes on a node that is not ready or unreachable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..exchange import Write
from .plugin import Plugin

if TYPE_CHECKING:
    from ..app import Server

SECONDS = 300
TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def mutate(server: Server, write: Write) -> None:
    spec = write.obj.setdefault("spec", {})
    tolerations = spec.get("tolerations") or []
    added = [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}
        for key in TAINTS
        if not any(
            item.get("key", "") in ("", key) and item.get("effect", "") in ("", "NoExecute")
            for item in tolerations
        )
    ]
    if added:
        spec["tolerations"] = [*tolerations, *added]


PLUGIN = Plugin("DefaultTolerationSeconds", {("", "pods"): ("CREATE", "UPDATE")}, mutate)
