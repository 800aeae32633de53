"""In-place resize of one pod: from the wish in its spec to the limits of its cgroups (KEP-1287).

`consider` takes the pod's wish to the node's ledger; what the ledger grants is the allocation, and
the machine asks for `apply` (or a restart, by resizePolicy) until every running container has it.
What was granted is remembered by the pod's status, so that the next agent goes on from there. No
task and no queue of its own: `apply` is one of the worker's operations.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sampan.api.errors import Object
from sampan.runtime.interface import RuntimeFailure

from .allocation import (
    DEFERRED,
    WHOLE_POD,
    Waiter,
    allocated_pod,
    changed_resources,
    demand_of,
    resizable,
    resize_message,
)
from .quality import (
    GUARANTEED,
    cgroup_parent,
    cgroup_resources,
    inherited_limits,
    larger,
    pod_resources,
    qos_class,
)
from .state import RUNNING, Pending, Resizing

if TYPE_CHECKING:
    from .worker import PodWorker

# How long after a failure (memory in use, say) it is tried again.
RETRY_S = 10.0


class Resizer:
    """One pod's. `pod` is the pod with what it has been promised."""

    def __init__(self, worker: PodWorker) -> None:
        self._worker = worker
        state = worker.state
        said = _remembered(state.known)
        wanted = resizable(state.spec)
        state.allocated = {name: said.get(name, asked) for name, asked in wanted.items()}
        running = {name for name, runs in state.attempts.items() if runs[-1].state == RUNNING}
        for name, given in state.allocated.items():
            if name in running or (name == WHOLE_POD and running and name in said):
                state.actuated[name] = given
        self.pod = allocated_pod(state.pod, state.allocated)
        self._one_by_one = asyncio.Lock()
        worker.parts.ledger.hold(state.uid, demand_of(self.pod["spec"]))

    def consider(self) -> bool:
        """Compare what the pod wants with what it was promised; true when the promise changed."""
        state, ledger = self._worker.state, self._worker.parts.ledger
        wanted = resizable(state.spec)
        if wanted == state.allocated or not any(
            changed_resources(it, state.allocated.get(name, {})) for name, it in wanted.items()
        ):
            state.resizing.pending = None
            ledger.stop_waiting(state.uid)
            self.pod = state.pod
            return False
        refusal = ledger.refusal(state.uid, demand_of(state.spec))
        if refusal is not None:
            self._put_off(*refusal)
            self.pod = allocated_pod(state.pod, state.allocated)
            return False
        generation = _generation(state.pod)
        state.allocated = wanted
        state.resizing = Resizing(under_way=generation)
        self.pod = state.pod
        ledger.stop_waiting(state.uid)
        text = resize_message("Pod resize started", state.pod, generation)
        self._worker.narrator.pod("Normal", "ResizeStarted", text)
        ledger.hold(state.uid, demand_of(state.spec))
        return True

    def _put_off(self, reason: str, message: str) -> None:
        worker = self._worker
        state = worker.state
        had, ledger = state.resizing.pending, worker.parts.ledger
        since = had.since if had is not None else worker.parts.clock.now()
        pending = Pending(reason, message, _generation(state.pod), since)
        if reason == DEFERRED:
            ledger.wait(state.uid, Waiter(self._order(since), worker.reconsider))
        else:
            ledger.stop_waiting(state.uid)
        if pending != state.resizing.pending:
            state.resizing.pending = pending
            text = resize_message(f"Pod resize {reason}", state.pod, pending.generation, message)
            worker.narrator.pod("Warning", f"Resize{reason}", text)

    def _order(self, since: float) -> tuple[Any, ...]:
        """Upstream's: higher priority, then Guaranteed, then who has waited longest."""
        state = self._worker.state
        guaranteed = qos_class(state.spec) == GUARANTEED
        return (-int(state.spec.get("priority") or 0), not guaranteed, since, state.uid)

    async def apply(self, name: str) -> None:
        """Give the running container its new limits. The machine asks again after a failure."""
        worker, state = self._worker, self._worker.state
        worker.commit(name)
        async with self._one_by_one:
            # As they are when it is this one's turn.
            run, container = state.last(name), worker.containers.get(name)
            granted = state.allocated.get(name, {})
            try:
                if name == WHOLE_POD:
                    await asyncio.to_thread(self._limit_pod)
                elif run is None or run.state != RUNNING or container is None:
                    return
                else:
                    now = {**state.actuated, name: granted}
                    steps = [state.actuated, now]
                    pods = [allocated_pod(self.pod, step) for step in steps]
                    await asyncio.to_thread(self._limit, run.id, container, pods)
            except RuntimeFailure as error:
                self._fail(str(error))
            else:
                state.actuated[name] = granted
                state.resizing.error = ""
                state.resizing.retry_at = 0

    def _limit(self, run_id: str, container: Mapping[str, Any], pods: Sequence[Object]) -> None:
        """`pods` is the pod before and after this step. While it is taken the pod's own cgroup has
        room for both, for the kernel lets no group have less than one below it (cgroup v1).

        Raises RuntimeFailure; also for what the kernel could only answer with an OOM kill."""
        parts = self._worker.parts
        wanted = cgroup_resources(self.pod["spec"], container, parts.machine.bounds)
        limit = wanted.memory_limit_bytes
        if limit:
            used = parts.runtime.usage(run_id).working_set_bytes
            if limit < used:
                raise RuntimeFailure(
                    f'attempting to set container "{container["name"]}" memory limit ({limit}) '
                    f"below current usage ({used})"
                )
        group = cgroup_parent(self.pod)
        before, after, last = (
            pod_resources(pod["spec"], parts.machine.bounds) for pod in (*pods, self.pod)
        )
        after = larger(after, last)
        room = larger(before, after)
        if room != before:
            parts.runtime.limit_group(group, room)
        parts.runtime.limit(run_id, wanted)
        # What bounds the pod follows from its containers.
        if after != room:
            parts.runtime.limit_group(group, after)

    def _limit_pod(self) -> None:
        """As `_limit`, for the cgroup above the pod's containers."""
        runtime, group = self._worker.parts.runtime, cgroup_parent(self.pod)
        wanted = pod_resources(self.pod["spec"], self._worker.parts.machine.bounds)
        limit = wanted.memory_limit_bytes
        used = runtime.group_usage(group).working_set_bytes if limit else 0
        if limit < used:
            raise RuntimeFailure(
                f"attempting to set pod memory limit ({limit}) below current usage ({used})"
            )
        bounds = self._worker.parts.machine.bounds
        had = allocated_pod(self.pod, self._worker.state.actuated)
        room = larger(pod_resources(had["spec"], bounds), wanted)
        runtime.limit_group(group, room)
        for run_id, container in self._heirs():
            runtime.limit(run_id, cgroup_resources(self.pod["spec"], container, bounds))
        if room != wanted:
            runtime.limit_group(group, wanted)

    def _heirs(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Running containers without limits of their own, who have their pod's."""
        names = inherited_limits(self.pod["spec"])
        for name, container in tuple(self._worker.containers.items()):
            own = (container.get("resources") or {}).get("limits") or {}
            run = self._worker.state.last(name)
            if run is not None and run.state == RUNNING and names.keys() - own.keys():
                yield run.id, container

    def _fail(self, text: str) -> None:
        state = self._worker.state
        if state.resizing.under_way is None:
            state.resizing.under_way = _generation(state.pod)
        if text != state.resizing.error:
            state.resizing.error = text
            message = resize_message("Pod resize error", self.pod, state.resizing.under_way, text)
            self._worker.narrator.pod("Warning", "ResizeError", message)
        state.resizing.retry_at = self._worker.parts.clock.now() + RETRY_S

    def settle(self) -> None:
        """Say that the resize is complete once every running container has what was promised."""
        state = self._worker.state
        generation = state.resizing.under_way
        if generation is None:
            return
        for name, given in state.allocated.items():
            last = state.last(name)
            if name == WHOLE_POD or (last is not None and last.state == RUNNING):
                if changed_resources(given, state.actuated.get(name, {})):
                    return
            elif name in state.again:
                return
        state.resizing.under_way = None
        state.resizing.error = ""
        text = resize_message("Pod resize completed", self.pod, generation)
        self._worker.narrator.pod("Normal", "ResizeCompleted", text)


def _generation(pod: Object) -> int:
    return int(pod["metadata"].get("generation") or 0)


def _remembered(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What the pod's status says its containers have."""
    out = {
        item["name"]: item["resources"]
        for part in ("initContainerStatuses", "containerStatuses")
        for item in status.get(part) or ()
        if item.get("resources") is not None
    }
    if status.get("resources"):
        out[WHOLE_POD] = status["resources"]
    return out
