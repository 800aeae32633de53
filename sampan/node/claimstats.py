"""How full the volumes behind claims are: for /stats/summary and kubelet_volume_stats_* of /metrics
(pkg/kubelet/server/stats, pkg/kubelet/metrics/collectors).

No task: who asks has those looked at that are due, each in a thread. A file server that does not
answer keeps one thread and no more; its volume is left out until it does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from sampan.api.volumes import claim_name

from .exposition import Family
from .facts import Disk, read_disk

if TYPE_CHECKING:
    from .agent import Agent

BLOCKS = "volumeDevices"
FRESH_S = 60.0
"""How old a figure may be (volumeStatsAggPeriod)."""
WAIT_S = 1.0
FAMILIES: tuple[tuple[str, str, Callable[[Disk], int]], ...] = (
    ("capacity_bytes", "Capacity in bytes of the volume", lambda disk: disk.capacity_bytes),
    ("available_bytes", "Number of available bytes in the volume",
     lambda disk: disk.available_bytes),
    ("used_bytes", "Number of used bytes in the volume",
     lambda disk: disk.capacity_bytes - disk.available_bytes),
    ("inodes", "Maximum number of inodes in the volume", lambda disk: disk.inodes),
    ("inodes_free", "Number of free inodes in the volume", lambda disk: disk.inodes_free),
    ("inodes_used", "Number of used inodes in the volume",
     lambda disk: disk.inodes - disk.inodes_free),
)  # fmt: skip


class ClaimDisk(Struct, frozen=True):
    """One volume of one pod."""

    uid: str
    volume: str
    namespace: str
    claim: str
    disk: Disk


class ClaimStats:
    """Of one node."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._known: dict[Path, tuple[float, Disk]] = {}
        self._looks: dict[Path, asyncio.Task[None]] = {}

    async def read(self) -> list[ClaimDisk]:
        """All that are known, once those that are due had their time."""
        found = [*self._claims()]
        paths = {path for *_, path in found}
        self._known = {path: item for path, item in self._known.items() if path in paths}
        now = self._agent.parts.clock.now()
        for path in paths - self._looks.keys():
            if path not in self._known or now - self._known[path][0] > FRESH_S:
                self._looks[path] = asyncio.create_task(self._look(path, now), name=f"df {path}")
        if self._looks:
            await asyncio.wait(self._looks.values(), timeout=WAIT_S)
        return [
            ClaimDisk(uid, volume, namespace, claim, self._known[path][1])
            for uid, volume, namespace, claim, path in found
            if path in self._known
        ]

    async def _look(self, path: Path, now: float) -> None:
        try:
            self._known[path] = now, await asyncio.to_thread(read_disk, path)
        except OSError:
            self._known.pop(path, None)
        finally:
            del self._looks[path]

    def _claims(self) -> Iterator[tuple[str, str, str, str, Path]]:
        """(pod's uid, volume, namespace, claim, path) of what is mounted."""
        for worker in self._agent.workers.values():
            meta = worker.state.pod["metadata"]
            for volume in worker.state.spec.get("volumes") or ():
                claim = claim_name(meta["name"], volume)
                path = worker.sandbox.volumes.get(volume["name"])
                if claim and path is not None and not (worker.state.stopped or is_device(path)):
                    yield meta["uid"], volume["name"], meta["namespace"], claim, path


def is_device(path: Path) -> bool:
    """Block volumes have no files to be counted. They are known by where they are: who serves a
    mount may never answer."""
    return path.parent == Path("/dev") or BLOCKS in path.parts


def families(found: list[ClaimDisk]) -> Iterator[Family]:
    """A claim that several pods use counts once."""
    disks = {(item.namespace, item.claim): item.disk for item in found}
    for name, text, figure in FAMILIES:
        rows = [
            ({"namespace": namespace, "persistentvolumeclaim": claim}, float(figure(disk)))
            for (namespace, claim), disk in sorted(disks.items())
        ]
        yield f"kubelet_volume_stats_{name}", "gauge", f"[ALPHA] {text}", rows
