"""PersistentVolumeClaimResize: a claim grows only if its class can make it grow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.wire import quantity

from ..exchange import Write
from .plugin import Plugin, refuse

if TYPE_CHECKING:
    from ..app import Server

BETA_CLASS = "volume.beta.kubernetes.io/storage-class"


def validate(server: Server, write: Write) -> None:
    old = write.old
    if old is None or quantity.compare(_size(write.obj), _size(old)) <= 0:
        return
    if (old.get("status") or {}).get("phase") != "Bound":
        raise refuse(write, "Only bound persistent volume claims can be expanded")
    if not _may_grow(server, _class(write.obj), _class(old)):
        raise refuse(
            write,
            "only dynamically provisioned pvc can be resized and the storageclass that "
            "provisions the pvc must support resize",
        )


def _size(claim: Object) -> str:
    requests = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    return str(requests.get("storage", "0"))


def _class(claim: Object) -> str:
    annotations = claim["metadata"].get("annotations") or {}
    if BETA_CLASS in annotations:
        return str(annotations[BETA_CLASS])
    return str((claim.get("spec") or {}).get("storageClassName") or "")


def _may_grow(server: Server, name: str, before: str) -> bool:
    if not name or name != before:
        return False
    found = server.find_object(resource("storageclasses", "storage.k8s.io"), "", name)
    return found is not None and found.get("allowVolumeExpansion") is True


PLUGIN = Plugin(
    "PersistentVolumeClaimResize",
    {("", "persistentvolumeclaims"): ("UPDATE",)},
    validate=validate,
)
