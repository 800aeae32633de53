"""Networks of services besides the cluster's own: ServiceCIDRs that somebody added (KEP-1880).

Addresses there that no service has, and ports that none has, are refused like those of the
cluster's own network, instead of leaving by the default route. ServiceCIDRs are watched from the
first service on that has an address of none of the cluster's own networks: few clusters have any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from sampan.api.errors import Object
from sampan.api.resources import api_resource
from sampan.client.informer import Informer, Informers

Network = IPv4Network | IPv6Network


class Ranges:
    """`own` are the cluster's networks, `pods` this node's, which no range takes away; `changed` is
    called when there are others."""

    def __init__(
        self,
        informers: Informers,
        own: Sequence[Network],
        pods: Sequence[Network],
        changed: Callable[[], None],
    ) -> None:
        self._informers = informers
        self._own = own
        self._pods = pods
        self._changed = changed
        self._informer: Informer | None = None

    def see(self, service: Object | None) -> None:
        """A service is new, or has changed."""
        if self._informer is not None or service is None or not self._own:
            return
        spec = service.get("spec") or {}
        if any(self._is_elsewhere(text) for text in spec.get("clusterIPs") or ()):
            resource = api_resource("servicecidrs", "networking.k8s.io")
            self._informer = self._informers.informer(resource)
            self._informer.on_change(lambda old, new: self._changed())

    def _is_elsewhere(self, text: str) -> bool:
        try:
            address = ip_address(text)
        except ValueError:
            # Headless, or nonsense.
            return False
        return not any(address in network for network in self._own)

    def networks(self) -> list[Network]:
        """Those besides the cluster's own, in order."""
        found: set[Network] = set()
        for item in self._informer.list() if self._informer is not None else ():
            for text in (item.get("spec") or {}).get("cidrs") or ():
                try:
                    network = ip_network(text)
                except ValueError:
                    continue
                if network not in self._own and not self._hides_pods(network):
                    found.add(network)
        return sorted(found, key=str)

    def _hides_pods(self, network: Network) -> bool:
        # `overlaps` is said of two of one family.
        return any(
            network.version == pods.version and network.overlaps(pods) for pods in self._pods
        )
