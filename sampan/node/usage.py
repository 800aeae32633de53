"""A reading of the node's pods and containers: from workers, runtime and kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import stats
from .quality import cgroup_parent
from .state import RUNNING

if TYPE_CHECKING:
    from .agent import Agent
    from .worker import PodWorker


def read(agent: Agent) -> stats.Reading:
    """Everything now. Runs in a thread: workers may come and go meanwhile."""
    node, available = stats.read_node()
    there_are, there_may_be = stats.process_counts()
    return stats.Reading(
        at=agent.parts.clock.now(),
        node=node,
        available_bytes=available,
        disk=stats.read_disk(agent.config.data),
        pods=tuple(_pod(worker) for worker in tuple(agent.workers.values())),
        booted_at=stats.booted_at(),
        processes=there_are,
        processes_max=there_may_be,
    )


def _pod(worker: PodWorker) -> stats.PodUsage:
    runtime = worker.parts.runtime
    pod = worker.state.pod
    meta = pod["metadata"]
    containers = []
    for name, runs in tuple(worker.state.attempts.items()):
        run = runs[-1] if runs else None
        if run is None or run.state != RUNNING or not run.id:
            continue
        found = runtime.get(run.id)
        log_bytes = 0
        if found is not None and found.log_path.is_file():
            log_bytes = found.log_path.stat().st_size
        usage = runtime.usage(run.id)
        containers.append(
            stats.ContainerUsage(name, run.id, run.image_ref, run.started_at, usage, log_bytes)
        )
    return stats.PodUsage(
        uid=meta["uid"],
        name=meta["name"],
        namespace=meta["namespace"],
        started_at=worker.state.started_at,
        usage=runtime.group_usage(cgroup_parent(pod)),
        containers=tuple(containers),
    )
