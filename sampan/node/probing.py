"""Probes at work: a task per probe of a running container.

Tasks: one per probe, made when its container starts and cancelled when it exits. They sleep until
the next look and hold nothing but that. Results go to the worker by a callback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from sampan.aio.clock import Clock
from sampan.runtime.interface import Runtime

from .looks import Target, look
from .narration import Narrator
from .probes import (
    FIELDS,
    READINESS,
    STARTUP,
    Timing,
    apply,
    begin,
    initial_health,
    is_due,
    kinds_to_run,
    observe,
)
from .state import Health
from .tally import Tally

TITLES = {"liveness": "Liveness", "readiness": "Readiness", "startup": "Startup"}


class Prober:
    """The probes of one attempt. `changed(health)` is called in the loop at each new verdict."""

    def __init__(
        self,
        around: tuple[Runtime, Clock, Narrator, Tally],
        target: Target,
        changed: Callable[[Health], None],
        health: Health | None = None,
    ) -> None:
        self._runtime, self._clock, self._narrator, self._tally = around
        self._target = target
        self._changed = changed
        self.health = health or initial_health(target.container)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ending = False
        self._follow()

    def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    def wind_down(self) -> None:
        """The pod is being stopped: whether it is ready is still of interest (those who send it
        requests want to know), whether it lives is not."""
        self._ending = True
        for kind in [kind for kind in self._tasks if kind != READINESS]:
            self._tasks.pop(kind).cancel()

    def _follow(self) -> None:
        """Run the probes that are due now; the startup probe ends with its success."""
        wanted = kinds_to_run(self._target.container, self.health)
        if self._ending:
            wanted = [kind for kind in wanted if kind == READINESS]
        if STARTUP in self._tasks and STARTUP not in wanted:
            del self._tasks[STARTUP]
        for kind in wanted:
            if kind not in self._tasks:
                name = f"probe {kind} {self._target.container['name']}"
                self._tasks[kind] = asyncio.create_task(self._run(kind), name=name)

    async def _run(self, kind: str) -> None:
        probe: Mapping[str, Any] = self._target.container[FIELDS[kind]]
        timing = Timing.of(probe)
        state = begin(kind, timing, self._clock.monotonic())
        while True:
            delay = state.next_look_at - self._clock.monotonic()
            if delay > 0:
                await self._clock.sleep(delay)
            result = await look(self._runtime, self._target, probe, timing.timeout_s)
            now = self._clock.monotonic()
            self._count(kind, result.good)
            if result.warning:
                self._narrator.container(
                    self._target.container,
                    "Warning",
                    "ProbeWarning",
                    f"{TITLES[kind]} probe warning: {result.text}",
                )
            if not result.good and is_due(state, now):
                self._narrator.container(
                    self._target.container,
                    "Warning",
                    "Unhealthy",
                    f"{TITLES[kind]} probe failed: {result.text}",
                )
            before, state = state, observe(kind, timing, state, result.good, now)
            if state.good is not None and state.good != before.good:
                self._judge(kind, state.good)
            if kind == STARTUP and state.good is not None:
                return

    def _count(self, kind: str, good: bool) -> None:
        result, pod = "successful" if good else "failed", self._narrator
        name = self._target.container["name"]
        self._tally.probes[TITLES[kind], result, name, pod.name, pod.namespace, pod.uid] += 1

    def _judge(self, kind: str, good: bool) -> None:
        self.health = apply(self.health, kind, good)
        self._follow()
        self._changed(self.health)
