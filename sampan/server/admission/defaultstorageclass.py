"""DefaultStorageClass: a claim that names no class gets the default one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sampan.api.errors import Object
from sampan.api.resources import resource

from ..exchange import Write
from .plugin import Plugin

if TYPE_CHECKING:
    from ..app import Server

DEFAULT = "storageclass.kubernetes.io/is-default-class"
OLD_CLASS = "volume.beta.kubernetes.io/storage-class"


def mutate(server: Server, write: Write) -> None:
    claim = write.obj
    spec = claim.setdefault("spec", {})
    # An empty name is a choice: no class at all.
    if spec.get("storageClassName") is not None:
        return
    if OLD_CLASS in (claim["metadata"].get("annotations") or {}):
        return
    defaults = [
        item["metadata"]
        for item in server.list_objects(resource("storageclasses", "storage.k8s.io"))
        if (item["metadata"].get("annotations") or {}).get(DEFAULT) == "true"
    ]
    if defaults:
        spec["storageClassName"] = newest_of(defaults)


def newest_of(defaults: Sequence[Object]) -> str:
    """Of several defaults (their metadata) the newest counts, and of those the first by name."""
    newest = max(meta.get("creationTimestamp", "") for meta in defaults)
    return min(
        str(meta["name"]) for meta in defaults if meta.get("creationTimestamp", "") == newest
    )


PLUGIN = Plugin("DefaultStorageClass", {("", "persistentvolumeclaims"): ("CREATE",)}, mutate)
