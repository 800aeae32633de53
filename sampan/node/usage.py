"""A reading of the node's pods and containers: from workers, runtime and kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from . import stats
from .ephemeral import Written
from .facts import process_figures, read_disk
from .footprint import Footprint, footprint
from .interface import interface_name
from .quality import cgroup_parent
from .state import RUNNING

if TYPE_CHECKING:
    from .agent import Agent
    from .worker import PodWorker


def read(agent: Agent) -> stats.Reading:
    """Everything now. Runs in a thread: workers may come and go meanwhile."""
    node, available = stats.read_node()
    there_are, there_may_be = process_figures()
    traffic = stats.read_traffic()
    return stats.Reading(
        at=agent.parts.clock.now(),
        node=node,
        available_bytes=available,
        disk=read_disk(agent.config.data),
        pods=tuple(
            _pod(worker, traffic)
            for worker in tuple(agent.workers.values())
            if not worker.state.stopped
        ),
        booted_at=stats.booted_at(),
        processes=there_are,
        processes_max=there_may_be,
    )


def _pod(worker: PodWorker, traffic: Mapping[str, stats.Traffic]) -> stats.PodUsage:
    runtime = worker.parts.runtime
    pod = worker.state.pod
    meta = pod["metadata"]
    containers = []
    for name, runs in tuple(worker.state.attempts.items()):
        run = runs[-1] if runs else None
        if run is None or run.state != RUNNING or not run.id:
            continue
        usage = runtime.usage(run.id)
        containers.append(stats.ContainerUsage(name, run.id, run.image_ref, run.started_at, usage))
    return stats.PodUsage(
        uid=meta["uid"],
        name=meta["name"],
        namespace=meta["namespace"],
        started_at=worker.state.started_at,
        usage=runtime.group_usage(cgroup_parent(pod)),
        containers=tuple(containers),
        traffic=traffic.get(interface_name(worker.sandbox.ip)) if worker.sandbox.ip else None,
        cgroup=cgroup_parent(pod),
    )


class Stores:
    """What pods have written on the node's disk: measured in a thread when somebody asks, and
    anew after `FRESH_S`, as upstream does by the minute."""

    FRESH_S = 60.0

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._known: dict[str, tuple[float, Store]] = {}

    def read(self) -> dict[str, Store]:
        """By pod uid. Blocks."""
        now, out = self._agent.clock.monotonic(), {}
        for uid, worker in tuple(self._agent.workers.items()):
            known = self._known.get(uid)
            if known is None or now - known[0] > self.FRESH_S:
                known = (now, _store(self._agent.keeper.written(worker)))
            out[uid] = known
        self._known = out
        return {uid: store for uid, (_, store) in out.items()}


class Store(NamedTuple):
    """Of one pod."""

    roots: Mapping[str, Footprint]
    """The upper layers of its containers' roots, by container."""
    logs: Mapping[str, Footprint]
    volumes: Mapping[str, Footprint]
    """Its emptyDirs on disk, by name."""


def _store(written: Written) -> Store:
    roots = {name: footprint(folders[0]) for name, folders in written.containers.items()}
    logs = {name: footprint(folders[1]) for name, folders in written.containers.items()}
    return Store(roots, logs, {name: footprint(path) for name, path in written.volumes.items()})
