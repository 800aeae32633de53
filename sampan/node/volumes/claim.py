"""Volumes behind claims whose data is a directory of this node (hostPath, local). Pure but for a
look at the path."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from sampan.api.errors import Object
from sampan.api.volumes import is_block, is_for_pod, mode_of

from .host_path import host_path
from .source import NEW_MOUNTER, DeviceError, VolumeError


class Claimed(Struct, frozen=True):
    """Where a claim's data is."""

    path: Path
    owned: bool
    """fsGroup changes it: not for hostPath, which is the administrator's."""


def bound_volume(claim: Object, pod: Object, *, own: bool) -> str:
    """The name of the claim's volume. Raises VolumeError while the pod may not use it.

    `own`: the claim is to have been made for the pod (ephemeral volumes).
    """
    meta = claim["metadata"]
    where = f"{meta['namespace']}/{meta['name']}"
    if own and not is_for_pod(pod, claim):
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        raise VolumeError(f"PVC {where} was not created for pod {name} (pod is not owner)")
    if meta.get("deletionTimestamp"):
        raise VolumeError(f"error processing PVC {where}: PVC is being deleted")
    volume = claim["spec"].get("volumeName", "")
    if not volume or (claim.get("status") or {}).get("phase") != "Bound":
        raise VolumeError(f"error processing PVC {where}: PVC is not bound")
    return str(volume)


def check_use(pod: Object, name: str, volume: Object) -> None:
    """Do the pod's containers use the volume as what it is? Raises VolumeError."""
    mode, wrong = mode_of(volume), "volumeMounts" if is_block(volume) else "volumeDevices"
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in pod["spec"].get(field) or ():
            if any(item["name"] == name for item in container.get(wrong) or ()):
                raise VolumeError(
                    f"volume {name} has volumeMode {mode}, but is specified in {wrong}"
                )


def check_volume(volume: Object, claim: Object) -> None:
    """Is the volume really the claim's? Raises VolumeError."""
    reference = volume["spec"].get("claimRef") or {}
    if reference.get("uid") != claim["metadata"]["uid"]:
        raise VolumeError(
            f'PV "{volume["metadata"]["name"]}" is bound to a different claim than '
            f'"{claim["metadata"]["namespace"]}/{claim["metadata"]["name"]}"'
        )


def volume_path(volume: Object) -> Claimed:
    """Where a PersistentVolume lives on this node. Raises VolumeError for other types."""
    spec = volume["spec"]
    if spec.get("hostPath"):
        return Claimed(host_path(spec["hostPath"]), owned=False)
    if spec.get("local"):
        path = Path(spec["local"]["path"])
        if not path.exists():
            raise DeviceError(NEW_MOUNTER, f'path "{path}" does not exist')
        if not path.is_dir():
            raise VolumeError("only directory and block device are supported")
        return Claimed(path, owned=True)
    raise VolumeError("no volume plugin matched")
