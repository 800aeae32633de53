"""The claims behind a pod's volumes: found, checked, and given to its fsGroup."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sampan.api.errors import NotFound, Object, StatusError
from sampan.api.resources import resource
from sampan.api.volumes import claim_name
from sampan.client.api import Client

from .volumes.claim import bound_volume, check_volume, volume_path
from .volumes.ownership import give_to_group
from .volumes.source import VolumeError


async def find_claims(client: Client, pod: Object, known: dict[str, Path]) -> None:
    """Add to `known` (claim to its directory) what is missing; a bound claim does not change.

    Raises VolumeError with the text of the event.
    """
    meta = pod["metadata"]
    for volume in pod["spec"].get("volumes") or ():
        name = claim_name(meta["name"], volume)
        if name and name not in known:
            try:
                known[name] = await _find(client, pod, volume, name)
            except (VolumeError, StatusError, OSError) as error:
                start = f'MountVolume.SetUp failed for volume "{volume["name"]}" : '
                raise VolumeError(f"{start}{error}") from error


async def _find(client: Client, pod: Object, volume: Object, name: str) -> Path:
    namespace = pod["metadata"]["namespace"]
    try:
        claim = await client.get(resource("persistentvolumeclaims"), name, namespace)
    except NotFound:
        raise VolumeError(f'persistentvolumeclaim "{name}" not found') from None
    bound = bound_volume(claim, pod, own="ephemeral" in volume)
    found = await client.get(resource("persistentvolumes"), bound)
    check_volume(found, claim)
    place = volume_path(found)
    shared = pod["spec"].get("securityContext") or {}
    group = shared.get("fsGroup")
    read_only = bool((volume.get("persistentVolumeClaim") or {}).get("readOnly"))
    if group is not None and place.owned and not read_only:
        policy = shared.get("fsGroupChangePolicy") or ""
        await asyncio.to_thread(give_to_group, place.path, int(group), policy)
    return place.path
