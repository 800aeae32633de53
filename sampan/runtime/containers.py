"""What every runtime knows of its containers, and what it tells of them from memory.

Queue: `exits` holds at most one entry per container that exists.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from ..linux import cgroups
from . import limits
from .interface import Container, Resources, RuntimeFailure, State
from .places import Places

if TYPE_CHECKING:
    from ..linux.blockio import Transfers


class Held(Protocol):
    """One container, as its runtime holds it."""

    ended: asyncio.Event

    @property
    def container(self) -> Container: ...


E = TypeVar("E", bound=Held)


class Containers(Generic[E]):
    """The part of `Runtime` that is the same whatever makes the containers."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._entries: dict[str, E] = {}
        self._exited: OrderedDict[str, Container] = OrderedDict()
        self._news = asyncio.Event()

    def get(self, container_id: str) -> Container | None:
        entry = self._entries.get(container_id)
        return entry.container if entry is not None else None

    def list(self) -> Sequence[Container]:
        return [entry.container for entry in self._entries.values()]

    async def exits(self) -> AsyncIterator[Container]:
        while True:
            while self._exited:
                yield self._exited.popitem(last=False)[1]
            self._news.clear()
            await self._news.wait()

    def _tell(self, entry: E) -> None:
        """Say by `exits` that it has ended."""
        self._exited[entry.container.id] = entry.container
        self._news.set()

    def _find(self, container_id: str) -> E:
        """Raises RuntimeFailure."""
        entry = self._entries.get(container_id)
        if entry is None:
            raise RuntimeFailure(f"container {container_id} not found")
        return entry

    def _find_running(self, container_id: str) -> E:
        """Raises RuntimeFailure."""
        entry = self._find(container_id)
        if entry.container.state is not State.RUNNING:
            raise RuntimeFailure("cannot exec or attach: the container is not running")
        return entry

    def group_usage(self, cgroup_parent: str) -> cgroups.Usage:
        return cgroups.usage(f"{self._places.cgroup_root}/{cgroup_parent}")

    def transfers(self, cgroup: str) -> Transfers:
        # Loaded by who is asked for metrics.
        from ..linux import blockio

        return blockio.transfers(f"{self._places.cgroup_root}/{cgroup}")

    def limit_group(self, cgroup_parent: str, resources: Resources) -> None:
        """Limits for all containers of a group together."""
        limits.limit(f"{self._places.cgroup_root}/{cgroup_parent}", resources, make=True)


async def all_ended(entries: Iterable[Held], grace_s: float) -> None:
    """Wait for all of them to end, but no longer than this."""
    waits = [asyncio.ensure_future(entry.ended.wait()) for entry in entries]
    if waits:
        _, late = await asyncio.wait(waits, timeout=grace_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
