"""Name servers of nodes that are cut off or gone answer nobody: their EndpointSlices say so.

Each node's DNS server announces itself in a slice of kube-system/kube-dns, which no other
controller looks after, as it has no pods. While the node is Unknown its endpoints are not ready;
the server itself writes them ready again when it is back. The slice of a deleted node goes.

All slices together are the Endpoints of the service, for clients that still read these, as
Prometheus does where it is told to find endpoints.
"""

from __future__ import annotations

from collections.abc import Iterable

from sampan.api.errors import AlreadyExists, NotFound, Object
from sampan.api.resources import resource

from .endpointslicemirroring_plan import SKIP_LABEL
from .node_plan import ready_status
from .runtime.controller import Context, Controller
from .runtime.queue import Request

NAMESPACE, SERVICE = "kube-system", "kube-dns"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
SERVER = "dns.sampan.io"
BY_NODE = "dns-node"
LABELS = {
    "endpoints.kubernetes.io/managed-by": SERVER,
    "k8s-app": SERVICE,
    # The slices are what they are made of.
    SKIP_LABEL: "true",
}
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
        self.endpoints = self.informer(resource("endpoints"))
        self.nodes.on_change(self._node_changed)
        self.slices.on_change(self._slice_changed)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None or (ready_status(new) == "Unknown" and _status(old) != "Unknown"):
            self.queue.add(Request("", (new or old or {})["metadata"]["name"]))

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        if any(True for _ in nodes_of(new or old or {})):
            self.queue.add(Request(NAMESPACE, SERVICE))

    async def reconcile(self, request: Request) -> None:
        if request.namespace:
            await self._publish()
        else:
            await self._look_at_node(request)

    async def _publish(self) -> None:
        """Make the Endpoints what the slices say; those that somebody else made are theirs."""
        slices = [item for item in self.slices.list(NAMESPACE) if any(True for _ in nodes_of(item))]
        subsets = subsets_of(slices)
        found = self.endpoints.get(NAMESPACE, SERVICE)
        try:
            if found is None:
                meta = {"name": SERVICE, "labels": LABELS}
                body = {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta}
                made = {**body, "subsets": subsets}
                await self.client.create(resource("endpoints"), made, NAMESPACE)
            elif LABELS.items() <= (found["metadata"].get("labels") or {}).items() and (
                subsets != (found.get("subsets") or [])
            ):
                await self.client.update(resource("endpoints"), {**found, "subsets": subsets})
        except (AlreadyExists, NotFound):
            # Gone with its namespace, or made meanwhile, whose event brings us back.
            return

    async def _look_at_node(self, request: Request) -> None:
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


def subsets_of(slices: Iterable[Object]) -> list[Object]:
    """What Endpoints say of name servers: a subset for each set of ports, in order. Pure."""
    found: dict[str, Object] = {}
    for item in sorted(slices, key=lambda item: str(item["metadata"]["name"])):
        ports = [dict(port) for port in item.get("ports") or ()]
        subset = found.setdefault(repr(ports), {"ports": ports})
        for endpoint in item.get("endpoints") or ():
            ready = (endpoint.get("conditions") or {}).get("ready", True)
            addresses = subset.setdefault("addresses" if ready else "notReadyAddresses", [])
            for address in endpoint["addresses"]:
                addresses.append({"ip": address, "nodeName": endpoint["nodeName"]})
    return list(found.values())
