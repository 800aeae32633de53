"""Which devices the selectors of classes and requests pick (CEL, KEP-4381).

Anybody who may write a claim may write a selector, and each device is asked: what is not done after
`cel.program.QUICK_COST` is begun again in a thread, one selection at a time, so that others have
the interpreter every few milliseconds. Until it is done pods that need it wait, as for the caches.
Kept until slices or classes change; what was begun before that is thrown away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .allocation import Device, Impossible

if TYPE_CHECKING:
    from sampan.api.cel.program import Budget, Program

UNKNOWN = "the cluster's devices are not known yet"
PROGRAMS = 64
"""Selectors whose programs are kept."""


class Selecting:
    """What each list of selectors picks of the devices there are."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """`changed` is called when a selection is done that somebody waits for."""
        self._changed = changed
        self._known: dict[tuple[str, ...], list[Device] | Impossible] = {}
        self._under_way: dict[tuple[str, ...], asyncio.Task[None]] = {}
        self._thread = asyncio.Lock()

    def clear(self) -> None:
        """The devices are others now."""
        self._known.clear()
        for task in self._under_way.values():
            task.cancel()
        self._under_way.clear()

    def of(self, name: str, texts: Sequence[str], devices: Sequence[Device]) -> list[Device]:
        """The devices for which every expression is true, for the request of this name. Raises
        Impossible, also when that is not known yet."""
        if not texts:
            return [*devices]
        key = tuple(texts)
        if key not in self._known and key not in self._under_way:
            from sampan.api.cel.program import QUICK_COST, Budget
            from sampan.api.turns import Unfinished

            try:
                self._known[key] = _outcome(texts, devices, Budget(QUICK_COST, None, 1 << 62))
            except Unfinished:
                work = self._sift(key, devices)
                self._under_way[key] = asyncio.create_task(work, name="device selectors")
        found = self._known.get(key)
        if found is None:
            raise Impossible(UNKNOWN)
        if isinstance(found, Impossible):
            raise Impossible(f"request {name}: {found}")
        return found

    async def _sift(self, key: tuple[str, ...], devices: Sequence[Device]) -> None:
        async with self._thread:
            found = await asyncio.to_thread(_outcome, key, devices, None)
        self._known[key] = found
        del self._under_way[key]
        self._changed()


def _outcome(
    texts: Sequence[str], devices: Sequence[Device], budget: Budget | None
) -> list[Device] | Impossible:
    """The devices, or why they cannot be told: upstream then refuses the pod too, so that nobody
    gets a device by an accident. Raises Unfinished for a budget that was made in a hurry."""
    # CEL is loaded where there are devices to select.
    from sampan.api.cel.devices import device_value
    from sampan.api.cel.errors import CostExceeded, EvaluationError

    try:
        programs = [_program(text) for text in texts]
    except Exception as error:
        return Impossible(f"selector does not compile: {error}")
    out = []
    for device in devices:
        try:
            value: Any = device_value(device.id[0], device.device)
            if all(one.evaluate({"device": value}, budget) is True for one in programs):
                out.append(device)
        except (EvaluationError, CostExceeded) as error:
            driver, pool, one = device.id
            return Impossible(f"device {driver}/{pool}/{one}: CEL runtime error: {error}")
    return out


@lru_cache(maxsize=PROGRAMS)
def _program(text: str) -> Program:
    from sampan.api.cel.devices import compile_selector

    return compile_selector(text)
