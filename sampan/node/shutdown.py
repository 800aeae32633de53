"""Graceful node shutdown: pods end before their machine does (KEP-2000).

pkg/kubelet/nodeshutdown: the node says that it is not ready and takes no more pods; regular pods
are stopped, then critical ones, each group within its share of the time.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from .preemption import CRITICAL, priority_of

if TYPE_CHECKING:
    from .agent import Agent
    from .worker import PodWorker

log = logging.getLogger("sampan.node.shutdown")

TROUBLE = "node is shutting down"
REJECTED = ("NodeShutdown", "Pod was rejected as the node is shutting down.")
TERMINATED = ("Terminated", "Pod was terminated in response to imminent node shutdown.")
LATE_S = 1.0
"""What SIGKILL and the last word to the API may take beyond a group's time."""


async def shut_down(agent: Agent, total_s: float, critical_s: float) -> None:
    """Returns once every pod has ended and has been told of, or the time is up: `total_s`, of
    which the last `critical_s` are for critical pods."""
    log.info("the machine shuts down; pods have %g s to end", total_s)
    agent.rejection = REJECTED
    agent.registration.tell_trouble(TROUBLE)
    for critical in (False, True):
        group = [
            worker
            for worker in agent.workers.values()
            if (priority_of(worker.state.pod) >= CRITICAL) is critical
        ]
        seconds = critical_s if critical else max(0.0, total_s - critical_s)
        for worker in group:
            worker.fail(*TERMINATED, grace_s=seconds, disrupted=True)
        await _ended(agent, group, seconds)


async def _ended(agent: Agent, group: list[PodWorker], seconds: float) -> None:
    ends = asyncio.gather(*(_one_ended(agent, worker) for worker in group))
    limit = asyncio.ensure_future(agent.parts.clock.sleep(seconds + LATE_S))
    both: set[asyncio.Future[Any]] = {ends, limit}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ends.cancel()
        limit.cancel()
        await asyncio.gather(ends, limit, return_exceptions=True)


async def _one_ended(agent: Agent, worker: PodWorker) -> None:
    while worker.state.known.get("phase") not in ("Succeeded", "Failed"):
        await worker.pulse.wait()
    await agent.parts.reports.flushed(worker.state.uid)
