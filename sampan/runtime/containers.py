"""What every runtime knows of its containers, and what it tells of them from memory.

Queue: `exits` holds at most one entry per container that exists.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Sequence
from signal import SIGTERM
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from ..linux import cgroups
from . import limits
from .interface import Container, ExecStreams, Resources, RuntimeFailure, State
from .places import Places
from .verbs.exec import exec_
from .verbs.kill import kill

if TYPE_CHECKING:
    from ..linux.blockio import Transfers


class Held(Protocol):
    """One container, as its runtime holds it."""

    ended: asyncio.Event
    pidfd: int | None
    removal: asyncio.Lock
    """Held by who deletes it."""

    @property
    def container(self) -> Container: ...

    @property
    def group(self) -> str:
        """Its own cgroup."""
        ...


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

    async def exec(
        self,
        container_id: str,
        args: Sequence[str],
        *,
        tty: bool = False,
        stdin: bool = False,
    ) -> ExecStreams:
        self._find_running(container_id)
        return await exec_(self._places, container_id, args, tty=tty, stdin=stdin)

    async def kill(self, container_id: str, signal: int) -> None:
        entry = self._entries.get(container_id)
        if entry is not None:
            kill(entry.pidfd, signal)

    async def delete(self, container_id: str) -> None:
        """Who comes while another one deletes it waits, and tries again if that one failed."""
        entry = self._entries.get(container_id)
        if entry is None:
            return
        async with entry.removal:
            if self._entries.get(container_id) is entry:
                self._exited.pop(container_id, None)
                await self._delete(entry)

    async def _delete(self, entry: E) -> None:
        """It is no entry any more, or RuntimeFailure is raised."""
        raise NotImplementedError

    async def _delete_all(self, grace_s: float) -> None:
        """After a time to end by themselves."""
        living = [
            entry
            for entry in self._entries.values()
            if entry.pidfd is not None and not entry.ended.is_set()
        ]
        for entry in living:
            kill(entry.pidfd, SIGTERM)
        await all_ended(living, grace_s)
        await asyncio.gather(*(self.delete(container_id) for container_id in list(self._entries)))

    def usage(self, container_id: str) -> cgroups.Usage:
        entry = self._entries.get(container_id)
        return cgroups.Usage() if entry is None else cgroups.usage(entry.group)

    def limit(self, container_id: str, resources: Resources) -> None:
        """Other limits for a container that runs, without a restart."""
        limits.limit(self._find_running(container_id).group, resources)

    def pin(self, container_id: str, cpus: str) -> None:
        limits.pin(self._find_running(container_id).group, cpus)

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
