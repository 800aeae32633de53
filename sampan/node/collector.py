"""Images that nobody uses go when the disk fills, or when they are old (pkg/kubelet/images).

Task: `run`, every `PERIOD_S`. `delete_unused` is for who is short of disk already. What is in use
is what any container was made of, running or not, and what pods that are here want; that is never
removed. Nor are images that were loaded from a file and still have their tag: nobody could give
them again. When an image was last used is known since the agent started, as upstream.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from sampan.aio.clock import Clock
from sampan.api.errors import Object
from sampan.runtime.interface import Image, Images, RuntimeFailure
from sampan.runtime.records import read_record

from .facts import Disk, read_disk
from .settings import Settings
from .tidings import reference

if TYPE_CHECKING:
    from .agent import Agent

log = logging.getLogger("sampan.node.collector")

PERIOD_S = 300.0
SPACE, AGE = "space", "age"


class Record(Struct):
    added_at: float = 0.0
    last_used: float = 0.0


class Failure(Exception):
    """Not enough could be removed; the text is for an event."""


class Collector:
    """One node's."""

    def __init__(
        self,
        images: Images,
        clock: Clock,
        settings: Settings,
        *,
        used: Callable[[], Iterable[str]],
        disk: Callable[[], Disk],
        tell: Callable[[str, str], None],
        gone: Callable[[str], None],
    ) -> None:
        """`used` gives ids of images in use, `disk` what there is of it; `tell` takes
        reason and text of a warning about the node; `gone` learns what was removed."""
        self._images = images
        self._clock = clock
        self._settings = settings
        self._used = used
        self._disk = disk
        self._tell = tell
        self._gone = gone
        self._began = clock.now()
        self._records: dict[str, Record] = {}
        self._failed = False
        self._busy = asyncio.Lock()
        self.removed: Counter[str] = Counter()
        """How many images went, by reason."""

    async def run(self) -> None:
        """Until cancelled."""
        self._detect()
        if self._settings.image_high_percent == 100 and not self._settings.image_maximum_age_s:
            return
        while True:
            await self._clock.sleep(PERIOD_S)
            try:
                await self.collect()
                self._failed = False
            except (Failure, OSError) as error:
                log.warning("collecting images: %s", error)
                if self._failed:
                    self._tell("ImageGCFailed", str(error))
                self._failed = True

    async def collect(self) -> None:
        """One round. Raises Failure when the disk stays too full, OSError."""
        async with self._busy:
            now = self._clock.now()
            candidates = await self._remove_old(self._candidates(), now)
            disk = self._disk()
            capacity = disk.capacity_bytes
            available = min(disk.available_bytes, capacity)
            if capacity == 0:
                text = "invalid capacity 0 on image filesystem"
                self._tell("InvalidDiskCapacity", text)
                raise Failure(text)
            used_percent = 100 - available * 100 // capacity
            if used_percent < self._settings.image_high_percent:
                return
            wanted = capacity * (100 - self._settings.image_low_percent) // 100 - available
            freed = await self._free(candidates, wanted, now)
            if freed < wanted:
                text = (
                    "Insufficient free disk space on the node's image filesystem "
                    f"({used_percent}% of {size_text(capacity)} used). Failed to free sufficient "
                    f"space by deleting unused images (freed {freed} bytes). Investigate disk "
                    "usage, as it could be used by active images, logs, volumes, or other data."
                )
                self._tell("FreeDiskSpaceFailed", text)
                raise Failure(text)

    async def delete_unused(self) -> None:
        """Everything that may go, now: the node is short of disk."""
        async with self._busy:
            now = self._clock.now()
            freed = await self._free(self._candidates(), 1 << 62, now)
            log.info("unused images are removed: %d bytes", freed)

    def _detect(self) -> set[str]:
        """Note what is here; the ids of what is in use."""
        used = set(self._used())
        images = {image.id: image.added_at for image in self._images.list()}
        for image_id, added_at in images.items():
            record = self._records.setdefault(image_id, Record())
            record.added_at = added_at
            if image_id in used:
                record.last_used = self._clock.now()
        for image_id in self._records.keys() - images.keys():
            del self._records[image_id]
        return used

    def _candidates(self) -> Sequence[Image]:
        """What nobody uses, in the order it goes."""
        used = self._detect()
        free = [image for image in self._images.list() if not image.pinned and image.id not in used]
        return sorted(
            free,
            key=lambda image: (
                self._records[image.id].last_used,
                self._records[image.id].added_at,
            ),
        )

    async def _remove_old(self, images: Sequence[Image], now: float) -> Sequence[Image]:
        """What is left of them. Uses before the agent's start are unknown: it waits that long."""
        maximum = self._settings.image_maximum_age_s
        if not maximum or now - self._began <= maximum:
            return images
        left = []
        for image in images:
            old = now - self._records[image.id].last_used > maximum
            if not old or not await self._remove(image, now, AGE):
                left.append(image)
        return left

    async def _free(self, images: Sequence[Image], wanted: int, now: float) -> int:
        freed = 0
        for image in images:
            if freed >= wanted:
                break
            if await self._remove(image, now, SPACE):
                freed += image.size_bytes
        return freed

    async def _remove(self, image: Image, now: float, reason: str) -> bool:
        if now - self._records[image.id].added_at < self._settings.image_minimum_age_s:
            return False
        # A pod may have come while others were removed.
        if image.id in self._used():
            return False
        try:
            await self._images.remove(image.id)
        except (RuntimeFailure, OSError) as error:
            log.warning("image %s: %s", image.id, error)
            return False
        log.info("image %s %s is removed (%s)", image.id, " ".join(image.tags), reason)
        self._records.pop(image.id, None)
        self.removed[reason] += 1
        self._gone(image.id)
        return True


def collector_of(agent: Agent) -> Collector:
    """The agent's own. The node's event names it as kubelet does, by its name for an uid."""
    parts, name = agent.parts, agent.config.name
    about = reference(name)

    def used() -> Iterable[str]:
        for container in parts.runtime.list():
            yield container.image
        yield from used_beside(agent.config.beside())
        for worker in tuple(agent.workers.values()):
            for wanted in wanted_images(worker.state.pod):
                image = parts.images.find(wanted)
                if image is not None:
                    yield image.id

    def gone(image_id: str) -> None:
        parts.pulls.forget_image(image_id)
        agent.registration.refresh()

    return Collector(
        parts.images,
        parts.clock,
        agent.config.settings,
        used=used,
        disk=lambda: read_disk(agent.config.data),
        tell=lambda reason, text: agent.recorder.event(about, "Warning", reason, text),
        gone=gone,
    )


def used_beside(nodes: Iterable[Path]) -> Iterable[str]:
    """Images of the containers of this machine's other nodes, which have the same store. Read from
    their records when asked for: images are collected seldom."""
    for node in nodes:
        for path in node.glob("containers/*/record.json"):
            record = read_record(path)
            if record is not None:
                yield record.image


def size_text(size: int) -> str:
    """In kubelet's words: "26.4 GiB"."""
    amount, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            break
        amount /= 1024
    return f"{size} B" if unit == "B" else f"{amount:.1f} {unit}"


def wanted_images(pod: Object) -> Iterable[str]:
    """The names of all images that a pod's containers and volumes are made of."""
    spec = pod["spec"]
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(field) or ():
            yield container.get("image") or ""
    for volume in spec.get("volumes") or ():
        if volume.get("image"):
            yield volume["image"].get("reference") or ""
