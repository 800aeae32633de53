"""ServiceCIDRs are said to be ready, and stay while services have addresses of them alone.

Source: KEP-1880, upstream's pkg/controller/servicecidrs. A range that goes is given up by the
server at the instant of its deletion (`server/strategies`), so that no time of grace is needed
before what is left of it is counted.
"""

from __future__ import annotations

from ipaddress import ip_address

from sampan.api.errors import NotFound, Object
from sampan.api.resources import resource
from sampan.api.times import format_time

from .ipaddress import Network, networks
from .loadbalancer import cluster_addresses
from .runtime.conditions import condition, with_condition
from .runtime.controller import Context, Controller
from .runtime.queue import Request
from .runtime.status import write_status

FINALIZER = "networking.k8s.io/service-cidr-finalizer"
READY = "Kubernetes Service CIDR is ready"
IN_USE = (
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new "
    "ServiceCIDR"
)


class ServiceCidrController(Controller):
    """See the module."""

    name = "service_cidrs"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("servicecidrs", "networking.k8s.io")
        self.service_resource = resource("services")
        self.ranges = self.informer(self.resource)
        self.services = self.informer(self.service_resource)
        self.ranges.on_change(self._range_changed)
        self.services.on_change(self._service_changed)

    def _range_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self.add(new)
        # Another range may hold what one that is going has.
        self._look_at_leaving()

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and (new is None or cluster_addresses(old) != cluster_addresses(new)):
            self._look_at_leaving()

    def _look_at_leaving(self) -> None:
        for item in self.ranges.list():
            if item["metadata"].get("deletionTimestamp"):
                self.add(item)

    async def reconcile(self, request: Request) -> None:
        found = self.ranges.get("", request.name)
        if found is None:
            return
        meta = found["metadata"]
        finalizers = meta.get("finalizers") or []
        if meta.get("deletionTimestamp"):
            if FINALIZER not in finalizers:
                return
            if await self._is_needed(found):
                await self._say(found, "False", IN_USE, "Terminating")
                return
            left = [item for item in finalizers if item != FINALIZER]
            await self._write({**found, "metadata": {**meta, "finalizers": left}})
        elif FINALIZER not in finalizers:
            held = {**meta, "finalizers": [*finalizers, FINALIZER]}
            written = await self._write({**found, "metadata": held})
            if written is not None:
                await self._say(written, "True", READY, "")
        else:
            await self._say(found, "True", READY, "")

    async def _is_needed(self, found: Object) -> bool:
        """Has a service an address that no other range has?"""
        own = [*networks(found)]
        others = [
            network
            for item in self.ranges.list()
            if item["metadata"]["name"] != found["metadata"]["name"]
            for network in networks(item)
        ]
        if all(any(_contains(other, network) for other in others) for network in own):
            return False
        # The cache may be behind a service that was made just now.
        services = await self.client.list(self.service_resource)
        for service in services["items"]:
            for address in map(ip_address, cluster_addresses(service)):
                mine = any(address in item for item in own)
                if mine and not any(address in item for item in others):
                    return True
        return False

    async def _write(self, body: Object) -> Object | None:
        try:
            return await self.client.update(self.resource, body)
        except NotFound:
            return None

    async def _say(self, found: Object, ready: str, message: str, reason: str) -> None:
        status = found.get("status") or {}
        conditions = status.get("conditions") or []
        now = condition(conditions, "Ready")
        if now is not None and now["status"] == ready and now.get("message") == message:
            return
        new = {
            "type": "Ready",
            "status": ready,
            "reason": reason,
            "message": message,
            "lastTransitionTime": format_time(self.clock.now()),
        }
        status = {**status, "conditions": with_condition(conditions, new)}
        await write_status(self.client, self.resource, found, status)


def _contains(network: Network, other: Network) -> bool:
    first, last = other.network_address, other.broadcast_address
    return network.version == other.version and first in network and last in network
