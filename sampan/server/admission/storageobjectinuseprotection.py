"""StorageObjectInUseProtection: claims, volumes and attributes classes are created with a
finalizer, which controllers (`pvcprotection`, `pvprotection`, `vacprotection`) take away when
nobody uses them any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.meta import ATTRIBUTES_FINALIZER, CLAIM_FINALIZER, VOLUME_FINALIZER

from ..exchange import Write
from .plugin import Plugin

if TYPE_CHECKING:
    from ..app import Server

FINALIZERS = {
    ("", "persistentvolumeclaims"): CLAIM_FINALIZER,
    ("", "persistentvolumes"): VOLUME_FINALIZER,
    ("storage.k8s.io", "volumeattributesclasses"): ATTRIBUTES_FINALIZER,
}


def mutate(server: Server, write: Write) -> None:
    target = write.attributes.resource
    assert target is not None
    finalizer = FINALIZERS[target.group, target.plural]
    meta = write.obj["metadata"]
    known = meta.get("finalizers") or []
    if finalizer not in known:
        meta["finalizers"] = [*known, finalizer]


PLUGIN = Plugin("StorageObjectInUseProtection", dict.fromkeys(FINALIZERS, ("CREATE",)), mutate)
