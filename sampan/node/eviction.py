"""The node looks after itself: when it is short of memory, disk or processes, pods have to go.

`observe` reads the signals; the registration calls it at each of its looks and tells what holds.
Task: `run`, under the agent's supervisor, sleeps while no threshold calls for pods to go. What can
be reclaimed otherwise goes first (dead containers, kept logs, unused images), then one pod after
the other, each awaited for at most `CLEAN_UP_S` (pkg/kubelet/eviction).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.api.errors import Object
from sampan.api.placement import tolerates

from .facts import memory_figures, process_figures, read_disk
from .preemption import is_critical
from .quality import BEST_EFFORT, cgroup_parent, qos_class
from .settings import Settings
from .state import RUNNING
from .thresholds import (
    DISK_SHORT,
    IMAGE_DISK,
    IMAGE_INODES,
    INODES_SHORT,
    MEMORY_PRESSURE,
    MEMORY_SHORT,
    NODE_DISK,
    NODE_INODES,
    PIDS_SHORT,
    SIGNALS,
    Observation,
    Observations,
    Threshold,
    Watcher,
)
from .thresholds import MEMORY as MEMORY_AVAILABLE
from .thresholds import PIDS as PIDS_AVAILABLE
from .tidings import reference

if TYPE_CHECKING:
    from .agent import Agent
    from .ranking import Consumer
    from .worker import PodWorker

log = logging.getLogger("sampan.node.eviction")

EVICTED = "Evicted"
# kubelet's podCleanupTimeout, and its immediateEvictionGracePeriodSeconds.
CLEAN_UP_S = 30.0
HARD_GRACE_S = 1.0
# After an eviction that gave nothing back yet the next look comes no sooner.
AGAIN_S = 1.0
TAINT = {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}

Reclaim = Callable[[], Awaitable[object]]


def read_signals(data: Path) -> Observations:
    """All signals now. Images and pods' files are on one disk, so both signals say the same."""
    available, total = memory_figures()
    processes, most = process_figures()
    disk = read_disk(data)
    room = Observation(disk.available_bytes, disk.capacity_bytes)
    seen = {
        MEMORY_AVAILABLE: Observation(available, total),
        NODE_DISK: room,
        IMAGE_DISK: room,
        PIDS_AVAILABLE: Observation(most - processes, most),
    }
    if disk.inodes:
        seen[NODE_INODES] = seen[IMAGE_INODES] = Observation(disk.inodes_free, disk.inodes)
    return seen


class Evictor:
    """One node's."""

    def __init__(self, agent: Agent, settings: Settings, read: Callable[[], Observations]) -> None:
        self._agent = agent
        self._settings = settings
        self._watcher = Watcher(settings.thresholds, settings.transition_s)
        self._read = read
        self._seen: Observations = {}
        self._met: tuple[Threshold, ...] = ()
        self._told = asyncio.Event()
        self.reclaims: dict[str, list[Reclaim]] = {DISK_SHORT: [], INODES_SHORT: []}
        """By resource: what to try before a pod has to go."""
        self.evictions: Counter[str] = Counter()
        """How many pods went, by signal."""

    @property
    def conditions(self) -> tuple[str, ...]:
        return self._watcher.conditions

    def observe(self) -> tuple[str, ...]:
        """Look now; the node conditions that hold. Evicts later, in its own task."""
        self._seen = self._read()
        # Clocks may be set: only one that never goes back measures how long something lasts.
        now = self._agent.parts.clock.monotonic()
        self._met = self._watcher.observe(self._seen, now)
        if self._met:
            self._told.set()
        return self._watcher.conditions

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._told.wait()
            self._told.clear()
            while self._met:
                worker = await self._relieve(self._met[0])
                if worker is None:
                    break
                await self._gone(worker)
                await self._agent.parts.clock.sleep(AGAIN_S)
                self.observe()

    async def _relieve(self, threshold: Threshold) -> PodWorker | None:
        """Make room; the pod that is being evicted for it, if one has to be."""
        resource = SIGNALS[threshold.signal].resource
        about = reference(self._agent.config.name)
        text = f"Attempting to reclaim {resource}"
        self._agent.recorder.event(about, "Warning", "EvictionThresholdMet", text)
        for reclaim in self.reclaims.get(resource, ()):
            try:
                await reclaim()
            except Exception:
                log.exception("reclaiming %s", resource)
        if self.reclaims.get(resource):
            self.observe()
            if threshold not in self._met:
                return None
        from .ranking import message, rank

        victims = await asyncio.to_thread(self._consumers, resource)
        for victim in rank(victims, resource):
            worker = self._agent.workers.get(victim.pod["metadata"]["uid"])
            if worker is None or worker.ends or worker.state.failure is not None:
                continue
            text, notes = message(victim, threshold, self._met, self._seen)
            grace_s = self._settings.soft_grace_s if threshold.grace_s else HARD_GRACE_S
            self.evict(worker, threshold.signal, text, grace_s, notes)
            return worker
        log.warning("the node is short of %s, and no pod can be evicted for it", resource)
        return None

    def _consumers(self, resource: str) -> list[Consumer]:
        """In a thread: workers may come and go meanwhile."""
        workers = tuple(self._agent.workers.values())
        return [
            consumer_of(self._agent, worker, resource)
            for worker in workers
            if not is_critical(worker.state.pod)
            and any(
                runs and runs[-1].state == RUNNING for runs in tuple(worker.state.attempts.values())
            )
        ]

    def evict(
        self,
        worker: PodWorker,
        signal: str,
        text: str,
        grace_s: float = HARD_GRACE_S,
        notes: dict[str, str] | None = None,
    ) -> None:
        """End the pod for what it uses (evictPod)."""
        if worker.state.failure is not None or worker.ends or is_critical(worker.state.pod):
            return
        log.warning("evicting pod %s/%s: %s", worker.narrator.namespace, worker.narrator.name, text)
        self.evictions[signal] += 1
        worker.narrator.pod("Warning", EVICTED, text, notes)
        worker.fail(EVICTED, text, grace_s, disrupted=signal in SIGNALS)

    async def _gone(self, worker: PodWorker) -> None:
        try:
            async with asyncio.timeout(CLEAN_UP_S):
                while not (worker.state.stopped or worker.gone):
                    await worker.pulse.wait()
        except TimeoutError:
            log.warning("evicted pod %s is still ending", worker.state.uid)

    def refusal(self, pod: Object) -> tuple[str, str] | None:
        """Why the node takes no such pod now (Admit); critical ones are always taken."""
        held = self._watcher.conditions
        if not held or is_critical(pod):
            return None
        if held == (MEMORY_PRESSURE,):
            if qos_class(pod["spec"]) != BEST_EFFORT:
                return None
            if any(tolerates(item, TAINT) for item in pod["spec"].get("tolerations") or ()):
                return None
        return EVICTED, f"The node had condition: [{' '.join(held)}]. "


def consumer_of(agent: Agent, worker: PodWorker, resource: str) -> Consumer:
    """What a pod uses of a resource. Blocks."""
    from .ranking import Consumer

    runtime, pod = worker.parts.runtime, worker.state.pod
    if resource in (MEMORY_SHORT, PIDS_SHORT):
        usage = runtime.group_usage(cgroup_parent(pod))
        if resource == PIDS_SHORT:
            return Consumer(pod, usage.pids)
        each = {
            name: runtime.usage(runs[-1].id).working_set_bytes
            for name, runs in tuple(worker.state.attempts.items())
            if runs and runs[-1].state == RUNNING and runs[-1].id
        }
        return Consumer(pod, usage.working_set_bytes, each)
    from .ephemeral import measured

    written = agent.keeper.written(worker)
    own = {name: measured(folders) for name, folders in written.containers.items()}
    volumes = measured(written.volumes.values())
    if resource == INODES_SHORT:
        return Consumer(pod, sum(item.inodes for item in own.values()) + volumes.inodes)
    used = {name: item.size_bytes for name, item in own.items()}
    return Consumer(pod, sum(used.values()) + volumes.size_bytes, used)
