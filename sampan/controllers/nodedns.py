"""Name servers of nodes that are cut off or gone answer nobody: their EndpointSlices say so.

Each node's DNS server announces itself in a slice of kube-system/kube-dns, which no other
controller looks after, as it has no pods. While the node is Unknown its endpoints are not ready;
the server itself writes them ready again when it is back. The slice of a deleted node goes.
"""

from __future__ import annotations

from collections.abc import Iterable

from sampan.api.errors import NotFound, Object
from sampan.api.resources import resource

from .node_plan import ready_status
from .runtime.controller import Context, Controller
from .runtime.queue import Request

NAMESPACE = "kube-system"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
SERVER = "dns.sampan.io"
BY_NODE = "dns-node"
AWAY = {"ready": False, "serving": False, "terminating": False}


class NodeDnsController(Controller):
    """See the module. Only what happens to nodes is looked at: a server that is back writes its
    slice before its node is known to be."""

    name = "node_dns"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("endpointslices", "discovery.k8s.io")
        self.nodes = self.informer(resource("nodes"))
        self.slices = self.informer(self.resource)
        self.slices.add_index(BY_NODE, nodes_of)
        self.nodes.on_change(self._node_changed)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None or (ready_status(new) == "Unknown" and _status(old) != "Unknown"):
            self.queue.add(Request("", (new or old or {})["metadata"]["name"]))

    async def reconcile(self, request: Request) -> None:
        node = self.nodes.get("", request.name)
        if node is not None and ready_status(node) != "Unknown":
            return
        for found in tuple(self.slices.by_index(BY_NODE, request.name)):
            name = found["metadata"]["name"]
            try:
                if node is None:
                    await self.client.delete(self.resource, name, NAMESPACE)
                elif any(item.get("conditions") != AWAY for item in found["endpoints"]):
                    endpoints = [{**item, "conditions": AWAY} for item in found["endpoints"]]
                    await self.client.update(self.resource, {**found, "endpoints": endpoints})
            except NotFound:
                continue


def _status(node: Object | None) -> str:
    return ready_status(node) if node is not None else ""


def nodes_of(item: Object) -> Iterable[str]:
    """The node that a name server's slice is of."""
    meta = item["metadata"]
    if meta["namespace"] != NAMESPACE or (meta.get("labels") or {}).get(MANAGED_BY) != SERVER:
        return ()
    return {entry.get("nodeName") or "" for entry in item.get("endpoints") or ()}
