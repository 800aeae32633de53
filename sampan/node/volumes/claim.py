"""persistentVolumeClaim volumes whose volume is a directory of this node (hostPath, local)."""

from __future__ import annotations

from pathlib import Path

from sampan.api.errors import Object

from .host_path import host_path
from .source import VolumeError


def bound_volume(claim: Object) -> str:
    """The name of the claim's volume. Raises VolumeError while it is not bound."""
    meta = claim["metadata"]
    name = claim["spec"].get("volumeName", "")
    if not name or (claim.get("status") or {}).get("phase") != "Bound":
        raise VolumeError(
            f"error processing PVC {meta['namespace']}/{meta['name']}: PVC is not bound"
        )
    return str(name)


def volume_path(volume: Object) -> Path:
    """Where a PersistentVolume lives on this node. Raises VolumeError for other types."""
    spec = volume["spec"]
    if spec.get("hostPath"):
        return host_path(spec["hostPath"])
    if spec.get("local"):
        path = Path(spec["local"]["path"])
        if not path.exists():
            raise VolumeError(f'path "{path}" does not exist')
        return path
    raise VolumeError("no volume plugin matched")
