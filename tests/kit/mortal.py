"""A transport that dies: what was written last is made, and its answer never comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from sampan.api.errors import Object
from sampan.client.interface import Transport, WatchEvent


class Mortal:
    """Dies after its n-th write; 0 never dies. What is aside neither counts nor kills."""

    aside: tuple[str, ...] = ("/events",)
    """The ends of paths whose writes are not the work that is looked at."""

    def __init__(self, inner: Transport, writes: int) -> None:
        self.inner = inner
        self.left = writes
        self.writes = 0
        self.dead = asyncio.Event()

    async def request(self, method: str, path: str, **more: Any) -> Object:
        if self.dead.is_set():
            await asyncio.Event().wait()
        if method == "GET":
            return await self.read(path, more)
        if path.endswith(self.aside):
            return await self.inner.request(method, path, **more)
        self.writes += 1
        self.left -= 1
        if self.left:
            return await self.inner.request(method, path, **more)
        self.dead.set()
        await self.inner.request(method, path, **more)
        await asyncio.Event().wait()
        raise AssertionError

    async def read(self, path: str, more: dict[str, Any]) -> Object:
        return await self.inner.request("GET", path, **more)

    def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[WatchEvent]:
        return self.inner.watch(path, query)

    async def close(self) -> None:
        pass
