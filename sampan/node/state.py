"""What a pod worker knows of its pod: the input of `machine.decide` and `status.pod_status`.

Plain data, no I/O. Times are wall-clock seconds since the epoch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from sampan.api.errors import Object

RESTART_ALL = "RestartAllContainers"
CREATED, RUNNING, EXITED = "created", "running", "exited"


class Attempt(Struct, frozen=True):
    """One run of a container; a restart is a new attempt."""

    id: str
    """The runtime's id; "" for a run that is only remembered by the pod's status."""
    restart_count: int
    state: str
    image: str = ""
    """The reference as the spec wrote it."""
    image_ref: str = ""
    """The image's own full name."""
    image_id: str = ""
    """Its digest in a registry, or its id."""
    started_at: float = 0
    finished_at: float = 0
    exit_code: int = 0
    reason: str = ""
    """Of an exit: Completed, Error, OOMKilled, StartError, ContainerStatusUnknown."""
    message: str = ""
    """The termination message."""
    user: tuple[int, ...] = ()
    """Who its first process is: uid, gid, and the other groups; () when nobody knows."""
    runtime: str = "crun"
    """What ran it: the beginning of its containerID."""


class Waiting(Struct, frozen=True):
    """Why a container is not started yet; `retry_at` 0 waits for an event instead of a time."""

    reason: str
    message: str = ""
    retry_at: float = 0


class Crash(Struct, frozen=True):
    """A container's restart back-off: how long, and when it was last lengthened."""

    delay_s: float
    updated_at: float


class Health(Struct, frozen=True):
    """What probes say of a running attempt. Without probes a running container is healthy."""

    started: bool = True
    ready: bool = True
    condemned: str = ""
    """"liveness" or "startup" once that probe has failed for good."""


HEALTHY = Health()


@dataclasses.dataclass(frozen=True, slots=True)
class Pending:
    """A resize that cannot be granted (now)."""

    reason: str
    """Deferred or Infeasible."""
    message: str
    generation: int
    """Of the pod when it was asked for."""
    since: float = dataclasses.field(default=0, compare=False)


class Resizing(Struct):
    """How far a pod's resize is."""

    pending: Pending | None = None
    under_way: int | None = None
    """The pod's generation whose resize was granted and is being carried out."""
    error: str = ""
    retry_at: float = 0


class PodState(Struct):
    """All a worker knows. The worker mutates it; the machine only reads it."""

    pod: Object
    attempts: dict[str, list[Attempt]] = field(default_factory=dict)
    """By container name, oldest first; the last two are kept."""
    waiting: dict[str, Waiting] = field(default_factory=dict)
    crash_cap_s: float = 300.0
    """The most that a crashing container is held back, as the node's administrator has it."""
    crashes: dict[str, Crash] = field(default_factory=dict)
    health: dict[str, Health] = field(default_factory=dict)
    ip: str = ""
    ips: list[str] = field(default_factory=list)
    """All addresses; that one is the first."""
    sandbox: bool = False
    """The pod has its network and may start containers."""
    terminating: bool = False
    """The pod is being stopped: nothing is started any more."""
    stopped: bool = False
    """Every container has been stopped for good."""
    failure: tuple[str, str] | None = None
    """Reason and message of a pod failed by the agent (DeadlineExceeded, Evicted)."""
    refused: bool = False
    """The node did not take the pod: nothing of it was ever made."""
    disrupted: bool = False
    """It is ended by no fault of its own, which its conditions tell (KEP-3329)."""
    known: Object = field(default_factory=dict)
    """The status as last worked out, or as the API had it: conditions keep its times."""
    started_at: float = 0
    """When the agent accepted the pod (status.startTime)."""
    allocated: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """The resources the node has promised, by container; else those of the spec."""
    actuated: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """The resources running containers have."""
    resizing: Resizing = field(default_factory=Resizing)
    again: set[str] = field(default_factory=set)
    """Containers that were killed to be started anew, whatever their policy and exit code."""

    rebooted: frozenset[str] = frozenset()
    """Ids of runs from before the machine was started anew: what they had in common is gone."""
    fresh: set[str] = field(default_factory=set)
    """Containers whose runs so far do not count, as the whole pod has been started anew."""
    hooking: set[str] = field(default_factory=set)
    """Containers being started whose postStart hook has not ended: nobody counts on them yet."""

    @property
    def spec(self) -> Mapping[str, Any]:
        spec: Mapping[str, Any] = self.pod["spec"]
        return spec

    @property
    def uid(self) -> str:
        uid: str = self.pod["metadata"]["uid"]
        return uid

    @property
    def policy(self) -> str:
        policy: str = self.spec.get("restartPolicy", "Always")
        return policy

    def last(self, name: str) -> Attempt | None:
        runs = self.attempts.get(name)
        return runs[-1] if runs else None

    def health_of(self, name: str) -> Health:
        return self.health.get(name, HEALTHY)


def is_sidecar(container: Mapping[str, Any]) -> bool:
    """An init container that keeps running (KEP-753)."""
    return container.get("restartPolicy") == "Always"


def can_restart(container: Mapping[str, Any], policy: str) -> bool:
    """Whether it may run again after some exit: by its own policy or one of its rules, or else by
    the pod's policy (KEP-5307)."""
    return bool(container.get("restartPolicyRules")) or (
        (container.get("restartPolicy") or policy) != "Never"
    )


def any_regular_started(state: PodState) -> bool:
    """Once one has run, the pod is initialised for good."""
    return any(
        state.attempts.get(item["name"]) and item["name"] not in state.fresh
        for item in state.spec["containers"]
    )


def restarts_all(container: Mapping[str, Any], code: int) -> bool:
    """Whether this exit has all containers started anew (KEP-5532); the first rule that matches
    the exit code counts."""
    for rule in container.get("restartPolicyRules") or ():
        codes = rule.get("exitCodes") or {}
        if (code in (codes.get("values") or ())) == (codes.get("operator") == "In"):
            return bool(rule.get("action") == RESTART_ALL)
    return False
