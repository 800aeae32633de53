"""Image volumes (KEP-4639): an image's files as a volume, pulled as containers' images are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .narration import Narrator
from .parts import Parts

if TYPE_CHECKING:
    from sampan.api.errors import Object


class VolumeNarrator(Narrator):
    """Tells of the image of a volume: no container is concerned."""

    def container(self, container: Mapping[str, Any], kind: str, reason: str, message: str) -> None:
        self.pod(kind, reason, message)


async def mount_images(parts: Parts, pod: Object, secrets: list[Object]) -> None:
    """Pull and mount the pod's image volumes; those that are mounted stay as they are.

    Raises Held for what keeps an image from coming, RuntimeFailure and OSError.
    """
    uid = pod["metadata"]["uid"]
    narrator = VolumeNarrator(parts.recorder, pod)
    for volume in pod["spec"].get("volumes") or ():
        source, name = volume.get("image"), volume["name"]
        if source is None or parts.volumes.has_image(uid, name):
            continue
        wanted = {
            "name": name,
            "image": source.get("reference") or "",
            "imagePullPolicy": source.get("pullPolicy") or "",
        }
        image = await parts.pulls.ensure(wanted, secrets, narrator)
        parts.volumes.mount_image(uid, name, await parts.images.open_layers(image.id))
