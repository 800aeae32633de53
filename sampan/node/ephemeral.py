"""Pods that outgrow what they may write on the node's disk are evicted (localStorageEviction).

Three limits, as upstream's: an emptyDir's sizeLimit, a container's ephemeral-storage (its root and
its log), and that of all containers of a pod together, for all the pod has written. Task: `run`,
under the agent's supervisor, looks when it is told to (`beat`, at the agent's own ticks) and only
at pods that have a limit, one after the other in a thread. Volumes in memory cannot grow beyond
theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from sampan.api.errors import Object
from sampan.wire.quantity import BINARY, QuantityError, parse, whole, whole_text

from .footprint import NOTHING, Footprint, footprint

RESOURCE = "ephemeral-storage"


class Written(Struct, frozen=True):
    """Where a pod writes on the node's disk."""

    volumes: Mapping[str, Path] = field(default_factory=dict)
    """Its emptyDirs on disk, by name."""
    containers: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    """The folders of each container: the upper layer of its root, and its logs."""
    own: tuple[Path, ...] = ()
    """What the node made for the pod and its containers may write to: its files of /etc and its
    termination messages (CVE-2020-8557)."""


class Tenant(Struct, frozen=True):
    pod: Object
    written: Written
    evict: Callable[[str, str], None]
    """Called with the signal, for the metrics, and the message."""


def has_limit(spec: Mapping[str, Any]) -> bool:
    """Cheap: most pods have none."""
    return any(
        RESOURCE in ((item.get("resources") or {}).get("limits") or ())
        for item in (*spec["containers"], *(spec.get("initContainers") or ()))
    ) or any((item.get("emptyDir") or {}).get("sizeLimit") for item in spec.get("volumes") or ())


def volume_limits(spec: Mapping[str, Any]) -> dict[str, str]:
    """Of emptyDirs on disk that have one."""
    out = {}
    for volume in spec.get("volumes") or ():
        source = volume.get("emptyDir") or {}
        if source.get("sizeLimit") is not None and not source.get("medium"):
            out[str(volume["name"])] = str(source["sizeLimit"])
    return {name: text for name, text in out.items() if _size(text) > 0}


def container_limits(spec: Mapping[str, Any]) -> dict[str, str]:
    found = {
        item["name"]: ((item.get("resources") or {}).get("limits") or {}).get(RESOURCE)
        for item in (*spec["containers"], *(spec.get("initContainers") or ()))
    }
    return {name: str(text) for name, text in found.items() if text is not None}


def excess(pod: Object, written: Written) -> tuple[str, str] | None:
    """(signal, message) for the first limit that is passed; in upstream's order. Blocks."""
    spec = pod["spec"]
    for name, text in volume_limits(spec).items():
        if name in written.volumes:
            limit = _size(text)
            if footprint(written.volumes[name], limit).size_bytes > limit:
                return "emptydirfs.limit", (
                    f'Usage of EmptyDir volume "{name}" exceeds the limit "{text}". '
                )
    limits = container_limits(spec)
    if not limits:
        return None
    used = {name: measured(folders) for name, folders in written.containers.items()}
    total = sum(each.size_bytes for each in used.values())
    total += measured((*written.volumes.values(), *written.own)).size_bytes
    most = sum(map(_size, limits.values()))
    if total > most:
        shown = next(iter(limits.values())) if len(limits) == 1 else whole_text(most, BINARY)
        return "ephemeralpodfs.limit", (
            f"Pod ephemeral local storage usage exceeds the total limit of containers {shown}. "
        )
    for container in spec["containers"]:
        name = container["name"]
        if name in limits and used.get(name, NOTHING).size_bytes > _size(limits[name]):
            return "ephemeralcontainerfs.limit", (
                f'Container {name} exceeded its local ephemeral storage limit "{limits[name]}". '
            )
    return None


def measured(folders: Iterable[Path]) -> Footprint:
    total = NOTHING
    for folder in folders:
        total = total.plus(footprint(folder))
    return total


def _size(text: str) -> int:
    try:
        parse(text)
    except QuantityError:
        return 0
    return whole(text)


class LocalStorage:
    """`tenants` gives the pods there are to look at now."""

    def __init__(self, tenants: Callable[[], Iterable[Tenant]]) -> None:
        self._tenants = tenants
        self._told = asyncio.Event()

    def beat(self) -> None:
        """Look soon; while a look is under way, once more after it."""
        self._told.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._told.wait()
            self._told.clear()
            for tenant in [item for item in self._tenants() if has_limit(item.pod["spec"])]:
                found = await asyncio.to_thread(excess, tenant.pod, tenant.written)
                if found is not None:
                    tenant.evict(*found)
