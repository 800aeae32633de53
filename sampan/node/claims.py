"""The volumes of a pod that are somewhere else: behind claims, or a provider's own. They are found,
checked, mounted, and given to the pod's fsGroup."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import perf_counter

from sampan.api.errors import NotFound, Object, StatusError
from sampan.api.resources import api_resource
from sampan.api.volumes import claim_name, is_block
from sampan.client.api import Client

from .providers import Providers
from .volumes.claim import Claimed, bound_volume, check_use, check_volume, volume_path
from .volumes.devices import is_device
from .volumes.ownership import give_to_group
from .volumes.plugins import MAP, MOUNT, Note, plugin_of, unnoted
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
        self.plugins: dict[str, str] = {}
        """What provides it, in upstream's words."""

    @property
    def next_at(self) -> float:
        """0: never."""
        return min((at for at in self.again.values() if at), default=0.0)


def is_local(pod: Object, volume: Object) -> bool:
    """Is the volume made on the node, of nothing but what the pod says?"""
    return not claim_name(pod["metadata"]["name"], volume) and PROVIDED.isdisjoint(volume)


async def find_volumes(
    client: Client,
    providers: Providers,
    pod: Object,
    known: Found,
    now: float,
    *,
    note: Note = unnoted,
) -> None:
    """Add to `known` what is missing or due; a bound claim does not change. `note` is told of
    each.

    Raises VolumeError with the text of the event.
    """
    for volume in pod["spec"].get("volumes") or ():
        name = volume["name"]
        if is_local(pod, volume):
            continue
        claim = claim_name(pod["metadata"]["name"], volume)
        due = known.again.get(name, 0.0)
        if name in known.paths and not (due and now >= due):
            continue
        bound: tuple[Object, Object] | None = None
        began, good, waits = perf_counter(), False, False
        try:
            if claim:
                bound = await _bound(client, pod, volume, claim)
                check_use(pod, name, bound[1])
            made = await providers.publish(pod, volume, bound, again=name in known.paths)
            if made is None and bound is not None:
                if is_block(bound[1]):
                    # In a thread: who is behind a device may be slow to answer.
                    uid = pod["metadata"]["uid"]
                    made = await asyncio.to_thread(providers.devices.map, uid, bound[1]), 0.0
                else:
                    made = await _place(pod, volume, bound[1], providers), 0.0
            if made is not None:
                known.paths[name], known.again[name] = made
            good = True
        except NotYet:
            waits = True
            raise
        except (VolumeError, StatusError, OSError) as error:
            step = error.step if isinstance(error, VolumeError) else VolumeError.step
            spec_name = bound[1]["metadata"]["name"] if bound else name
            reason = error.reason if isinstance(error, VolumeError) else ""
            text = f'{step} failed for volume "{spec_name}" : {error}'
            raise VolumeError(text, reason) from error
        finally:
            known.plugins[name] = plugin_of(bound[1]["spec"] if bound else volume)
            operation = MAP if bound is not None and is_block(bound[1]) else MOUNT
            if not waits:
                note(known.plugins[name], operation, perf_counter() - began, good)


async def _bound(client: Client, pod: Object, volume: Object, name: str) -> tuple[Object, Object]:
    """A claim and the PersistentVolume behind it."""
    namespace = pod["metadata"]["namespace"]
    try:
        claim = await client.get(api_resource("persistentvolumeclaims"), name, namespace)
    except NotFound:
        raise VolumeError(f'persistentvolumeclaim "{name}" not found') from None
    chosen = bound_volume(claim, pod, own="ephemeral" in volume)
    found = await client.get(api_resource("persistentvolumes"), chosen)
    check_volume(found, claim)
    return claim, found


async def _place(pod: Object, volume: Object, found: Object, providers: Providers) -> Path:
    if is_device(found):
        mount, uid = providers.devices.mount, pod["metadata"]["uid"]
        place = Claimed(await asyncio.to_thread(mount, uid, found), owned=True)
    else:
        place = volume_path(found)
    shared = pod["spec"].get("securityContext") or {}
    group = shared.get("fsGroup")
    read_only = bool((volume.get("persistentVolumeClaim") or {}).get("readOnly"))
    if group is not None and place.owned and not read_only:
        policy = shared.get("fsGroupChangePolicy") or ""
        await asyncio.to_thread(give_to_group, place.path, int(group), policy)
    return place.path
