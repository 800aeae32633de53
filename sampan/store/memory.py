"""A store that forgets: for tests, and for clusters that live as long as a test."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from .engine import Engine
from .interface import Event
from .mvcc import State


class NoJournal:
    """Everything is durable at once."""

    def append(
        self, events: Sequence[Event], dead: Sequence[int], oldest: int
    ) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def close(self) -> None:
        pass


class MemoryStore(Engine):
    """An empty store, or one that begins with `state`; needs a running event loop only when it is
    used."""

    def __init__(self, state: State | None = None) -> None:
        super().__init__(state or State(), NoJournal())
