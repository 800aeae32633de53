"""Load balancers: a service of type LoadBalancer gets an address of its own at once.

The addresses are the last of the service network: routed like it on every node, so that services
never meet at a port, and what the node itself listens on is nobody's. The proxy's rules do the
rest. Services with a loadBalancerClass, or with an address that somebody else wrote, are another
controller's.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.client.events import NORMAL, WARNING

from .runtime.controller import Context, Controller
from .runtime.queue import Request
from .runtime.status import write_status

# How many addresses at the end of the service network are for load balancers: as many as nodes of
# public clouds allow, and a part of the network that is otherwise handed out by chance.
ADDRESSES = 1024
_BY_ADDRESS = "cluster-address"


class LoadBalancerController(Controller):
    """Does nothing without a service network (`Options.service_cidr`) of IPv4. One worker, and each
    address is remembered as it is given: two services never get the same one."""

    name = "service"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("services")
        self.recorder = context.recorder("service-controller")
        self.services = self.informer(self.resource)
        self.services.add_index(_BY_ADDRESS, cluster_addresses)
        self.given: dict[str, Request] = {}
        self.waiting: dict[Request, None] = {}
        """Services for which there was none, in order."""
        cidr = context.options.service_cidr
        self.network = IPv4Network(cidr) if cidr and ":" not in cidr else None
        if self.network is not None:
            self.services.on_change(self._service_changed)

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        for obj in (new,) if new is not None else ():
            for address in cluster_addresses(obj):
                # A cluster address was given out in the moment in which we gave it too.
                if address in self.given:
                    self.queue.add(self.given[address])
            if address := balancer_address(obj):
                self.given.setdefault(address, _request(obj))
        if any(obj is not None and is_balanced(obj) for obj in (old, new)):
            self.add_changed(old, new)

    async def reconcile(self, request: Request) -> None:
        service = self.services.get(*request)
        if service is None or not is_balanced(service) or self.network is None:
            self._give_back(request)
            return
        if service["metadata"].get("deletionTimestamp"):
            return
        current = balancer_address(service)
        if current and (not self._is_ours(current) or self._is_free(current, request)):
            return
        address = self._choose(service, request)
        if not address:
            self._refuse(service, request)
            return
        self._give_back(request)
        self.given[address] = request
        self.waiting.pop(request, None)
        status = {**(service.get("status") or {})}
        status["loadBalancer"] = {"ingress": [{"ip": address, "ipMode": "VIP"}]}
        if await write_status(self.client, self.resource, service, status) is None:
            self._give_back(request)
            return
        self.recorder.event(service, NORMAL, "EnsuredLoadBalancer", "Ensured load balancer")

    def _choose(self, service: Object, request: Request) -> str:
        """The address asked for, or the first that is free; "" if there is none."""
        asked = service["spec"].get("loadBalancerIP")
        if asked:
            return asked if self._is_ours(asked) and self._is_free(asked, request) else ""
        return next((ip for ip in self._candidates() if self._is_free(ip, request)), "")

    def _candidates(self) -> Iterator[str]:
        if self.network is not None:
            last = int(self.network.broadcast_address) - 1
            first = max(int(self.network.network_address) + 11, last - ADDRESSES + 1)
            yield from (str(IPv4Address(number)) for number in range(last, first - 1, -1))

    def _is_ours(self, text: str) -> bool:
        try:
            return self.network is not None and IPv4Address(text) in self.network
        except ValueError:
            return False

    def _is_free(self, address: str, request: Request) -> bool:
        if self.given.get(address, request) != request:
            return False
        return not self.services.by_index(_BY_ADDRESS, address)

    def _give_back(self, request: Request) -> None:
        for address in [ip for ip, owner in self.given.items() if owner == request]:
            del self.given[address]
        self.waiting.pop(request, None)
        for other in self.waiting:
            self.queue.add(other)

    def _refuse(self, service: Object, request: Request) -> None:
        if request in self.waiting:
            return
        self.waiting[request] = None
        asked = service["spec"].get("loadBalancerIP")
        why = f"address {asked} is not available" if asked else "no address is left"
        text = f"Error syncing load balancer: failed to ensure load balancer: {why}"
        self.recorder.event(service, WARNING, "SyncLoadBalancerFailed", text)


def is_balanced(service: Object) -> bool:
    """Is it this controller's?"""
    spec = service["spec"]
    return spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerClass")


def balancer_address(service: Object) -> str:
    """What the status says; a host name counts as an address that is not ours."""
    entries = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    for item in entries:
        return str(item.get("ip") or item.get("hostname") or "")
    return ""


def cluster_addresses(service: Object) -> list[str]:
    spec = service.get("spec") or {}
    return [ip for ip in spec.get("clusterIPs") or [spec.get("clusterIP")] if ip and ip != "None"]


def _request(obj: Object) -> Request:
    return Request(obj["metadata"]["namespace"], obj["metadata"]["name"])
