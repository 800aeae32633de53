"""Gives each node that has none its share of the cluster's pod network.

One worker, and every share it has given is remembered at once: two nodes that come together never
get the same one, however far the cache is behind.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, ip_network

from sampan.api.errors import NotFound, Object
from sampan.api.resources import resource
from sampan.client.events import NORMAL

from .runtime.controller import Context, Controller
from .runtime.queue import Request

# --node-cidr-mask-size of IPv4: 254 pods a node.
MASK = 24


class NodeIpamController(Controller):
    """Does nothing without a pod network (`Options.pod_cidr`)."""

    name = "node_ipam"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("nodes")
        self.network = context.options.pod_cidr
        self.reserved = [item for item in (context.options.reserved_share,) if item]
        self.recorder = context.recorder("cidrAllocator")
        self.nodes = self.informer(self.resource)
        self.given: dict[str, str] = {}
        """Shares by node, from the moment they are given until the node is gone."""
        if self.network:
            self.nodes.on_change(self._node_changed)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            if not new["spec"].get("podCIDR"):
                self.add(new)
        elif old is not None:
            self.given.pop(old["metadata"]["name"], None)
            # A share is free again: whoever had to wait may have it.
            for node in self.nodes.list():
                if not node["spec"].get("podCIDR"):
                    self.add(node)

    async def reconcile(self, request: Request) -> None:
        node = self.nodes.get("", request.name)
        if node is None or node["spec"].get("podCIDR"):
            return
        share = self.given.get(request.name)
        if share is None:
            taken = [item["spec"].get("podCIDR") for item in self.nodes.list()]
            taken += [*self.given.values(), *self.reserved]
            share = free_share(self.network, filter(None, taken))
        if share is None:
            text = f"Node {request.name} status is now: CIDRNotAvailable"
            self.recorder.event(node, NORMAL, "CIDRNotAvailable", text)
            return
        self.given[request.name] = share
        body = {**node, "spec": {**node["spec"], "podCIDR": share, "podCIDRs": [share]}}
        try:
            await self.client.update(self.resource, body)
        except NotFound:
            self.given.pop(request.name, None)


def free_share(network: str, taken: Iterable[str]) -> str | None:
    """The first /24 of the network that overlaps none of those taken; None if there is none."""
    used = [IPv4Network(item) for item in taken if ":" not in item]
    whole = ip_network(network)
    if not isinstance(whole, IPv4Network):
        return None
    for share in whole.subnets(new_prefix=max(MASK, whole.prefixlen)):
        if not any(share.overlaps(item) for item in used):
            return str(share)
    return None
