"""The drivers that have registered on this node, and calls to them.

A driver's abilities are asked once per registration. Every call has upstream's limit of two
minutes, after which it counts as failed and is tried again by whoever wanted it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from sampan.aio.grpc import CODES, INTERNAL, Peer, RpcError
from sampan.wire.messages import decode, encode
from sampan.wire.protobuf import ProtobufError

from ..registered import Registered
from ..timings import CSI
from .schemas import CALLS

TIMEOUT_S = 120.0
Note = Callable[..., None]
"""Takes a family of timings, seconds, and the values of its labels (`Tally.time`)."""


def _ignore(family: str, seconds: float, *values: str) -> None:
    pass


class UnknownDriver(LookupError):
    """No driver of that name has registered (yet)."""

    def __init__(self, name: str) -> None:
        super().__init__(f"driver name {name} not found in the list of registered CSI drivers")


class Driver:
    """One driver behind its socket."""

    def __init__(self, name: str, socket: Path) -> None:
        self.name = name
        self.socket = socket
        self._peer = Peer(socket)
        self._abilities: frozenset[int] | None = None
        self.note: Note = _ignore
        self.exhausted = asyncio.Event()
        """An attachment has found no room on the node."""

    async def call(self, name: str, **message: Any) -> dict[str, Any]:
        """Raises RpcError."""
        began, code = perf_counter(), CODES[0]
        try:
            return await ask(self._peer, name, message)
        except RpcError as error:
            code = error.name
            raise
        finally:
            self.note(CSI, perf_counter() - began, self.name, CALLS[name][0] + name, code, "false")

    async def abilities(self) -> frozenset[int]:
        """NodeServiceCapability types. Raises RpcError."""
        if self._abilities is None:
            answer = await self.call("NodeGetCapabilities")
            found = (item["rpc"] or {} for item in answer["capabilities"])
            self._abilities = frozenset(item.get("type", 0) for item in found)
        return self._abilities

    def close(self) -> None:
        self._peer.close()


async def ask(peer: Peer, name: str, message: dict[str, Any]) -> dict[str, Any]:
    """One call of the table. Raises RpcError."""
    service, asked, answered = CALLS[name]
    answer = await peer.call(f"{service}{name}", encode(asked, message), TIMEOUT_S)
    try:
        return decode(answered, answer)
    except ProtobufError as error:
        text = f"grpc: failed to unmarshal the received message: {error}"
        raise RpcError(INTERNAL, text) from error


class Drivers(Registered[Driver]):
    """By name."""

    def __init__(self, note: Note = _ignore) -> None:
        """`note` is told how long calls took."""
        super().__init__()
        self._note = note
        self._awaited: dict[str, asyncio.Event] = {}

    def get(self, name: str) -> Driver:
        """Raises UnknownDriver."""
        driver = self._known.get(name)
        if driver is None:
            raise UnknownDriver(name)
        return driver

    def add(self, driver: Driver) -> None:
        super().add(driver)
        driver.note = self._note
        if driver.name in self._awaited:
            self._awaited.pop(driver.name).set()

    async def arrival(self, name: str) -> None:
        """Until the driver has registered."""
        if name not in self._known:
            await self._awaited.setdefault(name, asyncio.Event()).wait()
