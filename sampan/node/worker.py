"""One pod's life on this node: from seen to gone.

Tasks: one per pod (`run`), and one per operation on a container (`starting`, `stopping`), at most
one operation per container at a time. The task sleeps until something happens: the pod changed, a
container exited, an operation or a probe ended, a back-off is over. What to do is decided by
`machine`, what to say by `status`; here it is only carried out.

A status is written when something came to rest: while containers are being started nothing is
said for up to `QUIET_S`, so that a pod that starts quickly costs a single write.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sampan.api.errors import Object
from sampan.runtime.interface import Container

from .adoption import adopt
from .attempts import attempt_of, group_attempts
from .ending import (
    end_object,
    grace_of_deletion,
    grace_of_finish,
    grace_of_restart,
    stop_containers,
)
from .hooks import hook_of
from .looks import Target
from .machine import CRASH_LOOP, Kill, Plan, decide, every_container
from .narration import Narrator
from .parts import Parts
from .probing import Prober
from .pulse import Pulse
from .resizing import Resizer
from .sandbox import Sandbox
from .starting import start_container
from .state import EXITED, RUNNING, Attempt, Health, PodState, Waiting
from .status import pod_status
from .stopping import stop_container
from .timings import POD_WORKER
from .translate import CONTAINER_NAME

log = logging.getLogger("sampan.node.worker")

QUIET_S = 1.0
CONFIG_REASONS = ("CreateContainerConfigError", "ContainerCreating", "PodInitializing")


class Operation(Struct):
    """Something being done to one container."""

    task: asyncio.Task[None]
    began: float
    stoppable: bool = True
    """May be cancelled: nothing has been made yet."""
    quiet: bool = False
    """What the pod looks like until it ends is not worth telling."""


class PodWorker:
    """Made when a pod of this node is first seen. Feed it with update, removed and exited."""

    def __init__(self, parts: Parts, pod: Object, found: list[Container]) -> None:
        self.parts = parts
        self.narrator = Narrator(parts.recorder, pod)
        self.pulse = Pulse(parts.clock)
        self.state = PodState(
            pod,
            attempts=group_attempts(found, _containers(pod), parts.images),
            known=pod.get("status") or {},
            rebooted=frozenset(item.id for item in found if item.rebooted),
            crash_cap_s=parts.config.settings.crash_cap_s,
        )
        self.resizer = Resizer(self)
        self.containers = _containers(self.resizer.pod)
        self.sandbox = Sandbox(parts, self.resizer.pod, self.narrator, self._objects_changed)
        self.probers: dict[str, Prober] = {}
        self._operations: dict[str, Operation] = {}
        self._preparing: asyncio.Task[None] | None = None
        self._release: asyncio.Task[None] | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._adoption: asyncio.Task[None] | None = None
        self.grace_limit_s: float | None = None
        """Less than what the pod asks for, when the agent ends it."""
        self._gone = False
        self._last_status: Object | None = None
        self._stop_began = 0.0
        self._sort = "create"
        """What the next step answers, in upstream's words."""

    # What happens around it

    def update(self, pod: Object) -> None:
        """The pod changed: its labels, an image, or it is to be deleted, or sooner than it was."""
        old = self.state.pod["metadata"]
        self.state.pod = pod
        if self._sort == "sync":
            self._sort = "update"
        self.parts.reports.saw(pod)
        self._take_resources()
        for field in ("labels", "annotations"):
            if old.get(field) != pod["metadata"].get(field):
                # They may stand in a downwardAPI volume, or in what a container waits for.
                self._objects_changed()
        self.pulse.beat()

    def reconsider(self) -> None:
        """The node has something to give again: a deferred resize may be possible now."""
        self._take_resources()
        self.pulse.beat()

    def shift(self, seconds: float) -> None:
        """The clock was set, forward if positive: what waits for a time goes on as long as it had
        to."""
        for name, held in tuple(self.state.waiting.items()):
            if held.retry_at:
                self.state.waiting[name] = replace(held, retry_at=held.retry_at + seconds)
        for name, crash in tuple(self.state.crashes.items()):
            self.state.crashes[name] = replace(crash, updated_at=crash.updated_at + seconds)
        if seconds < 0:
            self.sandbox.outdate()
        self.pulse.beat()

    def _take_resources(self) -> None:
        """Containers are made and shown with what the node has promised, not with every wish."""
        changed = not self._is_over() and self.resizer.consider()
        self.sandbox.pod = self.resizer.pod
        self.containers = _containers(self.resizer.pod)
        if changed:
            # Limits may stand in a downwardAPI volume.
            self.sandbox.refresh()

    def _is_over(self) -> bool:
        return self._release is not None or self._is_deleted() or bool(self.state.failure)

    def removed(self) -> None:
        """The pod's object is gone: stop at once, and tell nobody."""
        self._gone = True
        self.pulse.beat()

    def fail(
        self, reason: str, message: str, grace_s: float | None = None, *, disrupted: bool = False
    ) -> None:
        """End the pod as failed by the agent, within `grace_s` if its own grace is longer;
        `disrupted` when it is by no fault of its own (KEP-3329)."""
        self.grace_limit_s = grace_s
        if self.state.failure is None and not self.ends:
            self.state.failure = (reason, message)
            self.state.disrupted = disrupted
        self.pulse.beat()

    def exited(self, container: Container) -> None:
        name = container.annotations.get(CONTAINER_NAME, "")
        if not name:
            # What held the pod's processes together is gone, and they with it.
            self.sandbox.ready = False
        runs = self.state.attempts.get(name, [])
        for index, run in enumerate(runs):
            if run.id == container.id:
                ended = attempt_of(container, self.containers.get(name))
                runs[index] = replace(ended, image_ref=run.image_ref, image_id=run.image_id)
                if index == len(runs) - 1:
                    self.forget_health(name)
        self.pulse.beat()

    def _objects_changed(self) -> None:
        self.sandbox.refresh()
        for name, held in tuple(self.state.waiting.items()):
            if held.reason in CONFIG_REASONS:
                self.state.waiting[name] = replace(held, retry_at=self.parts.clock.now())
        self.pulse.beat()

    # The loop

    async def run(self) -> None:
        """Until the pod is gone. Cancelling it leaves the containers alone."""
        try:
            self._adoption = await adopt(self)
            while not self._gone and not self._is_deleted():
                seen = self.pulse.count
                wake_at = self._timed_step()
                if self.pulse.count == seen:
                    await self._rest(wake_at)
            await self._stop()
        finally:
            await self._let_go()

    async def _rest(self, wake_at: float) -> None:
        if not wake_at:
            await self.pulse.wait()
            return
        await self.pulse.wait(max(0.0, wake_at - self.parts.clock.now()))

    def _is_deleted(self) -> bool:
        return bool(self.state.pod["metadata"].get("deletionTimestamp"))

    @property
    def gone(self) -> bool:
        """The pod's object is no more: it was removed by force."""
        return self._gone

    @property
    def ends(self) -> bool:
        """The pod is being deleted."""
        return self._gone or self._is_deleted()

    def _timed_step(self) -> float:
        began = self.parts.clock.monotonic()
        wake_at = self._step()
        self.parts.tally.time(POD_WORKER, self.parts.clock.monotonic() - began, self._sort)
        self._sort = "sync"
        return wake_at

    def _step(self) -> float:
        """Decide, set in motion, report; returns when to look again (0: not by time)."""
        state = self.state
        now = self.parts.clock.now()
        plan = decide(state, now)
        if plan.failure:
            state.failure = plan.failure
            self.narrator.pod("Normal", *plan.failure)
        for name, held in plan.waiting.items():
            if state.waiting.get(name) != held and name not in self._operations:
                state.waiting[name] = held
                self._tell_back_off(name)
        for name in plan.start:
            self._launch_start(name, plan, now)
        for name in plan.resize:
            self._launch(name, partial(self.resizer.apply, name), quiet=True)
        self.resizer.settle()
        if plan.rewind and not self._operations:
            names = [item["name"] for item in every_container(state)]
            state.fresh, state.again = set(names), {name for name in names if state.last(name)}
            self.pulse.beat()
        for kill in plan.kill:
            if kill.again:
                state.again.add(kill.name)
            self._launch(kill.name, partial(self._restart, kill))
        if plan.done and self._release is None:
            self._release = asyncio.create_task(self._finish(), name=f"finish {state.uid}")
        refresh_at = self.sandbox.refresh_at
        if refresh_at:
            if now >= refresh_at and self._renewal is None:
                self._renewal = asyncio.create_task(self._renew(), name=f"renew {state.uid}")
            elif now < refresh_at:
                plan.wake(refresh_at)
        self._report(plan, now)
        return plan.wake_at

    async def _renew(self) -> None:
        try:
            await self.sandbox.renew()
        finally:
            self._renewal = None
            self.pulse.beat()

    def _tell_back_off(self, name: str) -> None:
        if self.state.waiting[name].reason != CRASH_LOOP:
            return
        meta = self.state.pod["metadata"]
        self.narrator.container(
            self.containers[name],
            "Warning",
            "BackOff",
            f"Back-off restarting failed container {name} in pod "
            f"{meta['name']}_{meta['namespace']}({meta['uid']})",
        )

    def _report(self, plan: Plan, now: float) -> None:
        """Send the status if it says something new and nothing is about to change it."""
        young = [
            op.began + QUIET_S
            for name, op in self._operations.items()
            if now < op.began + QUIET_S and (op.quiet or name not in self.probers)
        ]
        if young:
            plan.wake(min(young))
            return
        self._say(now)

    def _say(self, now: float) -> None:
        """Send the status if it says something new."""
        self.state.sandbox = self.sandbox.ready
        self.state.ip = self.sandbox.ip or self.state.ip or self.state.known.get("podIP", "")
        self.state.ips = self.sandbox.addresses(self.state.ip, self.state.known)
        config = self.parts.config
        status = pod_status(self.state, now, config.address, config.addresses)
        if status != self._last_status:
            self._last_status = self.state.known = status
            self.parts.reports.put(self.state.pod, status)
            if status["phase"] in ("Succeeded", "Failed"):
                # Who waits for its end has to hear of it.
                self.pulse.beat()

    # Operations

    def _launch_start(self, name: str, plan: Plan, now: float) -> None:
        if name in self._operations or self._release is not None:
            return
        if name in plan.crashes:
            self.state.crashes[name] = plan.crashes[name]
        if hook_of(self.containers[name], "postStart"):
            self.state.hooking.add(name)
        self._launch(name, partial(start_container, self, name))

    def _launch(self, name: str, run: Callable[[], Any], *, quiet: bool = False) -> None:
        if name in self._operations:
            return
        task = asyncio.create_task(self._operate(name, run), name=f"container {name}")
        self._operations[name] = Operation(task, self.parts.clock.now(), quiet=quiet)

    async def _operate(self, name: str, run: Callable[[], Any]) -> None:
        try:
            await run()
        except Exception as error:
            # A fault of ours: the pod says so and tries again, the agent lives on.
            log.exception("pod %s: container %s", self.state.uid, name)
            retry_at = self.parts.clock.now() + QUIET_S * 10
            self.state.waiting[name] = Waiting("CreateContainerError", str(error), retry_at)
        finally:
            self._operations.pop(name, None)
            self.state.hooking.discard(name)
            self.pulse.beat()

    def commit(self, name: str, *, stoppable: bool = False) -> None:
        """From here on the operation must not be interrupted, as something exists; or may be
        again."""
        if name in self._operations:
            self._operations[name].stoppable = stoppable

    async def prepared(self) -> None:
        """The pod's network and volumes; shared by all containers. Raises Held."""
        if self._preparing is None or (self._preparing.done() and not self.sandbox.ready):
            self._preparing = asyncio.create_task(
                self.sandbox.prepare(), name=f"sandbox {self.state.uid}"
            )
            self._preparing.add_done_callback(_retrieve)
        await asyncio.shield(self._preparing)

    def watch_health(self, name: str, run: Attempt, health: Health | None = None) -> None:
        """Start the probes of a running container."""
        self.forget_health(name)
        container = self.containers.get(name)
        if container is None:
            return

        def changed(verdict: Health) -> None:
            self.state.health[name] = verdict
            self.pulse.beat()

        around = (self.parts.runtime, self.parts.clock, self.narrator, self.parts.tally)
        target = Target(container, run.id, self.sandbox.ip)
        prober = Prober(around, target, changed, health)
        self.probers[name] = prober
        self.state.health[name] = prober.health

    def forget_health(self, name: str) -> None:
        prober = self.probers.pop(name, None)
        if prober is not None:
            prober.stop()
        self.state.health.pop(name, None)

    async def _restart(self, kill: Kill) -> None:
        """Kill a container while its pod lives on; its exit starts it again, if it is to be."""
        self.commit(kill.name)
        grace = grace_of_restart(self, kill.name, kill.probe, hasty=kill.hasty)
        await stop_container(self, kill.name, kill.why, grace, hook=not kill.hasty)

    # The end

    async def _finish(self) -> None:
        """The pod has run its course: stop what still runs, free the network, keep the logs."""
        try:
            await self._end_starts()
            await stop_containers(self, partial(grace_of_finish, self))
            self.state.stopped = True
            self.parts.ledger.release(self.state.uid)
            await self.sandbox.remove(volumes=False)
        finally:
            self.pulse.beat()

    async def _stop(self) -> None:
        """The pod is deleted: stop its containers, say so, clean up, let its object go."""
        state = self.state
        state.terminating = True
        await self._end_operations()
        telling = asyncio.create_task(self._tell_of_stop(), name=f"telling {state.uid}")
        try:
            await stop_containers(self, partial(grace_of_deletion, self))
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        state.stopped = True
        now = self.parts.clock.now()
        if not self._gone:
            state.ip = self.sandbox.ip or state.known.get("podIP", "")
            state.ips = self.sandbox.addresses(state.ip, state.known)
            config = self.parts.config
            status = pod_status(state, now, config.address, config.addresses)
            self.parts.reports.put(state.pod, status)
        await asyncio.gather(self._clean_up(), self.parts.reports.flushed(state.uid))
        if not self._gone:
            await end_object(self)

    async def _tell_of_stop(self) -> None:
        """While some containers still run, say which have ended and who is ready; once none does
        the last word follows anyway."""
        while True:
            await self.pulse.wait()
            runs = [runs[-1] for runs in self.state.attempts.values() if runs]
            if not self._gone and any(run.state == RUNNING for run in runs):
                self._say(self.parts.clock.now())

    async def _end_operations(self) -> None:
        for task in (self._release, self._renewal):
            if task is not None:
                await asyncio.wait([task])
        await self._end_starts()
        if self._preparing is not None and not self._preparing.done():
            await asyncio.wait([self._preparing])

    async def _end_starts(self) -> None:
        """Break off what has made nothing yet (a pull, say); wait for the rest."""
        if self._adoption is not None:
            self._adoption.cancel()
        for operation in tuple(self._operations.values()):
            if operation.stoppable:
                operation.task.cancel()
        if self._operations:
            await asyncio.wait([item.task for item in self._operations.values()])

    async def _clean_up(self) -> None:
        runs = [run for runs in self.state.attempts.values() for run in runs if run.id]
        done = await asyncio.gather(
            *(self.parts.runtime.delete(run.id) for run in runs), return_exceptions=True
        )
        for run, result in zip(runs, done, strict=True):
            if isinstance(result, Exception):
                # The agent takes away what belongs to no pod.
                log.warning("container %s stays: %s", run.id[:12], result)
        await self.sandbox.remove(volumes=True)
        self.parts.pulls.forget(self.state.uid)

    async def _let_go(self) -> None:
        """End every task of ours; containers stay as they are."""
        for prober in self.probers.values():
            prober.stop()
        tasks = [item.task for item in self._operations.values()]
        around = (self._release, self._renewal, self._adoption, self._preparing)
        tasks += [task for task in around if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.parts.objects.release(self.state.uid)

    # For operations

    def record(self, name: str, run: Attempt) -> list[Attempt]:
        """Remember a new run, or a new state of the last; returns runs to be removed."""
        runs = self.state.attempts.setdefault(name, [])
        if runs and runs[-1].id == run.id and run.id:
            runs[-1] = run
        else:
            runs.append(run)
            self.state.again.discard(name)
            self.state.fresh.discard(name)
        old, self.state.attempts[name] = runs[:-2], runs[-2:]
        return old

    def has_exited(self, name: str, run_id: str) -> bool:
        run = self.state.last(name)
        return run is None or run.id != run_id or run.state == EXITED


def _containers(pod: Object) -> dict[str, Mapping[str, Any]]:
    """By name, init containers first, those added for debugging last."""
    return {
        item["name"]: item
        for field in ("initContainers", "containers", "ephemeralContainers")
        for item in pod["spec"].get(field) or ()
    }


def _retrieve(task: asyncio.Task[None]) -> None:
    """Its failure was told to whoever waited; nobody may have."""
    if not task.cancelled():
        task.exception()
