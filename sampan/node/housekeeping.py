"""What the agent looks after besides its pods' lives: the room they have, their logs, their limits.

No task of its own: `tick` is called at the node's heartbeat. The parts that work on are told there
(`ephemeral`, `eviction`, `rotation`, `keeping`), each says what it runs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sampan.api.errors import Object
from sampan.linux import cgroups
from sampan.runtime.interface import Resources, RuntimeFailure
from sampan.wire.quantity import milli

from .admission import Lack, Room, lacking, refuse
from .allocation import demands
from .ending import remove_written
from .ephemeral import LocalStorage, Tenant, Written
from .eviction import Evictor, read_signals
from .keeping import KeptLogs
from .preemption import PREEMPTED, PREEMPTING, is_critical, victims
from .quality import Bounds, shares
from .rotation import Rotation
from .starting import log_path
from .thresholds import ALLOCATABLE, DISK_SHORT, INODES_SHORT, Observation, Observations

if TYPE_CHECKING:
    from .agent import Agent
    from .pinning import Pinning
    from .worker import PodWorker

log = logging.getLogger("sampan.node")

JUMP_S = 2.0
"""A clock that is slewed goes wrong by less than this in a heartbeat."""
UNEXPECTED = "UnexpectedAdmissionError"
NO_VICTIMS = (
    "Unexpected error while attempting to recover from admission failure: "
    "preemption: error finding a set of pods to preempt: "
)
PODS_GROUP = "kubepods"
BURSTABLE_GROUP, BEST_EFFORT_GROUP = "kubepods/burstable", "kubepods/besteffort"


class Housekeeping:
    """One node's."""

    def __init__(self, agent: Agent) -> None:
        config = agent.config
        self._agent = agent
        self._settings = config.settings
        self._logs = config.data / "logs"
        self.evictor = Evictor(agent, config.settings, self._read_signals)
        self.storage = LocalStorage(self._tenants)
        self.kept = KeptLogs(config.data / "deleted-logs", agent.clock.now)
        self.rotation = Rotation(
            agent.runtime.list,
            agent.runtime.reopen_log,
            agent.clock,
            (config.settings.log_bytes, config.settings.log_files),
        )
        self.pinning: Pinning | None = None
        self._shares: dict[str, int] = {}
        self._offset = agent.clock.now() - agent.clock.monotonic()
        for short in (DISK_SHORT, INODES_SHORT):
            self.evictor.reclaims[short] += [self.kept.clear, self._remove_dead]

    def open(self) -> None:
        """Bound all pods together, where something is reserved. Raises RuntimeFailure."""
        facts, settings = self._agent.registration.facts, self._settings
        if settings.enforced and (settings.system_reserved or settings.kube_reserved):
            pids = settings.reserved("pid")
            limits = Resources(
                cpu_shares=shares(facts.cpus * 1000 - settings.reserved("cpu", milli)),
                memory_limit_bytes=self._pods_limit,
                pids_limit=max(1, facts.pids - pids) if pids else 0,
            )
            try:
                self._agent.runtime.limit_group(PODS_GROUP, limits)
            except RuntimeFailure as error:
                raise RuntimeFailure(f"what is reserved cannot be enforced: {error}") from error

        if settings.static_cpus:
            from .pinning import Pinning

            self.pinning = Pinning(self._agent.config.data, settings)

    def close(self) -> None:
        self.rotation.close()

    # Processors and shares

    def processors(self, worker: PodWorker, container: Mapping[str, Any]) -> str:
        """What a container may run on; "" is all. Raises NotEnough."""
        if self.pinning is None:
            return ""
        given = self.pinning.processors(worker, container)
        self._spread()
        return given

    def _spread(self) -> None:
        assert self.pinning is not None
        self.pinning.spread(self._agent.workers, self._agent.runtime.pin)

    def took(self) -> None:
        """A pod is looked after from now on: its class of quality gets its share."""
        self._weigh()

    def ended(self, uid: str) -> None:
        """A pod runs no more."""
        self._weigh()
        if self.pinning is not None and self.pinning.release(uid):
            self._spread()

    def _weigh(self) -> None:
        """Processor shares of the pods without requests together, the least there is, and of those
        with some, their sum (qos_container_manager): within a class pods share by their own."""
        if not self._agent.workers and not self._shares:
            # A node without pods makes no groups.
            return
        asked = self._agent.parts.ledger.burstable
        for group, wanted in ((BURSTABLE_GROUP, shares(asked)), (BEST_EFFORT_GROUP, shares(0))):
            if self._shares.get(group) == wanted:
                continue
            try:
                self._agent.runtime.limit_group(group, Resources(cpu_shares=wanted))
            except RuntimeFailure as error:
                log.warning("%s: %s", group, error)
            self._shares[group] = wanted

    def tick(self) -> None:
        self._notice_jump()
        self._weigh()
        self.storage.beat()
        self.rotation.beat()
        self.kept.beat()

    def _notice_jump(self) -> None:
        """Back-offs are kept as times of the day, which somebody may set."""
        clock = self._agent.clock
        offset = clock.now() - clock.monotonic()
        jump, self._offset = offset - self._offset, offset
        if abs(jump) > JUMP_S:
            log.warning("the clock was set by %g s", round(jump, 1))
            for worker in self._agent.workers.values():
                worker.shift(jump)

    # The node's room

    @property
    def _pods_limit(self) -> int:
        """Bytes of memory that pods may have together; 0 is all there is."""
        reserved = self._settings.reserved("memory")
        memory: int = self._agent.registration.facts.memory_bytes
        return max(1, memory - reserved) if reserved and self._settings.enforced else 0

    def _read_signals(self) -> Observations:
        seen = dict(read_signals(self._agent.config.data))
        limit = self._pods_limit
        if limit:
            used = self._agent.runtime.group_usage(PODS_GROUP).working_set_bytes
            seen[ALLOCATABLE] = Observation(max(0, limit - used), limit)
        return seen

    def bounds(self) -> Bounds:
        """What holds for every pod's cgroups."""
        facts = self._agent.registration.facts
        # Where nobody could hold a container to a limit of them, there is none.
        held = "hugetlb" in cgroups.hierarchies().controllers
        sizes = [name.removeprefix("hugepages-") for name, size in facts.hugepages.items() if size]
        return Bounds(facts.memory_bytes, self._settings.pod_pids, tuple(sizes if held else ()))

    def refusal(self, pod: Object) -> tuple[str, str] | None:
        """Why a pod is not taken; one that was before the agent started has been."""
        agent, status = self._agent, pod.get("status") or {}
        if agent.rejection is not None:
            return agent.rejection
        if status.get("phase") != "Pending" or status.get("startTime"):
            return None
        live = [item.state for item in agent.workers.values() if not item.state.stopped]

        def used(name: str) -> int:
            if name in ("cpu", "memory"):
                return agent.parts.ledger.used(name)
            return sum(demands(state.spec).get(name, 0) for state in live)

        pods = [state.pod for state in live]
        node, allocatable = agent.registration.node, agent.parts.allocatable
        room = Room(node, allocatable, pods, used, self._settings.unsafe_sysctls)
        lacks = [*lacking(pod, room)]
        if is_critical(pod):
            return refuse(pod, room) or self._make_room(pod, lacks)
        return self.evictor.refusal(pod) or refuse(pod, room, lacks)

    def _make_room(self, pod: Object, lacks: Sequence[Lack]) -> tuple[str, str] | None:
        """Others end for a critical pod; why that cannot be, else (CriticalPodAdmissionHandler)."""
        if not lacks:
            return None
        agent = self._agent
        workers = {
            worker.state.uid: worker
            for worker in agent.workers.values()
            if not (worker.state.stopped or worker.state.failure or worker.ends)
        }
        pods = [worker.state.pod for worker in workers.values()]
        try:
            ending = victims(pod, pods, {lack.name: lack.missing for lack in lacks})
        except LookupError as error:
            return UNEXPECTED, f"{NO_VICTIMS}{error.args[0]}"
        for victim in ending:
            worker = workers[victim["metadata"]["uid"]]
            worker.narrator.pod("Warning", PREEMPTING, PREEMPTED)
            worker.fail(PREEMPTING, PREEMPTED, disrupted=True)
            agent.parts.tally.preemptions[lacks[0].name] += 1
        return None

    # What pods write

    def _tenants(self) -> Iterator[Tenant]:
        """Live pods, for their limits of local storage."""
        for worker in self._agent.workers.values():
            evict = partial(self.evictor.evict, worker)
            yield Tenant(worker.state.pod, self.written(worker), evict)

    def written(self, worker: PodWorker) -> Written:
        """Where a pod writes on the node's disk."""
        pod, volumes = worker.state.pod, {}
        for volume in pod["spec"].get("volumes") or ():
            if "emptyDir" in volume and not (volume["emptyDir"] or {}).get("medium"):
                name = volume["name"]
                volumes[name] = worker.parts.volumes.empty_dir(pod["metadata"]["uid"], name)
        containers = {}
        for name, runs in tuple(worker.state.attempts.items()):
            if runs and runs[-1].id:
                logs = log_path(self._agent.config.data, pod, name, 0).parent
                containers[name] = (self._agent.runtime.upper(runs[-1].id), logs)
        home = worker.parts.volumes.directory(pod["metadata"]["uid"])
        return Written(volumes, containers, (home / "etc", home / "containers"))

    async def _remove_dead(self) -> None:
        """What pods that are over have written, but for their logs: the node is short of disk
        (DeleteAllUnusedContainers). Their statuses stay."""
        for worker in tuple(self._agent.workers.values()):
            if worker.state.stopped and not worker.ends:
                await remove_written(worker)

    # Logs

    def adopt(self, live: set[str]) -> None:
        """Pods that were deleted while no agent ran hold nothing; their logs are kept."""
        if self.pinning is not None:
            self.pinning.retain(live)
        for folder in self._log_folders():
            if folder.name.rpartition("_")[2] not in live:
                self.kept.keep(folder)

    def keep_logs(self, pod: Object) -> None:
        """The pod is gone."""
        meta = pod["metadata"]
        self.kept.keep(self._logs / f"{meta['namespace']}_{meta['name']}_{meta['uid']}")

    def _log_folders(self) -> list[Path]:
        """NAMESPACE_NAME_UID, one per pod that has run."""
        try:
            return [*self._logs.iterdir()]
        except FileNotFoundError:
            return []
