"""The simulated nodes of one process: registration, Leases, and the pods bound to them.

Tasks: `run` (registers, then keeps the nodes' presence), `run_timer` (looks at pods whose time has
come), one recorder of events, and one short task per pod that is being let go. Memory: one entry
per pod of these nodes; one appointment per pod in the timer's heap, and stale ones until they are
due.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Mapping

from msgspec import Struct

from sampan.aio.clock import Clock
from sampan.aio.tasks import Supervisor
from sampan.api.errors import Object
from sampan.api.meta import has_condition
from sampan.api.resources import resource
from sampan.client.api import Client
from sampan.client.events import NORMAL, EventRecorder
from sampan.client.informer import Informers

from ..deletion import delete_object
from ..narration import Narrator
from ..reports import Reports
from .outcome import Match, Outcome, Rule, Script
from .pod import SimulatedPod
from .presence import Presence, rest
from .shape import Addresses, Shape, shares_of
from .usage import summary

log = logging.getLogger("sampan.node.simulation")

COMPONENT = "kubelet"


class _Entry(Struct):
    pod: Object
    simulated: SimulatedPod
    addresses: Addresses
    narrator: Narrator
    due: float = 0.0
    said: Object | None = None
    leaving: bool = False


class SimulatedNodes:
    """Made by whoever simulates; `start` them under a supervisor."""

    def __init__(
        self,
        client: Client,
        informers: Informers,
        clock: Clock,
        shape: Shape | None = None,
        script: Script | None = None,
    ) -> None:
        """Raises ValueError for more nodes than there are addresses for."""
        self.script = script or Script()
        self.shape = shape or Shape()
        self._client = client
        self._clock = clock
        self._reports = Reports(client, clock, remember=False)
        self._events = EventRecorder(client, COMPONENT, clock=clock)
        self._pods = informers.informer(resource("pods"))
        shares = shares_of(self.shape)
        known = informers.informer(resource("nodes"))
        self.presence = Presence(
            client, clock, self.shape, shares, lambda name: known.get("", name)
        )
        self._addresses = {name: Addresses(share) for name, share in shares.items()}
        self._entries: dict[str, _Entry] = {}
        self._timer: list[tuple[float, str]] = []
        self._sooner = asyncio.Event()
        self._leaving: set[asyncio.Task[None]] = set()

    def start(self, supervisor: Supervisor) -> None:
        """Register and behave, until the supervisor stops."""
        supervisor.start("simulated nodes", self.run)
        supervisor.start("simulated time", self.run_timer)
        supervisor.start("simulated events", self._events.run)

    # What tests say

    def decide(self, match: Match, outcome: Outcome, container: str = "") -> None:
        """From now on, and for pods that exist, `outcome` is what becomes of those that match."""
        self.script.add(Rule(match, outcome, container))
        for uid, entry in tuple(self._entries.items()):
            if match(entry.pod):
                entry.simulated.rescript(self.script)
                self._look(uid, entry)

    def silence(self, name: str) -> None:
        """The node's agent dies: no Lease is renewed, no pod of it changes any more."""
        self.presence.silent.add(name)

    def revive(self, name: str) -> None:
        """It comes back, and catches up."""
        self.presence.revive(name)
        for uid, entry in tuple(self._entries.items()):
            if entry.pod["spec"]["nodeName"] == name:
                self._look(uid, entry)

    def find(self, namespace: str, name: str) -> Object | None:
        """The pod as its node knows it."""
        for entry in self._entries.values():
            meta = entry.pod["metadata"]
            if (meta["namespace"], meta["name"]) == (namespace, name):
                return entry.pod
        return None

    def summary(self, node: str) -> Object | None:
        """What a node says that it and its pods use; None for a node that is not simulated."""
        if node not in self._addresses:
            return None
        pods = [
            {**entry.pod, "status": entry.said or {}}
            for entry in self._entries.values()
            if entry.pod["spec"]["nodeName"] == node
        ]
        return summary(pods, self.script, self._clock.now())

    # Nodes

    async def run(self) -> None:
        """Register every node, then be there, for ever."""
        await self.presence.register()
        await self._pods.synced()
        stop = self._pods.on_change(self._on_pod)
        try:
            await self.presence.keep()
        finally:
            stop()
            self.presence.close()
            for task in tuple(self._leaving):
                task.cancel()
            await self._reports.close()

    # Pods

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        pod = new if new is not None else old
        assert pod is not None
        uid = pod["metadata"]["uid"]
        if new is None:
            self._forget(uid)
            return
        node = new["spec"].get("nodeName")
        if node not in self._addresses:
            return
        entry = self._entries.get(uid)
        known = entry is not None and _is_same(entry.pod, new)
        if entry is None:
            entry = self._entries[uid] = self._admit(new, node)
        entry.pod = new
        if known and old is not None and _is_ready(old) and not _is_ready(new):
            # Somebody else has said so, as is done when a node is silent: what its agent has
            # found counts, as kubelet's status manager sees to.
            known = not _is_ready({"status": entry.said})
            entry.said = entry.said if known else None
        if not known:
            self._look(uid, entry)

    def _admit(self, pod: Object, node: str) -> _Entry:
        addresses = self._addresses[node]
        ip = (pod.get("status") or {}).get("podIP") or addresses.take()
        simulated = SimulatedPod(pod, ip, self._clock.now())
        return _Entry(pod, simulated, addresses, Narrator(self._events, pod))

    def _forget(self, uid: str) -> None:
        entry = self._entries.pop(uid, None)
        if entry is not None:
            entry.addresses.give_back(entry.simulated.state.ip)
            self._reports.forget(uid)

    def _look(self, uid: str, entry: _Entry) -> None:
        if entry.leaving or entry.pod["spec"]["nodeName"] in self.presence.silent:
            return
        before = _runs(entry.simulated)
        step = entry.simulated.step(entry.pod, self.script, self._clock.now())
        self._narrate(entry, before)
        if step.status != entry.said:
            entry.said = step.status
            self._reports.put(entry.pod, step.status)
        entry.due = step.wake_at
        if step.gone:
            entry.leaving = True
            task = asyncio.create_task(self._let_go(entry.pod), name=f"let go {uid}")
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        elif step.wake_at:
            heapq.heappush(self._timer, (step.wake_at, uid))
            if self._timer[0][1] == uid:
                self._sooner.set()

    def _narrate(self, entry: _Entry, before: Mapping[str, int]) -> None:
        """Tell of containers that have started, as kubelet's events do."""
        after = _runs(entry.simulated)
        if before == after:
            return
        spec = entry.pod["spec"]
        for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
            name = container["name"]
            if after.get(name, -1) > before.get(name, -1):
                image = container.get("image", "")
                text = f'Container image "{image}" already present on machine'
                entry.narrator.container(container, NORMAL, "Pulled", text)
                entry.narrator.container(container, NORMAL, "Created", "Container created")
                entry.narrator.container(container, NORMAL, "Started", "Container started")

    async def _let_go(self, pod: Object) -> None:
        """Take the object of a stopped pod away."""
        await self._reports.flushed(uid := pod["metadata"]["uid"])
        await delete_object(self._client, self._clock, pod, uid)

    async def run_timer(self) -> None:
        """Look at pods when their time has come, for ever."""
        while True:
            self._sooner.clear()
            if not self._timer:
                await self._sooner.wait()
                continue
            due, uid = self._timer[0]
            left = due - self._clock.now()
            if left > 0:
                await rest(self._clock, left, self._sooner)
                continue
            heapq.heappop(self._timer)
            entry = self._entries.get(uid)
            if entry is not None and entry.due == due:
                self._look(uid, entry)


def _is_same(old: Object, new: Object) -> bool:
    """Has nothing changed but what the node itself says?"""
    before, after = old["metadata"], new["metadata"]
    return (
        old["spec"] == new["spec"]
        and before.get("labels") == after.get("labels")
        and before.get("deletionTimestamp") == after.get("deletionTimestamp")
        and before.get("deletionGracePeriodSeconds") == after.get("deletionGracePeriodSeconds")
        # Their conditions are others' to say.
        and not new["spec"].get("readinessGates")
    )


def _is_ready(pod: Object) -> bool:
    return has_condition(pod, "Ready")


def _runs(simulated: SimulatedPod) -> dict[str, int]:
    return {name: runs[-1].restart_count for name, runs in simulated.state.attempts.items() if runs}
