"""Logs of pods that were deleted, kept for a while: `sampan logs pod/x --deleted`.

A pod's folder of logs is renamed into `deleted-logs` below the node's data when the pod is gone,
which costs as little as removing it. Bounds: `KEPT_S` of age, `PODS_MAX` folders, `BYTES_MAX` in
all, oldest first; looked at once in `PRUNE_S`, at the agent's ticks, and only where something is
kept. A node that is short of disk lets all of them go before any pod.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from .footprint import footprint

log = logging.getLogger("sampan.node.keeping")

KEPT_S = 3600.0
PODS_MAX = 500
BYTES_MAX = 256 << 20
PRUNE_S = 60.0


class Kept(Struct, frozen=True):
    """The logs of one deleted pod."""

    namespace: str
    name: str
    uid: str
    deleted_at: float
    path: Path

    def containers(self) -> list[str]:
        return sorted(item.name for item in self.path.iterdir() if item.is_dir())

    def log(self, container: str, previous: bool = False) -> Path | None:
        """The log of its last run, or of the one before. The name is checked against what is
        there, so none leads out."""
        if container not in self.containers():
            return None
        runs = [item for item in (self.path / container).glob("*.log") if item.stem.isdigit()]
        runs.sort(key=lambda item: int(item.stem))
        place = -2 if previous else -1
        return runs[place] if len(runs) >= -place else None


class KeptLogs:
    def __init__(self, folder: Path, now: Callable[[], float]) -> None:
        self._folder = folder
        self._now = now
        self._pruned_at = 0.0
        self._pruning: asyncio.Task[None] | None = None

    def keep(self, path: Path) -> None:
        """Take the folder NAMESPACE_NAME_UID of a pod that is gone; none is fine."""
        target = self._folder / path.name
        try:
            if not any(path.glob("*/*.log")):
                shutil.rmtree(path, ignore_errors=True)
                return
            self._folder.mkdir(exist_ok=True)
            # A static pod comes again under its uid.
            shutil.rmtree(target, ignore_errors=True)
            # First, or an agent killed in between leaves a folder that looks old.
            os.utime(path, (self._now(), self._now()))
            path.rename(target)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("logs of %s are not kept: %s", path.name, error)
            shutil.rmtree(path, ignore_errors=True)

    def found(self) -> list[Kept]:
        """Newest first."""
        out = []
        try:
            entries = list(os.scandir(self._folder))
        except FileNotFoundError:
            return []
        for entry in entries:
            parts = entry.name.split("_")
            if len(parts) == 3 and entry.is_dir(follow_symlinks=False):
                at = entry.stat(follow_symlinks=False).st_mtime
                out.append(Kept(parts[0], parts[1], parts[2], at, Path(entry.path)))
        return sorted(out, key=lambda item: -item.deleted_at)

    def beat(self) -> None:
        """Now and then, let go what is too old or too much, in a thread."""
        if self._now() - self._pruned_at < PRUNE_S and self._pruned_at <= self._now():
            return
        self._pruned_at = self._now()
        if self._pruning is None and self._folder.is_dir():
            self._pruning = asyncio.create_task(self._prune(), name="kept logs")

    async def _prune(self) -> None:
        try:
            await asyncio.to_thread(self.prune)
        finally:
            self._pruning = None

    def prune(self) -> None:
        """Blocks."""
        left = BYTES_MAX
        for place, item in enumerate(self.found()):
            left -= footprint(item.path, BYTES_MAX).size_bytes
            if place >= PODS_MAX or left < 0 or self._now() - item.deleted_at > KEPT_S:
                shutil.rmtree(item.path, ignore_errors=True)

    async def clear(self) -> None:
        """All of them: the disk is needed."""
        await asyncio.to_thread(shutil.rmtree, self._folder, True)
