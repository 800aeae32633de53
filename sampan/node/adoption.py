"""Taking over what an earlier agent left of a pod: its containers run on, and what they live in is
looked after again.

Task: one per pod whose network and volumes could not be taken over at once (the server or a driver
was away), until they are. No container may ever be started there again, so nobody else would try,
and their tokens and ConfigMaps would grow old.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from .attempts import known_health, remember_lost, seconds_of
from .pulls import Held
from .state import CREATED, RUNNING

if TYPE_CHECKING:
    from .worker import PodWorker

log = logging.getLogger("sampan.node.adoption")

SANDBOX_CHANGED = "Pod sandbox changed, it will be killed and re-created."
RETRY_S = 10.0
"""After a fault of ours."""


async def adopt(worker: PodWorker) -> asyncio.Task[None] | None:
    """Returns the task that goes on trying, if one has to. Raises RuntimeFailure."""
    state, parts = worker.state, worker.parts
    for runs in state.attempts.values():
        for run in [run for run in runs if run.state == CREATED]:
            # The agent died between making and starting it; it is made anew.
            runs.remove(run)
            await parts.runtime.delete(run.id)
    remember_lost(state)
    if state.fresh:
        worker.narrator.pod("Normal", "SandboxChanged", SANDBOX_CHANGED)
    # What a deadline counts from outlives the agent.
    started = state.known.get("startTime")
    state.started_at = seconds_of(started) if started else parts.clock.now()
    if state.known.get("phase") in ("Succeeded", "Failed"):
        state.stopped = True
    elif any(run.state == RUNNING for runs in state.attempts.values() for run in runs):
        again_s = await _prepare(worker)
        # A wish that came while no agent ran.
        worker.reconsider()
        for name, runs in state.attempts.items():
            if runs[-1].state == RUNNING:
                worker.watch_health(name, runs[-1], known_health(state, name, runs[-1]))
        if again_s is not None:
            return asyncio.create_task(_prepare_again(worker, again_s), name=f"adopt {state.uid}")
    return None


async def _prepare_again(worker: PodWorker, after_s: float | None) -> None:
    while after_s is not None and not worker.sandbox.ready:
        await worker.parts.clock.sleep(after_s)
        after_s = await _prepare(worker)
    worker.pulse.beat()


async def _prepare(worker: PodWorker) -> float | None:
    """None when all is there; else when to try again."""
    try:
        await worker.prepared()
    except Held as held:
        return max(0.0, held.waiting.retry_at - worker.parts.clock.now())
    except Exception:
        # The pod's containers run, and have to be stopped one day: the worker lives on.
        log.exception("pod %s", worker.state.uid)
        return RETRY_S
    return None
