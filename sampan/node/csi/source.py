"""What a pod's volume says to a driver: from a PersistentVolume or from the pod itself. Pure.

Paths, names and handles are upstream's (pkg/volume/csi), since drivers and their operators' tools
know them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from msgspec import Struct, field

from sampan.api.errors import Object
from sampan.api.volumes import csi_attachment, csi_unique_name, is_block

from .schemas import FINE_MODES, MODES

POD_KEY = "csi.storage.k8s.io/"
PERSISTENT, EPHEMERAL = "Persistent", "Ephemeral"
SecretRef = tuple[str, str]
"""(namespace, name)"""


class Source(Struct, frozen=True):
    """A volume as its driver knows it."""

    name: str
    """Of the PersistentVolume, or of the pod's volume when it has none."""
    driver: str
    handle: str
    fs_type: str = ""
    read_only: bool = False
    context: Mapping[str, str] = field(default_factory=dict)
    access_modes: Sequence[str] = ()
    mount_options: Sequence[str] = ()
    stage_secret: SecretRef | None = None
    publish_secret: SecretRef | None = None
    expand_secret: SecretRef | None = None
    lifecycle: str = PERSISTENT
    block: bool = False
    """A device, and no directory."""

    @property
    def unique_name(self) -> str:
        """As node.status.volumesInUse has it."""
        return csi_unique_name(self.driver, self.handle)

    def attachment(self, node: str) -> str:
        """The VolumeAttachment's name."""
        return csi_attachment(self.handle, self.driver, node)


def staging_folder(driver: str, handle: str) -> str:
    """Below the node's data."""
    return f"plugins/kubernetes.io/csi/{driver}/{sha256(handle.encode()).hexdigest()}"


def from_volume(volume: Object, *, read_only: bool) -> Source:
    """Of a PersistentVolume."""
    spec = volume["spec"]
    csi = spec["csi"]
    return Source(
        name=volume["metadata"]["name"],
        driver=csi["driver"],
        handle=csi["volumeHandle"],
        fs_type=csi.get("fsType") or "",
        read_only=bool(csi.get("readOnly")) or read_only,
        context=csi.get("volumeAttributes") or {},
        access_modes=spec.get("accessModes") or (),
        mount_options=spec.get("mountOptions") or (),
        stage_secret=_reference(csi.get("nodeStageSecretRef")),
        publish_secret=_reference(csi.get("nodePublishSecretRef")),
        expand_secret=_reference(csi.get("nodeExpandSecretRef")),
        block=is_block(volume),
    )


def _reference(found: Mapping[str, str] | None) -> SecretRef | None:
    return (found.get("namespace") or "", found["name"]) if found else None


def from_pod(pod: Object, volume: Mapping[str, Any]) -> Source:
    """Of an inline volume: its handle is made from the pod's uid."""
    meta, csi = pod["metadata"], volume["csi"]
    secret = csi.get("nodePublishSecretRef")
    return Source(
        name=volume["name"],
        driver=csi["driver"],
        handle="csi-" + sha256(f"{meta['uid']}{volume['name']}".encode()).hexdigest(),
        fs_type=csi.get("fsType") or "",
        read_only=bool(csi.get("readOnly")),
        context=csi.get("volumeAttributes") or {},
        publish_secret=(meta["namespace"], secret["name"]) if secret else None,
        lifecycle=EPHEMERAL,
    )


def pod_context(pod: Object, source: Source) -> dict[str, str]:
    """What a driver with podInfoOnMount is told."""
    meta = pod["metadata"]
    return {
        f"{POD_KEY}pod.name": meta["name"],
        f"{POD_KEY}pod.namespace": meta["namespace"],
        f"{POD_KEY}pod.uid": meta["uid"],
        f"{POD_KEY}serviceAccount.name": pod["spec"].get("serviceAccountName") or "",
        f"{POD_KEY}ephemeral": str(source.lifecycle == EPHEMERAL).lower(),
    }


def capability(source: Source, group: int, *, fine_modes: bool) -> dict[str, Any]:
    """VolumeCapability; `group` is for drivers that mount with one, -1 for none."""
    # The first mode is the one that counts, as upstream has it.
    mode = source.access_modes[0] if source.access_modes else "ReadWriteOnce"
    modes = FINE_MODES if fine_modes else MODES
    access = {"mode": modes.get(mode, 0)}
    if source.block:
        return {"block": {}, "access_mode": access}
    mount: dict[str, Any] = {"fs_type": source.fs_type, "mount_flags": [*source.mount_options]}
    if group >= 0:
        mount["volume_mount_group"] = str(group)
    return {"mount": mount, "access_mode": access}


def takes_group(source: Source, policy: str) -> bool:
    """Is a pod's fsGroup given to the volume (CSIDriver's fsGroupPolicy)?"""
    if source.read_only or source.block or policy == "None":
        return False
    if policy == "File":
        return True
    once = {"ReadWriteOnce", "ReadWriteOncePod"}
    return bool(source.fs_type) and not once.isdisjoint(source.access_modes)
