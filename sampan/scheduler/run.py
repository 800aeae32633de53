"""The scheduler: pending pods in, bindings out.

Tasks: `run` decides, one pod after the other, in turns of at most `TURN_PODS` so that the loop it
shares stays free; each binding is a request of its own, at most `BINDINGS` under way. A decision
counts at once (the pod is "assumed" on its node) and is taken back when the binding fails. Queues:
`queue.Queue` (bounded by the pending pods), and the event recorder's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from sampan.aio.clock import Clock
from sampan.api.errors import Conflict, NotFound, Object, StatusError
from sampan.api.resources import resource
from sampan.client.api import Client
from sampan.client.events import EventRecorder
from sampan.client.informer import Informers

from .configuration import backoff_of, profiles_of
from .defaults import Defaults
from .devices import Devices
from .extended import is_extended
from .failing import (
    DEVICES,
    Failing,
    Failure,
    Stuck,
    any_for_extenders,
    claims_help,
    coming_helps,
    devices_help,
    leaving_helps,
    node_helps,
)
from .guest import Guest, awaits_claims, guest_of, labelled, same
from .metrics import ERROR, SCHEDULED, UNSCHEDULABLE, Metrics
from .nodes import Nodes, NodeState
from .preemption import Surroundings
from .profile import NAME
from .queue import Queue
from .shapes import Shapes
from .telling import FAULT, Telling
from .volumes import Volumes

if TYPE_CHECKING:
    from .extending import Extending

log = logging.getLogger("sampan.scheduler")

TURN_PODS = 50
BINDINGS = 64
"""More would only queue in the API server, and be thrown away when the scheduler ends."""
FINAL = ("Succeeded", "Failed")

# Changes that wake pods, by upstream's names, for metrics.
POD_CAME, POD_LEFT = "AssignedPodAdd", "AssignedPodDelete"
CLAIMS_CHANGED, DEVICES_CHANGED = "PersistentVolumeClaimUpdate", "ResourceClaimUpdate"


class Attempt(NamedTuple):
    """One try of a pod that has found a node."""

    pod: Object
    guest: Guest
    began: float
    history: tuple[int, float]
    """Which try it is, and when the pod came."""


class Scheduler:
    """Made by the daemon; `run` until it is cancelled."""

    def __init__(
        self,
        client: Client,
        informers: Informers,
        clock: Clock,
        configuration: Object | None = None,
    ) -> None:
        """`configuration` is a KubeSchedulerConfiguration. Raises ValueError for a bad one."""
        self._profiles = profiles_of(configuration)
        self._clock = clock
        self._pods = informers.informer(resource("pods"))
        self._node_informer = informers.informer(resource("nodes"))
        self._namespaces = informers.informer(resource("namespaces"))
        self._budgets = informers.informer(resource("poddisruptionbudgets", "policy"))
        self._nodes = Nodes()
        self._volumes = self._nodes.volumes = Volumes(client, informers, clock)
        self._devices = self._nodes.devices = Devices(
            client, informers, clock, lambda: self._wake(devices_help, DEVICES_CHANGED)
        )
        self._shapes = Shapes(self._nodes)
        self._defaults = Defaults(informers)
        self._failing = Failing(self._nodes, self._around)
        self._extending: Extending | None = None
        if (configuration or {}).get("extenders"):
            from .extending import Extending

            self._extending = Extending(
                configuration or {}, self._failing, self._nodes, self._pod_of
            )
        self._queue = Queue(*backoff_of(configuration))
        self._pending: dict[str, tuple[Object, Guest]] = {}
        self._events = {name: EventRecorder(client, name, clock=clock) for name in self._profiles}
        self._telling = Telling(client, self._events, clock)
        self._slots = asyncio.Semaphore(BINDINGS)
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._gated: set[str] = set()
        self.metrics = Metrics()

    def exposition(self) -> str:
        """What /metrics says of scheduling."""
        sizes = {**self._queue.sizes, "gated": len(self._gated)}
        return self.metrics.exposition(sizes, self._queue.incoming)

    async def run(self) -> None:
        for informer in (self._pods, self._node_informer, self._namespaces, self._budgets):
            await informer.synced()
        await self._volumes.synced()
        await self._defaults.synced()
        stops = [
            *self._defaults.start(),
            self._volumes.on_change(lambda: self._wake(claims_help, CLAIMS_CHANGED)),
            self._namespaces.on_change(self._on_namespace),
            self._node_informer.on_change(self._on_node),
            self._pods.on_change(self._on_pod),
            self._budgets.on_change(lambda old, new: self._failing.forget()),
        ]
        recorders = [
            asyncio.create_task(item.run(), name=f"events of {name}")
            for name, item in self._events.items()
        ]
        try:
            while True:
                await self._turn()
                await self._wait()
        finally:
            for stop in stops:
                stop()
            self._devices.close()
            under_way = [*recorders, *self._tasks]
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            if self._extending is not None:
                await self._extending.close()

    # What informers say

    def _on_node(self, old: Object | None, new: Object | None) -> None:
        nodes = self._nodes
        layout = nodes.layout
        if new is None:
            nodes.remove_node((old or {})["metadata"]["name"])
            self._wake(coming_helps, "NodeDelete")
        elif nodes.set_node(new):
            state, moved = nodes.by_name[new["metadata"]["name"]], nodes.layout != layout
            event = "NodeAdd" if old is None else "NodeUpdate"
            self._wake(lambda stuck: node_helps(stuck, state, moved), event)

    def _on_namespace(self, old: Object | None, new: Object | None) -> None:
        name = (new or old or {})["metadata"]["name"]
        labels = ((new or {}).get("metadata") or {}).get("labels") or {}
        if new is None:
            self._nodes.set_namespace(name, None)
        elif self._nodes.namespaces.get(name) != labels:
            self._nodes.set_namespace(name, labels)
            self._shapes.namespaces_changed()
            if old is not None:
                self._wake(coming_helps, "NamespaceUpdate")

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        pod = new or old or {}
        uid = pod["metadata"]["uid"]
        if self._gated:
            self._gated.discard(uid)
        if new is None or (new.get("status") or {}).get("phase") in FINAL:
            self._drop(uid)
            self._leave(uid)
        elif node_name := pod["spec"].get("nodeName"):
            if self._is_confirmed(uid, pod, node_name):
                self._pending.pop(uid)
                self._queue.remove(uid)
                return
            self._drop(uid)
            if old is None or not same(old, pod) or self._nodes.home(uid) != node_name:
                self._settle(uid, pod, node_name)
        elif self._is_ours(pod):
            self._await(uid, pod)
        else:
            if pod["spec"].get("schedulingGates") or awaits_claims(pod):
                self._gated.add(uid)
            self._drop(uid)
            self._leave(uid)

    def _is_confirmed(self, uid: str, pod: Object, node_name: str) -> bool:
        """Is this just what was decided? Then it is counted already, as it is."""
        known = self._pending.get(uid)
        if known is None or known[1].nominated or self._nodes.home(uid) != node_name:
            return False
        after = pod["metadata"]
        node = self._nodes.by_name.get(node_name)
        placed = node.pods.get(uid) if node is not None else None
        return (
            placed is not None
            and placed.labels == (after.get("labels") or {})
            and "deletionTimestamp" not in after
            and {**known[0]["spec"], "nodeName": node_name} == pod["spec"]
        )

    def _settle(self, uid: str, pod: Object, node_name: str) -> None:
        """A pod is on its node; resized, relabelled or leaving it may be."""
        position = self._nodes.position
        node, guest = self._nodes.by_name.get(node_name), guest_of(pod)
        known = node.pods.get(uid) if node is not None else None
        self._nodes.place(guest, node_name)
        if self._nodes.position != position:
            # Labels, and that it is on its way out, matter to its neighbours alone.
            if known is not None and known.demand != guest.demand:
                self._wake(lambda stuck: leaving_helps(stuck, node), POD_LEFT)
            else:
                self._wake(coming_helps, POD_CAME)

    def _await(self, uid: str, pod: Object) -> None:
        """A pod of ours has no node."""
        known = self._pending.get(uid)
        if known is not None and same(known[0], pod):
            self._pending[uid] = (pod, known[1])
            return
        if known is not None:
            self._nodes.nominate(known[1], "")
        guest = guest_of(pod, self._profiles[pod["spec"].get("schedulerName") or NAME])
        guest.extended = tuple(filter(is_extended, guest.demand.requests))
        self._nodes.nominate(guest, (pod.get("status") or {}).get("nominatedNodeName") or "")
        self._pending[uid] = (pod, guest)
        self._queue.add(uid, guest.priority, self._clock.monotonic())
        self._changed.set()

    def _is_ours(self, pod: Object) -> bool:
        spec = pod["spec"]
        return (
            (spec.get("schedulerName") or NAME) in self._profiles
            and not spec.get("schedulingGates")
            and not awaits_claims(pod)
            and "deletionTimestamp" not in pod["metadata"]
        )

    def _drop(self, uid: str) -> None:
        known = self._pending.pop(uid, None)
        if known is not None:
            self._queue.remove(uid)
            self._release(known[1])

    def _release(self, guest: Guest) -> None:
        """Give up the place kept for a pod."""
        if guest.nominated:
            node = self._nodes.by_name.get(guest.nominated)
            self._nodes.nominate(guest, "")
            self._wake(lambda stuck: leaving_helps(stuck, node), POD_LEFT)

    def _leave(self, uid: str) -> None:
        name = self._nodes.displace(uid)
        if name is not None:
            node = self._nodes.by_name.get(name)
            self._wake(lambda stuck: leaving_helps(stuck, node), POD_LEFT)

    def _wake(self, helps: Callable[[Stuck], bool], event: str) -> None:
        asked = helps if self._extending is None else any_for_extenders(helps)
        if self._queue.wake(self._clock.monotonic(), asked, event):
            self._changed.set()

    # Deciding

    async def _turn(self) -> None:
        find = self._shapes.best
        for _ in range(TURN_PODS):
            await self._slots.acquire()
            uid = self._queue.pop(self._clock.monotonic())
            if uid is None:
                self._slots.release()
                return
            began = perf_counter()
            pod, guest = self._pending[uid]
            if (guest.devices or guest.extended) and (filling := self._devices.filling):
                await filling
                if self._has_changed(guest):
                    continue
            several = len(self._nodes.by_name) > 1 or guest.profile.hard_defaults
            if several and not pod["spec"].get("topologySpreadConstraints"):
                self._defaults.spread(pod, guest)
            if guest.extended:
                self._devices.fit_extended(pod, guest, self._nodes)
            if self._extending is not None and self._extending.concerns(pod):
                await self._try_with(self._extending, pod, guest, began)
                continue
            node = find(guest) or self._devices.find_otherwise(pod, guest, self._nodes, find)
            self.metrics.decided(guest.profile.name, node is not None, perf_counter() - began)
            if node is not None:
                self._take(pod, guest, node, began)
            else:
                looked = perf_counter()
                failure = self._failing.look(guest)
                said = "Success" if failure.plan.node else "Unschedulable"
                self.metrics.passed("PostFilter", guest.profile.name, said, looked)
                self._refuse(pod, guest, failure, began)
        self._changed.set()
        await asyncio.sleep(0)

    async def _try_with(
        self, extending: Extending, pod: Object, guest: Guest, began: float
    ) -> None:
        """Extenders are asked; the pod may be another when they have answered, or gone."""
        failure, fault = None, ""
        choice = None
        try:
            choice = await extending.choose(pod, guest)
            if choice.node is None:
                failure = await extending.fail(pod, guest, choice.told)
        except OSError as error:
            fault = str(error)
        found = choice is not None and choice.node is not None
        self.metrics.decided(guest.profile.name, found, perf_counter() - began)
        if self._has_changed(guest):
            return
        if failure is not None:
            self._refuse(pod, guest, failure, began)
        elif choice is not None and choice.node is not None:
            self._take(pod, guest, choice.node, began)
        else:
            self._nodes.nominate(guest, "")
            self._queue.retry(guest.uid, self._clock.monotonic())
            self.metrics.attempt(guest.profile.name, ERROR, perf_counter() - began)
            self._spawn(self._telling.report(pod, fault, "", FAULT))

    def _has_changed(self, guest: Guest) -> bool:
        """Is the pod gone or another since it was taken from the queue? Then it is put back."""
        known = self._pending.get(guest.uid)
        if known is not None and known[1] is guest:
            return False
        self._slots.release()
        self._queue.retry(guest.uid, self._clock.monotonic())
        return True

    def _take(self, pod: Object, guest: Guest, node: NodeState, began: float) -> None:
        """The node is the pod's from now on."""
        self._nodes.nominate(guest, "")
        self._nodes.place(labelled(guest, node), node.name)
        if guest.has_devices:
            self._devices.assume(guest, node)
        if self._queue.has_waiting:
            self._wake(coming_helps, POD_CAME)
        attempt = Attempt(pod, guest, began, self._queue.tried(guest.uid))
        self._spawn(self._bind(attempt, node))

    def _refuse(self, pod: Object, guest: Guest, failure: Failure, began: float) -> None:
        self._spawn(self._fail(pod, guest, failure))
        self.metrics.attempt(guest.profile.name, UNSCHEDULABLE, perf_counter() - began)

    def _fail(self, pod: Object, guest: Guest, failure: Failure) -> Coroutine[Any, Any, None]:
        """No node fits: somebody may leave, or it waits for what would help."""
        below: list[Object] = []
        if failure.plan.node:
            self.metrics.preemptions += 1
            self.metrics.victims.observe(len(failure.plan.victims))
            self._failing.preempting.add(guest.uid)
            for other in [*self._nodes.nominated.get(failure.plan.node, {}).values()]:
                if other.priority < guest.priority:
                    self._nodes.nominate(other, "")
                    below.append(self._pending[other.uid][0])
            self._nodes.nominate(guest, failure.plan.node)
        elif guest.nominated and not failure.waits:
            self._nodes.nominate(guest, "")
        self._queue.park(guest.uid, self._clock.monotonic(), failure.stuck)
        idle = self._devices.idle_claim(guest) if guest.has_devices else None
        if idle is not None and DEVICES & failure.stuck.plugins:
            return self._devices.deallocate(idle)
        return self._tell_failure(pod, guest, failure, below)

    async def _tell_failure(
        self, pod: Object, guest: Guest, failure: Failure, below: list[Object]
    ) -> None:
        """`below` are pods whose nomination gave way to this one's."""
        try:
            await self._telling.report(pod, failure.text, guest.nominated)
            for other in below:
                await self._telling.nominate(other, None)
            for guest_below in failure.plan.victims:
                victim = self._pods.get(guest_below.namespace, guest_below.name)
                if victim is not None and victim["metadata"]["uid"] == guest_below.uid:
                    await self._telling.preempt(victim, pod, failure.plan.node)
        finally:
            if failure.plan.node:
                self._failing.preempting.discard(guest.uid)

    def _around(self) -> Surroundings:
        return Surroundings(self._budgets.list(), self._started)

    def _started(self, guest: Guest) -> str:
        pod = self._pod_of(guest) or {}
        return (pod.get("status") or {}).get("startTime") or ""

    def _pod_of(self, guest: Guest) -> Object | None:
        return self._pods.get(guest.namespace, guest.name)

    async def _wait(self) -> None:
        """Until something changes or a back-off ends."""
        due = self._queue.next_due_s()
        timer = None
        if due is not None:
            delay = max(0.0, due - self._clock.monotonic())
            timer = asyncio.create_task(self._ring(delay), name="scheduler back-off")
        await self._changed.wait()
        self._changed.clear()
        if timer is not None:
            timer.cancel()

    async def _ring(self, delay_s: float) -> None:
        await self._clock.sleep(delay_s)
        self._changed.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        if not task.cancelled() and task.exception() is not None:
            log.error("a scheduling task failed", exc_info=task.exception())

    async def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        """May take minutes, in which others are bound: the slot is theirs."""
        self._slots.release()
        try:
            await work
        finally:
            await self._slots.acquire()

    async def _prepare(self, pod: Object, guest: Guest, node: NodeState) -> None:
        """Have what the pod claims made ready on the node. Who makes it, and autoscalers, are told
        where the pod is expected (KEP-5278); the binding takes that back."""
        if guest.has_devices or self._volumes.awaits(guest):
            await self._telling.nominate(pod, node.name)
        if guest.has_devices:
            await self._devices.bind(pod, guest, node)
            if self._devices.waits(guest):
                self._telling.waits_for_devices(pod, node.name)
                await self._aside(self._devices.await_ready(guest))
        if guest.claims:
            await self._aside(self._volumes.bind(guest, node))

    def _give_back(self, guest: Guest) -> None:
        """Binding it failed. Is it on a node nevertheless, as its event said meanwhile (another
        bound it, or the answer got lost), then it is counted there."""
        self._devices.forget(guest)
        if guest.uid in self._pending:
            self._leave(guest.uid)

    async def _bind(self, attempt: Attempt, node: NodeState) -> None:
        pod, guest = attempt.pod, attempt.guest
        uid, result, point = guest.uid, ERROR, "PreBind"
        since = perf_counter()
        try:
            await self._prepare(pod, guest, node)
            self.metrics.passed(point, guest.profile.name, "Success", since)
            point, since = "Bind", perf_counter()
            if self._extending is not None and await self._extending.bind(pod, node.name):
                self._telling.assigned(pod, node.name)
            else:
                await self._telling.bind(pod, node.name)
        except NotFound:
            self._give_back(guest)
            self._drop(uid)
        except Exception as error:
            # Whatever it is, the pod is tried again: nobody else would take it up.
            self._give_back(guest)
            # A conflict means that somebody else bound or changed it: the informer will say.
            if uid in self._pending and not isinstance(error, Conflict):
                odd = None if isinstance(error, StatusError | OSError) else error
                log.warning("binding %s/%s: %s", guest.namespace, guest.name, error, exc_info=odd)
                latest = self._pending.get(uid, (pod, guest))[0]
                await self._telling.report(latest, str(error), "", FAULT)
            self._queue.retry(uid, self._clock.monotonic())
            self._changed.set()
        else:
            result = SCHEDULED
            tries, came_s = attempt.history
            self.metrics.placed(tries, self._clock.monotonic() - came_s)
        said = "Success" if result == SCHEDULED else "Error"
        self.metrics.passed(point, guest.profile.name, said, since)
        self.metrics.attempt(guest.profile.name, result, perf_counter() - attempt.began)
