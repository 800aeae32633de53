"""Evicts pods from nodes with NoExecute taints, when their tolerations have run out."""

from __future__ import annotations

from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.api.times import parse_time
from sampan.client.events import NORMAL

from .node import BY_NODE, node_of
from .node_plan import NO_EXECUTE, eviction
from .runtime import pods as podlib
from .runtime.controller import Context, Controller
from .runtime.disrupting import delete_disrupted, disrupted
from .runtime.queue import Request, Requeue

REASON, MESSAGE = "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"


class TaintEvictionController(Controller):
    """A request is a pod."""

    name = "noexec_taint_pod"
    workers = 8

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("pods")
        self.recorder = context.recorder("taint-eviction-controller")
        self.nodes = self.informer(resource("nodes"))
        self.pods = self.informer(self.resource)
        self.pods.add_index(BY_NODE, node_of)
        self.waiting: dict[Request, float] = {}
        """Pods that were given a time to go, and since when it runs."""
        self.nodes.on_change(self._node_changed)
        self.pods.on_change(self._pod_changed)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and _strong(old) != _strong(new):
            for pod in self.pods.by_index(BY_NODE, new["metadata"]["name"]):
                self.add(pod)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        pod = new if new is not None else old
        if pod is None:
            return
        request = Request(pod["metadata"]["namespace"], pod["metadata"]["name"])
        if new is None:
            self.waiting.pop(request, None)
        elif request in self.waiting or _strong(
            self.nodes.get("", pod["spec"].get("nodeName") or "")
        ):
            self.queue.add(request)

    async def reconcile(self, request: Request) -> Requeue | None:
        pod = self.pods.get(*request)
        if pod is None or podlib.is_terminating(pod):
            self.waiting.pop(request, None)
            return None
        strong = _strong(self.nodes.get("", pod["spec"].get("nodeName") or ""))
        found = eviction(pod, strong)
        text = "/".join(request)
        if found is None:
            if request in self.waiting:
                self.waiting.pop(request, None)
                message = f"Cancelling deletion of Pod {text}"
                self.recorder.event(pod, NORMAL, "TaintManagerEviction", message)
            return None
        # The latest taint counts: it is what tolerationSeconds is about. One that was set by hand
        # does not say since when it is there: then it is since it was seen.
        since = max(
            (parse_time(taint["timeAdded"]) for taint in strong if taint.get("timeAdded")),
            default=self.waiting.get(request, self.clock.now()),
        )
        left_s = since + found.after_s - self.clock.now()
        if left_s > 0:
            self.waiting[request] = since
            return Requeue(left_s)
        self.waiting.pop(request, None)
        message = f"Marking for deletion Pod {text}"
        self.recorder.event(pod, NORMAL, "TaintManagerEviction", message)
        status = disrupted(pod, REASON, MESSAGE, self.clock.now())
        await delete_disrupted(self.client, self.resource, pod, status)
        return None


def _strong(node: Object | None) -> list[Object]:
    """The node's NoExecute taints."""
    if node is None:
        return []
    return [item for item in node["spec"].get("taints") or () if item.get("effect") == NO_EXECUTE]
