"""Load balancers: a service of type LoadBalancer gets an address of its own at once, one of each of
its families.

The addresses are the last of the service networks: routed like it on every node, so that services
never meet at a port, and what the node itself listens on is nobody's. The proxy's rules do the
rest. Services with a loadBalancerClass, or with an address that somebody else wrote, are another
controller's.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

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


Network = IPv4Network | IPv6Network


class LoadBalancerController(Controller):
    """Does nothing without a service network (`Options.service_cidrs`). One worker, and each
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
        networks = [ip_network(text) for text in context.options.service_cidrs.split(",") if text]
        self.networks: dict[str, Network] = {f"IPv{item.version}": item for item in networks}
        if self.networks:
            self.services.on_change(self._service_changed)

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        for obj in (new,) if new is not None else ():
            for address in cluster_addresses(obj):
                # A cluster address was given out in the moment in which we gave it too.
                if address in self.given:
                    self.queue.add(self.given[address])
            for address in balancer_addresses(obj):
                self.given.setdefault(address, _request(obj))
        if old is not None and not is_balanced(old):
            self._note_freed(old, new)
        if any(obj is not None and is_balanced(obj) for obj in (old, new)):
            self.add_changed(old, new)

    def _note_freed(self, old: Object, new: Object | None) -> None:
        """What another controller's service had is nobody's when it has it no more."""
        kept = balancer_addresses(new) if new is not None else []
        for address in balancer_addresses(old):
            if address not in kept and self.given.get(address) == _request(old):
                del self.given[address]
                for waiting in self.waiting:
                    self.queue.add(waiting)

    async def reconcile(self, request: Request) -> None:
        service = self.services.get(*request)
        if service is None or not is_balanced(service) or not self.networks:
            self._give_back(request)
            return
        current = balancer_addresses(service)
        if service["metadata"].get("deletionTimestamp") or not all(map(self._is_ours, current)):
            return
        wanted = [self._choose(service, name, request) for name in self._families(service)]
        if not all(wanted):
            self._refuse(service, request)
            return
        if wanted == current:
            return
        self._give_back(request)
        self.given.update(dict.fromkeys(wanted, request))
        self.waiting.pop(request, None)
        status = {**(service.get("status") or {})}
        status["loadBalancer"] = {"ingress": [{"ip": ip, "ipMode": "VIP"} for ip in wanted]}
        if await write_status(self.client, self.resource, service, status) is None:
            self._give_back(request)
            return
        self.recorder.event(service, NORMAL, "EnsuredLoadBalancer", "Ensured load balancer")

    def _families(self, service: Object) -> list[str]:
        """Those of the service, in its order, that have a network."""
        asked = service["spec"].get("ipFamilies") or [*self.networks][:1]
        return [name for name in asked if name in self.networks]

    def _choose(self, service: Object, family: str, request: Request) -> str:
        """The address that it has, or that was asked for, or the first that is free; "" if there is
        none. What was asked for is of one family: the other one's is free to choose."""
        asked = service["spec"].get("loadBalancerIP")
        network = self.networks[family]
        if asked and _family(asked) in ("", family):
            return asked if self._is_ours(asked) and self._is_free(asked, request) else ""
        for ip in balancer_addresses(service):
            if _family(ip) == family and self._is_free(ip, request):
                return ip
        return next((ip for ip in _candidates(network) if self._is_free(ip, request)), "")

    def _is_ours(self, text: str) -> bool:
        network = self.networks.get(_family(text))
        return network is not None and ip_address(text) in network

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


def _family(text: str) -> str:
    """Of an address; "" if it is none: the API takes any text for `loadBalancerIP`."""
    try:
        return f"IPv{ip_address(text).version}"
    except ValueError:
        return ""


def _candidates(network: Network) -> Iterator[str]:
    last = int(network.broadcast_address) - 1
    first = max(int(network.network_address) + 11, last - ADDRESSES + 1)
    start = network.network_address
    yield from (str(start + (number - int(start))) for number in range(last, first - 1, -1))


def is_balanced(service: Object) -> bool:
    """Is it this controller's?"""
    spec = service["spec"]
    return spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerClass")


def balancer_addresses(service: Object) -> list[str]:
    """What the status says; a host name counts as an address that is not ours."""
    entries = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return [str(item.get("ip") or item.get("hostname") or "") for item in entries]


def cluster_addresses(service: Object) -> list[str]:
    spec = service.get("spec") or {}
    return [ip for ip in spec.get("clusterIPs") or [spec.get("clusterIP")] if ip and ip != "None"]


def _request(obj: Object) -> Request:
    return Request(obj["metadata"]["namespace"], obj["metadata"]["name"])
