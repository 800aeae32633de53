"""The scheduler: pending pods in, bindings out.

Tasks: `run` decides, one pod after the other, in turns of at most `TURN_PODS` so that the loop it
shares stays free; each binding is a request of its own, at most `BINDINGS` under way. A decision
counts at once (the pod is "assumed" on its node) and is taken back when the binding fails. Queues:
`queue.Queue` (bounded by the pending pods), and the event recorder's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any

from sampan.aio.clock import Clock
from sampan.api.errors import Conflict, NotFound, Object, StatusError
from sampan.api.resources import resource
from sampan.client.api import Client
from sampan.client.events import EventRecorder
from sampan.client.informer import Informers
from sampan.client.interface import STRATEGIC_PATCH

from .guest import Guest, guest_of
from .nodes import Nodes
from .queue import Queue
from .shapes import Shapes
from .verdict import explain

log = logging.getLogger("sampan.scheduler")

NAME = "default-scheduler"
TURN_PODS = 50
BINDINGS = 64
"""More would only queue in the API server, and be thrown away when the scheduler ends."""
FINAL = ("Succeeded", "Failed")


class Scheduler:
    """Made by the daemon; `run` until it is cancelled."""

    def __init__(self, client: Client, informers: Informers, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._pods = informers.informer(resource("pods"))
        self._node_informer = informers.informer(resource("nodes"))
        self._namespaces = informers.informer(resource("namespaces"))
        self._nodes = Nodes()
        self._shapes = Shapes(self._nodes)
        self._queue = Queue()
        self._pending: dict[str, tuple[Object, Guest]] = {}
        self._events = EventRecorder(client, NAME, clock=clock)
        self._slots = asyncio.Semaphore(BINDINGS)
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.attempts: dict[str, int] = {"scheduled": 0, "unschedulable": 0, "error": 0}
        """scheduler_schedule_attempts_total by result."""

    async def run(self) -> None:
        await self._pods.synced()
        await self._node_informer.synced()
        await self._namespaces.synced()
        stops = [
            self._namespaces.on_change(self._on_namespace),
            self._node_informer.on_change(self._on_node),
            self._pods.on_change(self._on_pod),
        ]
        recorder = asyncio.create_task(self._events.run(), name="scheduler events")
        try:
            while True:
                await self._turn()
                await self._wait()
        finally:
            for stop in stops:
                stop()
            recorder.cancel()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(recorder, *self._tasks, return_exceptions=True)

    # What informers say

    def _on_node(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            self._nodes.remove_node((old or {})["metadata"]["name"])
        elif self._nodes.set_node(new):
            self._wake()

    def _on_namespace(self, old: Object | None, new: Object | None) -> None:
        name = (new or old or {})["metadata"]["name"]
        labels = ((new or {}).get("metadata") or {}).get("labels") or {}
        if new is None:
            self._nodes.set_namespace(name, None)
        elif self._nodes.namespaces.get(name) != labels:
            self._nodes.set_namespace(name, labels)
            self._shapes.namespaces_changed()
            if old is not None:
                self._wake()

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        pod = new or old or {}
        uid = pod["metadata"]["uid"]
        ended = new is None or (new.get("status") or {}).get("phase") in FINAL
        if ended:
            self._drop(uid)
            if self._nodes.displace(uid):
                self._wake()
        elif node_name := pod["spec"].get("nodeName"):
            self._drop(uid)
            if old is None or not same(old, pod) or self._nodes.home(uid) != node_name:
                self._nodes.place(guest_of(pod), node_name)
        elif self._is_ours(pod):
            known = self._pending.get(uid)
            if known is None or not same(known[0], pod):
                priority = pod["spec"].get("priority") or 0
                self._queue.add(uid, priority, self._clock.monotonic())
                self._changed.set()
                self._pending[uid] = (pod, guest_of(pod))
            else:
                self._pending[uid] = (pod, known[1])
        else:
            self._drop(uid)

    @staticmethod
    def _is_ours(pod: Object) -> bool:
        spec = pod["spec"]
        return (
            spec.get("schedulerName", NAME) == NAME
            and not spec.get("schedulingGates")
            and "deletionTimestamp" not in pod["metadata"]
        )

    def _drop(self, uid: str) -> None:
        self._pending.pop(uid, None)
        self._queue.remove(uid)

    def _wake(self) -> None:
        self._queue.wake(self._clock.monotonic())
        self._changed.set()

    # Deciding

    async def _turn(self) -> None:
        for _ in range(TURN_PODS):
            await self._slots.acquire()
            uid = self._queue.pop(self._clock.monotonic())
            if uid is None:
                self._slots.release()
                return
            pod, guest = self._pending[uid]
            node = self._shapes.best(guest)
            if node is not None:
                self._nodes.place(guest, node.name)
                self._spawn(self._bind(uid, pod, node.name))
            else:
                why = explain(guest, self._nodes)
                self._queue.park(uid, self._clock.monotonic())
                self._spawn(self._report(pod, why))
        self._changed.set()
        await asyncio.sleep(0)

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

    # Telling the API

    async def _bind(self, uid: str, pod: Object, node_name: str) -> None:
        meta = pod["metadata"]
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta["name"], "namespace": meta["namespace"], "uid": uid},
            "target": {"kind": "Node", "name": node_name},
        }
        try:
            await self._client.create(
                resource("pods"), binding, meta["namespace"], meta["name"], "binding"
            )
        except NotFound:
            self._nodes.displace(uid)
            self._drop(uid)
        except (StatusError, OSError) as error:
            self.attempts["error"] += 1
            self._nodes.displace(uid)
            # A conflict means that somebody else bound or changed it: the informer will say.
            if not isinstance(error, Conflict):
                log.warning("binding %s/%s: %s", meta["namespace"], meta["name"], error)
            self._queue.retry(uid, self._clock.monotonic())
            self._changed.set()
        else:
            self.attempts["scheduled"] += 1
            text = f"Successfully assigned {meta['namespace']}/{meta['name']} to {node_name}"
            self._events.event(pod, "Normal", "Scheduled", text)

    async def _report(self, pod: Object, why: str) -> None:
        """Event and condition of a pod that fits nowhere; an unchanged condition is not sent."""
        self.attempts["unschedulable"] += 1
        self._events.event(pod, "Warning", "FailedScheduling", why)
        conditions = (pod.get("status") or {}).get("conditions") or ()
        known: Object = next((item for item in conditions if item["type"] == "PodScheduled"), {})
        if (known.get("status"), known.get("message")) == ("False", why):
            return
        moved = known.get("lastTransitionTime") if known.get("status") == "False" else None
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock.now()))
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": why,
            "lastProbeTime": None,
            "lastTransitionTime": moved or stamp,
        }
        meta = pod["metadata"]
        patch = {"metadata": {"uid": meta["uid"]}, "status": {"conditions": [condition]}}
        try:
            await self._client.patch(
                resource("pods"),
                meta["name"],
                patch,
                meta["namespace"],
                "status",
                content_type=STRATEGIC_PATCH,
            )
        except (StatusError, OSError) as error:
            log.debug("status of %s/%s: %s", meta["namespace"], meta["name"], error)


def same(old: Object, new: Object) -> bool:
    """Do two versions of a pod look the same to scheduling?"""
    before, after = old["metadata"], new["metadata"]
    return (
        old["spec"] == new["spec"]
        and before.get("labels") == after.get("labels")
        and ("deletionTimestamp" in before) == ("deletionTimestamp" in after)
    )
