"""Container logs are cut at a size; the last files are kept, and no more bytes than they may have.

`beat` is called at the agent's ticks: one stat per container. The full file is renamed and
the runtime opens a new one under the old name; a reader that follows the log goes on with it.
Task: at most one, only while some log grows fast: then they are looked at every `HURRY_S`, so that
a container that floods its log fills no disk between two ticks (upstream: ten seconds).
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from sampan.aio.clock import Clock
from sampan.runtime.interface import Container, RuntimeFailure, State

from .logs import LINE_MAX

log = logging.getLogger("sampan.node.rotation")

HURRY_S = 0.25
CALM_S = 10.0
"""As long nothing grows fast before the looks become rare again."""
TRIM_BYTES = 1 << 30
"""Copied by the kernel at a time."""
FAST_SHARE = 4
"""A log that grew by this part of its size since the last look grows fast."""


class Rotation:
    """Of one node's logs: `size_max` bytes each, `files_max` files with the present one."""

    def __init__(
        self,
        containers: Callable[[], Iterable[Container]],
        reopen: Callable[[str], None],
        clock: Clock,
        limits: tuple[int, int],
    ) -> None:
        self._containers = containers
        self._reopen = reopen
        self._clock = clock
        self._size_max, self._files_max = limits
        self._sizes: dict[str, int] = {}
        self._last_ns = 0
        self._hurry: asyncio.Task[None] | None = None

    def beat(self) -> None:
        """Rotate what has grown too long, and go on looking while something grows fast."""
        if self.look() and self._hurry is None:
            self._hurry = asyncio.create_task(self._follow(), name="fast logs")

    def close(self) -> None:
        if self._hurry is not None:
            self._hurry.cancel()

    async def _follow(self) -> None:
        try:
            until = self._clock.monotonic() + CALM_S
            while self._clock.monotonic() < until:
                await self._clock.sleep(HURRY_S)
                if self.look():
                    until = self._clock.monotonic() + CALM_S
        finally:
            self._hurry = None

    def look(self) -> bool:
        """Once; true when some log grows fast."""
        fast, sizes = False, {}
        for container in self._containers():
            path = container.log_path
            if container.state == State.CREATED:
                continue
            try:
                size, before = self._size(container), self._sizes.get(container.id)
                if container.state == State.EXITED:
                    sizes[container.id] = size if size == before else self._settle(path)
                    continue
                if before is None:
                    before = 0
                    self._prune(path)
                fast = fast or size - before > self._size_max // FAST_SHARE
                if size >= self._size_max:
                    self._rotate(container.id, path)
                    size = 0
            except (OSError, RuntimeFailure) as error:
                log.warning("log of container %s: %s", container.id[:12], error)
                continue
            sizes[container.id] = size
        self._sizes = sizes
        return fast

    def _settle(self, path: Path) -> int:
        """Cut what an ended container has left to what it may keep; the size of the present file.
        Its former files are looked at too: the agent that renamed the last may have been killed
        before it could prune them."""
        _draft(path).unlink(missing_ok=True)
        self._prune(path)
        size = os.stat(path).st_size
        if size > self._size_max and size > (room := self._room(path)):
            _trim(path, size - room)
        return os.stat(path).st_size

    def _size(self, container: Container) -> int:
        """Of the present file. There is none where an agent was killed when it had renamed the
        file and not yet opened another: all that was said since then is in the former one."""
        path = container.log_path
        try:
            return os.stat(path).st_size
        except FileNotFoundError:
            former = rotated(path)
            if not former:
                raise
        if container.state == State.RUNNING:
            self._reopen(container.id)
            self._prune(path)
        else:
            former[-1].rename(path)
        return os.stat(path).st_size

    def _rotate(self, container_id: str, path: Path) -> None:
        # Unique and in order, whatever the clock does within a second or between two.
        self._last_ns = max(self._last_ns + 1, int(self._clock.now() * 1e9))
        seconds, rest = divmod(self._last_ns, 10**9)
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(seconds))
        target = path.with_name(f"{path.name}.{stamp}.{rest:09d}")
        path.rename(target)
        self._reopen(container_id)
        self._prune(path)

    def _room(self, path: Path) -> int:
        """What the present file may hold beside the former ones."""
        former = sum(os.stat(old).st_size for old in rotated(path))
        return max(self._size_max, self._size_max * self._files_max - former)

    def _prune(self, path: Path) -> None:
        """The newest files, as many as there may be and as many bytes."""
        room = self._size_max * (self._files_max - 1)
        for place, old in enumerate(reversed(rotated(path)), 1):
            room -= os.stat(old).st_size
            # A part of a second's flood may be larger than all there may be: the newest stays,
            # unless it is more than that by itself.
            if place >= self._files_max or room < 0:
                old.unlink(missing_ok=True)


def _trim(path: Path, excess: int) -> None:
    """What a container said that ended before anybody looked: no more than others keep."""
    draft = _draft(path)
    with open(path, "rb") as source, open(draft, "wb") as target:
        source.seek(excess)
        # From the start of a line on.
        source.readline(LINE_MAX)
        offset = source.tell()
        while sent := os.sendfile(target.fileno(), source.fileno(), offset, TRIM_BYTES):
            offset += sent
    draft.replace(path)


def _draft(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def rotated(path: Path) -> list[Path]:
    """The former files of a log, oldest first."""
    return sorted(path.parent.glob(f"{path.name}.*"))
