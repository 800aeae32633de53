"""Gives each node that has none its share of the cluster's pod network.

One worker, and every share it has given is remembered at once: two nodes that come together never
get the same one, however far the cache is behind. Which shares are taken is kept as nodes come and
go, so a node costs the same whether it is the first or the thousandth. Nodes for which there is
none left wait, and get those that become free, in order.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network

from sampan.api.errors import NotFound, Object
from sampan.api.resources import resource
from sampan.client.events import NORMAL

from .runtime.controller import Context, Controller
from .runtime.queue import Request

# --node-cidr-mask-size of IPv4: 254 pods a node.
MASK = 24


class Shares:
    """The shares of a network by number, and how often each is taken (a node that came by itself
    may have one that others have too, or one larger than a share)."""

    def __init__(self, network: str, reserved: str = "") -> None:
        self.network = IPv4Network(network)
        self.length = max(MASK, self.network.prefixlen)
        self.size = 1 << (32 - self.length)
        self._free = list(range(self.network.num_addresses // self.size))
        self._taken: dict[int, int] = {}
        if reserved:
            self.take(reserved)

    def _numbers(self, share: str) -> range:
        if ":" in share:
            return range(0)
        other = IPv4Network(share)
        if not other.overlaps(self.network):
            return range(0)
        first = max(0, int(other.network_address) - int(self.network.network_address))
        last = int(other.broadcast_address) - int(self.network.network_address)
        count = self.network.num_addresses // self.size
        return range(first // self.size, min(last // self.size + 1, count))

    def take(self, share: str) -> None:
        for number in self._numbers(share):
            self._taken[number] = self._taken.get(number, 0) + 1

    def give_back(self, share: str) -> None:
        for number in self._numbers(share):
            self._taken[number] -= 1
            if not self._taken[number]:
                del self._taken[number]
                heapq.heappush(self._free, number)

    def next(self) -> str | None:
        """The first share nobody has; None when all are taken. It is not taken yet."""
        while self._free:
            number = self._free[0]
            if number not in self._taken:
                address = int(self.network.network_address) + number * self.size
                return str(IPv4Network((address, self.length)))
            heapq.heappop(self._free)
        return None


class NodeIpamController(Controller):
    """Does nothing without a pod network (`Options.pod_cidr`)."""

    name = "node_ipam"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("nodes")
        self.recorder = context.recorder("cidrAllocator")
        self.nodes = self.informer(self.resource)
        self.given: dict[str, str] = {}
        """Shares by node, from the moment they are given or seen until the node is gone."""
        self.waiting: dict[str, None] = {}
        """Nodes for which there was none, in order."""
        options = context.options
        if options.pod_cidr:
            self.shares = Shares(options.pod_cidr, options.reserved_share)
            self.nodes.on_change(self._node_changed)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            if old is not None:
                self._node_gone(old["metadata"]["name"])
            return
        name, share = new["metadata"]["name"], new["spec"].get("podCIDR")
        if not share:
            if name not in self.waiting:
                self.add(new)
        elif self.given.get(name) != share:
            self._keep(name, share)

    def _other(self, share: str) -> Iterator[str]:
        """The node's share of the other family, of 64 bits, where there is one."""
        options = self.context.options
        if options.pod_cidr6:
            first = int(IPv4Network(share).network_address)
            place = (first - int(self.shares.network.network_address)) // self.shares.size
            network = IPv6Network(options.pod_cidr6)
            yield str(IPv6Network((int(network.network_address) + (place << 64), 64)))

    def _keep(self, name: str, share: str) -> None:
        """`name` has this share; one that it was given before is free again."""
        before = self.given.get(name)
        if before is not None:
            self.shares.give_back(before)
        self.given[name] = share
        self.shares.take(share)
        self.waiting.pop(name, None)

    def _node_gone(self, name: str) -> None:
        self.waiting.pop(name, None)
        share = self.given.pop(name, None)
        if share is None:
            return
        self.shares.give_back(share)
        if self.waiting:
            self.queue.add(Request("", next(iter(self.waiting))))

    async def reconcile(self, request: Request) -> None:
        node = self.nodes.get("", request.name)
        if node is None or node["spec"].get("podCIDR"):
            return
        share = self.given.get(request.name) or self.shares.next()
        if share is None:
            if request.name not in self.waiting:
                self.waiting[request.name] = None
                text = f"Node {request.name} status is now: CIDRNotAvailable"
                self.recorder.event(node, NORMAL, "CIDRNotAvailable", text)
            return
        self._keep(request.name, share)
        both = [share, *self._other(share)]
        body = {**node, "spec": {**node["spec"], "podCIDR": share, "podCIDRs": both}}
        try:
            await self.client.update(self.resource, body)
        except NotFound:
            self._node_gone(request.name)
