"""An IPAddress for each cluster address of a service, and a word where addresses make no sense.

The server gives addresses out by what services have (`server/strategies`); these objects show it,
as upstream's allocator writes them, and follow within a moment. Those that others write (for a
gateway, say) are left alone, and the server gives their addresses to nobody. Events are those of
upstream's repair controller, whose other half (node ports) has nothing to mend here: ports are
counted from the services themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from sampan.api.errors import AlreadyExists, NotFound, Object
from sampan.api.resources import resource
from sampan.client.events import WARNING

from .loadbalancer import cluster_addresses
from .runtime.controller import Context, Controller
from .runtime.queue import Request

MANAGED_LABEL = "ipaddress.kubernetes.io/managed-by"
FAMILY_LABEL = "ipaddress.kubernetes.io/ip-family"
MANAGER = "ipallocator.k8s.io"
_BY_PARENT = "ipaddress-service"

Network = IPv4Network | IPv6Network


class IpAddressController(Controller):
    """See the module. Requests are services."""

    name = "ip_address"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("ipaddresses", "networking.k8s.io")
        self.recorder = context.recorder("ipallocator-repair-controller")
        self.services = self.informer(resource("services"))
        self.addresses = self.informer(self.resource)
        self.ranges = self.informer(resource("servicecidrs", "networking.k8s.io"))
        self.addresses.add_index(_BY_PARENT, _parent_of)
        self.services.on_change(self._service_changed)
        self.addresses.on_change(self._address_changed)

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        before = cluster_addresses(old) if old is not None else []
        after = cluster_addresses(new) if new is not None else []
        if before != after:
            self.add_changed(old, new)

    def _address_changed(self, old: Object | None, new: Object | None) -> None:
        for obj in (old, new):
            for value in _parent_of(obj) if obj is not None else ():
                self.queue.add(Request(*value.split("/", 1)))
        if new is None and old is not None:
            # Whoever has the address may have waited for it.
            for service in self.services.list():
                if old["metadata"]["name"] in cluster_addresses(service):
                    self.add(service)

    async def reconcile(self, request: Request) -> None:
        service = self.services.get(*request)
        wanted = cluster_addresses(service) if service is not None else []
        stale = [
            item
            for item in self.addresses.by_index(_BY_PARENT, "/".join(request))
            if item["metadata"]["name"] not in wanted
        ]
        await asyncio.gather(*(self._delete(item) for item in stale))
        if service is not None:
            for address in wanted:
                await self._show(service, request, address)

    async def _show(self, service: Object, request: Request, address: str) -> None:
        self._check_range(service, address)
        present = self.addresses.get("", address)
        if present is None:
            try:
                await self.client.create(self.resource, _address_object(request, address))
            except AlreadyExists:
                # The cache will tell whose it is.
                return
        elif _parent_of(present) != ("/".join(request),):
            text = f"Cluster IP [{_family(address)}]:{address} was assigned to multiple services;"
            self.recorder.event(
                service, WARNING, "ClusterIPAlreadyAllocated", f"{text} please recreate service"
            )

    def _check_range(self, service: Object, address: str) -> None:
        found = ip_address(address)
        ranges = self.ranges.list()
        if not ranges or any(found in network for item in ranges for network in networks(item)):
            return
        text = f"Cluster IP [{_family(address)}]:{address} is not within any configured Service"
        self.recorder.event(
            service, WARNING, "ClusterIPOutOfRange", f"{text} CIDR; please recreate service"
        )

    async def _delete(self, item: Object) -> None:
        meta = item["metadata"]
        options = {"preconditions": {"uid": meta["uid"]}}
        try:
            await self.client.delete(self.resource, meta["name"], "", options)
        except NotFound:
            return


def _address_object(request: Request, address: str) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": address,
            "labels": {FAMILY_LABEL: _family(address), MANAGED_LABEL: MANAGER},
        },
        "spec": {
            "parentRef": {
                "resource": "services",
                "namespace": request.namespace,
                "name": request.name,
            }
        },
    }


def _parent_of(obj: Object) -> tuple[str, ...]:
    """ "namespace/name" of the service an address is shown for."""
    parent = (obj.get("spec") or {}).get("parentRef") or {}
    if (obj["metadata"].get("labels") or {}).get(MANAGED_LABEL) != MANAGER:
        return ()
    return (f"{parent.get('namespace', '')}/{parent.get('name', '')}",)


def _family(address: str) -> str:
    return f"IPv{ip_address(address).version}"


def networks(obj: Object) -> Iterator[Network]:
    """The ranges of a ServiceCIDR."""
    for text in (obj.get("spec") or {}).get("cidrs") or ():
        yield ip_network(text)
