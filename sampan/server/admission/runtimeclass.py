"""RuntimeClass: a pod's class must exist; its overhead and scheduling rules become the pod's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.errors import Object
from sampan.api.fields import quote
from sampan.api.resources import resource

from ..exchange import Write
from .plugin import Plugin, refuse

if TYPE_CHECKING:
    from ..app import Server


def mutate(server: Server, write: Write) -> None:
    spec = write.obj.setdefault("spec", {})
    name = spec.get("runtimeClassName")
    if not name:
        if spec.get("overhead"):
            raise refuse(
                write,
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined"
                " Overhead",
            )
        return
    found = server.find_object(resource("runtimeclasses", "node.k8s.io"), "", name)
    if found is None:
        raise refuse(write, f"pod rejected: RuntimeClass {quote(name)} not found")
    overhead = (found.get("overhead") or {}).get("podFixed")
    if spec.get("overhead") and spec["overhead"] != overhead:
        raise refuse(
            write,
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        )
    if overhead:
        spec["overhead"] = dict(overhead)
    _schedule(write, spec, found.get("scheduling") or {})


def _schedule(write: Write, spec: Object, scheduling: Object) -> None:
    wanted = scheduling.get("nodeSelector") or {}
    have = spec.get("nodeSelector") or {}
    for key, value in wanted.items():
        if have.get(key, value) != value:
            raise refuse(
                write,
                "conflict: runtimeClass.scheduling.nodeSelector and pod.spec.nodeSelector"
                f" have conflicting values for key {quote(key)}",
            )
    if wanted:
        spec["nodeSelector"] = {**have, **wanted}
    tolerations = spec.get("tolerations") or []
    added = [item for item in scheduling.get("tolerations") or () if item not in tolerations]
    if added:
        spec["tolerations"] = [*tolerations, *added]


PLUGIN = Plugin("RuntimeClass", {("", "pods"): ("CREATE",)}, mutate)
