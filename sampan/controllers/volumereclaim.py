"""What becomes of a volume whose claim is gone. Pure."""

from __future__ import annotations

from typing import NamedTuple

from sampan.api.errors import Object
from sampan.api.volumes import PROVISIONED_BY, annotation


class Verdict(NamedTuple):
    """Why it cannot be reclaimed: reason and message of the event."""

    reason: str
    text: str


def reclaim(volume: Object) -> Verdict | None:
    """None when it is kept, or its provisioner takes it
    away. Volumes that an administrator made are of types that nothing here can delete or scrub."""
    spec = volume["spec"]
    policy = spec.get("persistentVolumeReclaimPolicy") or "Retain"
    if policy == "Delete" and not annotation(volume, PROVISIONED_BY) and not spec.get("csi"):
        text = f'error getting deleter volume plugin for volume "{volume["metadata"]["name"]}": '
        return Verdict("VolumeFailedDelete", f"{text}no deletable volume plugin matched")
    if policy == "Recycle":
        return Verdict("VolumeFailedRecycle", "No recycler plugin found for the volume!")
    return None
