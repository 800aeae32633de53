"""StorageObjectInUseProtection: claims and volumes are created with a finalizer, which controllers
(`pvcprotection`, `pvprotection`) take away when nobody uses them any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.meta import CLAIM_FINALIZER, VOLUME_FINALIZER

from ..exchange import Write
from .plugin import Plugin

if TYPE_CHECKING:
    from ..app import Server

FINALIZERS = {
    "persistentvolumeclaims": CLAIM_FINALIZER,
    "persistentvolumes": VOLUME_FINALIZER,
}


def mutate(server: Server, write: Write) -> None:
    target = write.attributes.resource
    assert target is not None
    finalizer = FINALIZERS[target.plural]
    meta = write.obj["metadata"]
    known = meta.get("finalizers") or []
    if finalizer not in known:
        meta["finalizers"] = [*known, finalizer]


PLUGIN = Plugin(
    "StorageObjectInUseProtection", {("", plural): ("CREATE",) for plural in FINALIZERS}, mutate
)
