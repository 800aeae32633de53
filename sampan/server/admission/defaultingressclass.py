"""DefaultIngressClass: an ingress that names no class gets the default one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.resources import resource

from ..exchange import Write
from .defaultstorageclass import newest_of
from .plugin import Plugin

if TYPE_CHECKING:
    from ..app import Server

GROUP = "networking.k8s.io"
DEFAULT = "ingressclass.kubernetes.io/is-default-class"
OLD_CLASS = "kubernetes.io/ingress.class"


def mutate(server: Server, write: Write) -> None:
    ingress = write.obj
    spec = ingress.setdefault("spec", {})
    annotations = ingress["metadata"].get("annotations") or {}
    if spec.get("ingressClassName") is not None or OLD_CLASS in annotations:
        return
    defaults = [
        item["metadata"]
        for item in server.list_objects(resource("ingressclasses", GROUP))
        if (item["metadata"].get("annotations") or {}).get(DEFAULT) == "true"
    ]
    if not defaults:
        return
    spec["ingressClassName"] = newest_of(defaults)


PLUGIN = Plugin("DefaultIngressClass", {(GROUP, "ingresses"): ("CREATE",)}, mutate)
