"""Pod garbage: pods of nodes that no longer exist, pods that are terminating and were never bound
or are on a node that was put out of service, and finished pods beyond the threshold.

A node that is missing may be about to come back (a machine that is replaced), so its pods wait
`QUARANTINE_S`. Before a pod is taken away, the server, not a cache, is asked what its node is: a
pod that still runs must not be forgotten.
"""

from __future__ import annotations

from sampan.api.errors import NotFound, Object
from sampan.api.resources import resource

from .node import BY_NODE, node_of
from .node_plan import OUT_OF_SERVICE, ready_status
from .runtime import pods as podlib
from .runtime.controller import Context, Controller
from .runtime.disrupting import disrupted
from .runtime.metrics import Counters
from .runtime.queue import Request

# Upstream's quarantineTime for the pods of a deleted node.
QUARANTINE_S = 40.0
FINISHED = "finished"
DELETED = "pod_gc_collector_force_delete_pods_total"
ORPHANED, UNSCHEDULED, TERMINATED = "orphaned", "unscheduled", "terminated"
OUT = "out-of-service"
# The request that stands for all finished pods; no pod is called so.
SURPLUS = Request("", "")


class PodGcController(Controller):
    """A request with a namespace is a pod, one without is a node, SURPLUS is all finished pods."""

    name = "podgc"
    workers = 4

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("pods")
        self.threshold = context.options.terminated_pods
        self.counters = Counters({DELETED: ("namespace", "reason")})
        self.nodes = self.informer(resource("nodes"))
        self.pods = self.informer(self.resource)
        self.pods.add_index(BY_NODE, node_of)
        self.pods.add_index(FINISHED, _finished)
        self.nodes.on_change(self._node_changed)
        self.pods.on_change(self._pod_changed)

    def exposition(self) -> str:
        return self.counters.exposition()

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and is_out(new) and (old is None or not is_out(old)):
            for pod in self.pods.by_index(BY_NODE, new["metadata"]["name"]):
                if podlib.is_terminating(pod):
                    self.add(pod)
        if new is None and old is not None:
            self.queue.add_after(Request("", old["metadata"]["name"]), QUARANTINE_S)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            return
        ended = podlib.is_finished(new) and (old is None or not podlib.is_finished(old))
        if ended and self.pods.count(FINISHED, FINISHED) > self.threshold > 0:
            self.queue.add(SURPLUS)
        node = new["spec"].get("nodeName")
        if not node:
            if podlib.is_terminating(new):
                self.add(new)
            return
        known = self.nodes.get("", node)
        if known is None and (old is None or not old["spec"].get("nodeName")):
            self.queue.add_after(Request("", node), QUARANTINE_S)
        elif known is not None and podlib.is_terminating(new) and is_out(known):
            self.add(new)

    async def reconcile(self, request: Request) -> None:
        if request == SURPLUS:
            await self._trim()
        elif request.namespace:
            pod = self.pods.get(*request)
            if pod is not None and podlib.is_terminating(pod):
                await self._end(pod)
        elif await self.nodes.get_live("", request.name) is None:
            for pod in self.pods.by_index(BY_NODE, request.name):
                await self._remove(pod, ORPHANED, "PodGC: node no longer exists")

    async def _end(self, pod: Object) -> None:
        """Take a pod away that nobody will stop."""
        name = pod["spec"].get("nodeName")
        if not name:
            await self._remove(pod, UNSCHEDULED)
            return
        node = await self.nodes.get_live("", name)
        if node is not None and is_out(node):
            await self._remove(pod, OUT)

    async def _trim(self) -> None:
        """Delete the oldest finished pods beyond the threshold."""
        found = sorted(
            self.pods.by_index(FINISHED, FINISHED),
            key=lambda pod: (pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"]),
        )
        for pod in found[: len(found) - self.threshold]:
            await self._remove(pod, TERMINATED)

    async def _remove(self, pod: Object, reason: str, why: str | None = None) -> None:
        """Delete at once, there being no kubelet to do it; a pod that was cut off has failed."""
        meta = pod["metadata"]
        try:
            if not podlib.is_finished(pod):
                # Its phase stays if a finalizer keeps it: a job waits for that (KEP-3939).
                await self._fail(pod, why)
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
            await self.client.delete(self.resource, meta["name"], meta["namespace"], options)
        except NotFound:
            return
        self.counters.add(DELETED, meta["namespace"], reason)

    async def _fail(self, pod: Object, why: str | None) -> None:
        """The pod has failed; `why` it was cut off, if it was."""
        status = pod.get("status") or {}
        if why is not None:
            status = disrupted(pod, "DeletionByPodGC", why, self.clock.now())
        body = {**pod, "status": {**status, "phase": "Failed"}}
        await self.client.update(self.resource, body, "status")


def is_out(node: Object) -> bool:
    """Has an administrator said that it is shut down for good (KEP-2268), and is it not ready?"""
    taints = node["spec"].get("taints") or ()
    said = any(taint.get("key") == OUT_OF_SERVICE for taint in taints)
    return said and ready_status(node) != "True"


def _finished(pod: Object) -> tuple[str, ...]:
    return (FINISHED,) if podlib.is_finished(pod) else ()
