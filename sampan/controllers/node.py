"""Node lifecycle: a node whose Lease is no longer renewed becomes Unknown, is tainted, and its pods
are no longer ready. Taints follow conditions both ways.

Silence is measured by this process's own clock from the moment a renewal was seen, so that clocks
of nodes may be wrong. A renewal only moves a number; one timer per node looks at it.
"""

from __future__ import annotations

from sampan.api.errors import NotFound, Object, StatusError
from sampan.api.resources import resource
from sampan.api.times import format_time
from sampan.client.events import NORMAL, WARNING

from .node_plan import is_evicted, ready_status, silent_conditions, taints
from .node_zones import Zones
from .runtime.conditions import condition
from .runtime.controller import Context, Controller
from .runtime.parallel import each_or_raise
from .runtime.queue import Request, Requeue
from .runtime.status import write_status

LEASES = "kube-node-lease"
BY_NODE = "node name"
COMPONENT = "node-controller"


class NodeController(Controller):
    """See the module."""

    name = "node_lifecycle_controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("nodes")
        self.pod_resource = resource("pods")
        self.grace_s = context.options.node_grace_s
        self.recorder = context.recorder(COMPONENT)
        self.nodes = self.informer(self.resource)
        self.leases = self.informer(resource("leases", "coordination.k8s.io"))
        self.pods = self.informer(self.pod_resource)
        self.pods.add_index(BY_NODE, node_of)
        self.heard_s: dict[str, float] = {}
        """When each node was last heard of, by the monotonic clock."""
        self.zones = Zones()
        self.nodes.on_change(self._node_changed)
        self.leases.on_change(self._lease_changed)
        self.pods.on_change(self._pod_changed)

    def exposition(self) -> str:
        return self.zones.exposition()

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        name = (new or old or {})["metadata"]["name"]
        for other in self.zones.note(name, new):
            self.queue.add(Request("", other))
        if new is None:
            self.heard_s.pop(name, None)
            if old is not None:
                text = f"Node {name} event: Removing Node {name} from Controller"
                self.recorder.event(_reference(old), NORMAL, "RemovingNode", text)
            return
        # A status the kubelet wrote is a sign of life too; what this controller wrote is not.
        if old is None or _heartbeat(old) != _heartbeat(new):
            self.heard_s[name] = self.clock.monotonic()
        if old is None:
            text = f"Node {name} event: Registered Node {name} in Controller"
            self.recorder.event(_reference(new), NORMAL, "RegisteredNode", text)
        self.add(new)

    def _lease_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            # A node that is gone may have renewed it once more.
            name = (old or {})["metadata"]["name"]
            if self.nodes.get("", name) is None:
                self.heard_s.pop(name, None)
            return
        if new["metadata"]["namespace"] != LEASES:
            return
        if old is not None and _renewal(old) == _renewal(new):
            return
        name = new["metadata"]["name"]
        self.heard_s[name] = self.clock.monotonic()
        node = self.nodes.get("", name)
        if node is not None and ready_status(node) == "Unknown":
            self.add(node)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        """A pod that comes to a node that is not ready is not ready either."""
        if new is None or not _says_ready(new) or (old is not None and _says_ready(old)):
            return
        node = self.nodes.get("", new["spec"].get("nodeName") or "")
        if node is not None and ready_status(node) != "True":
            self.add(node)

    async def reconcile(self, request: Request) -> Requeue | None:
        node = self.nodes.get("", request.name)
        if node is None:
            return None
        now = self.clock.monotonic()
        left_s = self.heard_s.setdefault(request.name, now) + self.grace_s - now
        if left_s <= 0 and ready_status(node) != "Unknown":
            node = await self._silence(node)
        wait_s: float | None = 0.0
        if node is not None:
            wait_s = self._eviction_wait_s(node)
            node = await self._taint(node, evict=wait_s == 0)
        if node is not None and ready_status(node) in ("False", "Unknown"):
            await self._unready_pods(request.name)
        # A silent node is heard of by its Lease or its status: no timer is needed.
        waits = [wait for wait in (left_s, wait_s or 0.0) if wait > 0]
        return Requeue(min(waits)) if waits else None

    async def _silence(self, node: Object) -> Object | None:
        conditions = silent_conditions(node, self.clock.now())
        status = {**(node.get("status") or {}), "conditions": conditions}
        name = node["metadata"]["name"]
        text = f"Node {name} status is now: NodeNotReady"
        written = await write_status(self.client, self.resource, node, status)
        if written is not None:
            self.recorder.event(_reference(written), NORMAL, "NodeNotReady", text)
        return written

    def _eviction_wait_s(self, node: Object) -> float | None:
        """0 if the node's pods may be evicted now, should it not be ready, or are already; else
        how long until then; None if they may not, until its zone's state is another."""
        if self.zones.is_lost:
            return None
        if ready_status(node) not in ("False", "Unknown") or is_evicted(node):
            return 0.0
        return self.zones.wait_s(node["metadata"]["name"], self.clock.monotonic())

    async def _taint(self, node: Object, *, evict: bool) -> Object | None:
        wanted = taints(node, self.clock.now(), evict=evict)
        if wanted == (node["spec"].get("taints") or []):
            return node
        spec = {key: value for key, value in node["spec"].items() if key != "taints"}
        if wanted:
            spec["taints"] = wanted
        name = node["metadata"]["name"]
        turn = not is_evicted(node) and is_evicted({"spec": spec})
        if turn:
            # Before the write, which waits: others are looked at meanwhile.
            self.zones.evicted(name, self.clock.monotonic())
        try:
            return await self.client.update(self.resource, {**node, "spec": spec})
        except (StatusError, OSError) as error:
            if turn:
                self.zones.spared(name)
            if isinstance(error, NotFound):
                return None
            raise

    async def _unready_pods(self, name: str) -> None:
        """Mark the node's pods as not ready, so that no service sends to them."""
        found = [pod for pod in self.pods.by_index(BY_NODE, name) if _says_ready(pod)]
        if found:
            await each_or_raise(self._unready, found)

    async def _unready(self, pod: Object) -> None:
        status = pod["status"]
        conditions = [
            {**item, "status": "False", "lastTransitionTime": format_time(self.clock.now())}
            if item.get("type") == "Ready"
            else item
            for item in status["conditions"]
        ]
        status = {**status, "conditions": conditions}
        # A conflict is tried again like all that fails: at once, the cache would still be behind.
        if await write_status(self.client, self.pod_resource, pod, status) is None:
            return
        self.recorder.event(pod, WARNING, "NodeNotReady", "Node is not ready")


def node_of(pod: Object) -> tuple[str, ...]:
    """Index function: the node a pod is bound to."""
    name = pod["spec"].get("nodeName")
    return (name,) if name else ()


def _says_ready(pod: Object) -> bool:
    found = condition((pod.get("status") or {}).get("conditions"), "Ready")
    return found is not None and found.get("status") == "True"


def _heartbeat(node: Object) -> tuple[object, ...]:
    found = condition((node.get("status") or {}).get("conditions"), "Ready") or {}
    return found.get("lastHeartbeatTime"), found.get("status") == "Unknown"


def _renewal(lease: Object) -> object:
    return (lease.get("spec") or {}).get("renewTime")


def _reference(node: Object) -> Object:
    """What events of a node are about."""
    name = node["metadata"]["name"]
    return {"kind": "Node", "apiVersion": "v1", "name": name, "uid": node["metadata"]["uid"]}
