"""The volumes of a pod that are somewhere else: behind claims, or a provider's own. They are found,
checked, mounted, and given to the pod's fsGroup."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sampan.api.errors import NotFound, Object, StatusError
from sampan.api.resources import resource
from sampan.api.volumes import claim_name
from sampan.client.api import Client

from .providers import Providers
from .volumes.claim import bound_volume, check_volume, volume_path
from .volumes.ownership import give_to_group
from .volumes.source import NotYet, VolumeError

PROVIDED = {"csi", "nfs"}
"""Types of volumes that are no claims and a provider's all the same."""


class Found:
    """What has been found of one pod's volumes."""

    def __init__(self) -> None:
        self.paths: dict[str, Path] = {}
        """By the volume's name."""
        self.again: dict[str, float] = {}
        """When to publish a volume again."""

    @property
    def next_at(self) -> float:
        """0: never."""
        return min((at for at in self.again.values() if at), default=0.0)


async def find_volumes(
    client: Client, providers: Providers, pod: Object, known: Found, now: float
) -> None:
    """Add to `known` what is missing or due; a bound claim does not change.

    Raises VolumeError with the text of the event.
    """
    for volume in pod["spec"].get("volumes") or ():
        name = volume["name"]
        claim = claim_name(pod["metadata"]["name"], volume)
        if not claim and PROVIDED.isdisjoint(volume):
            continue
        due = known.again.get(name, 0.0)
        if name in known.paths and not (due and now >= due):
            continue
        found: Object | None = None
        try:
            if claim:
                found = await _volume_of(client, pod, volume, claim)
            made = await providers.publish(pod, volume, found, again=name in known.paths)
            if made is None and found is not None:
                made = await _place(pod, volume, found), 0.0
            if made is not None:
                known.paths[name], known.again[name] = made
        except NotYet:
            raise
        except (VolumeError, StatusError, OSError) as error:
            step = error.step if isinstance(error, VolumeError) else VolumeError.step
            spec_name = found["metadata"]["name"] if found else name
            raise VolumeError(f'{step} failed for volume "{spec_name}" : {error}') from error


async def _volume_of(client: Client, pod: Object, volume: Object, name: str) -> Object:
    """The PersistentVolume behind a claim."""
    namespace = pod["metadata"]["namespace"]
    try:
        claim = await client.get(resource("persistentvolumeclaims"), name, namespace)
    except NotFound:
        raise VolumeError(f'persistentvolumeclaim "{name}" not found') from None
    bound = bound_volume(claim, pod, own="ephemeral" in volume)
    found = await client.get(resource("persistentvolumes"), bound)
    check_volume(found, claim)
    return found


async def _place(pod: Object, volume: Object, found: Object) -> Path:
    place = volume_path(found)
    shared = pod["spec"].get("securityContext") or {}
    group = shared.get("fsGroup")
    read_only = bool((volume.get("persistentVolumeClaim") or {}).get("readOnly"))
    if group is not None and place.owned and not read_only:
        policy = shared.get("fsGroupChangePolicy") or ""
        await asyncio.to_thread(give_to_group, place.path, int(group), policy)
    return place.path
