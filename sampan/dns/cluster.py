"""The zone's view of the cluster: the informers' caches, with an index for reverse names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sampan.api.errors import Object
from sampan.client.informer import Informer

_BY_SERVICE, _BY_IP = "dns-service", "dns-ip"


class InformedCluster:
    """`answer.Cluster` over two informers."""

    def __init__(
        self, services: Informer, slices: Informer, namespaces: Callable[[], Informer]
    ) -> None:
        """`namespaces` begins to watch them."""
        self._watch_namespaces = namespaces
        self._namespaces: Informer | None = None
        self._services = services
        self._slices = slices
        services.add_index(_BY_IP, _cluster_ips)
        slices.add_index(_BY_SERVICE, service_of)
        slices.add_index(_BY_IP, _endpoint_ips)

    @property
    def serial(self) -> int:
        return max(self._services.revision, self._slices.revision)

    def service(self, namespace: str, name: str) -> Object | None:
        return self._services.get(namespace, name)

    def slices(self, namespace: str, name: str) -> Sequence[Object]:
        return self._slices.by_index(_BY_SERVICE, f"{namespace}/{name}")

    def has_namespace(self, namespace: str) -> bool:
        """Whether it has services: a namespace without any has no names here."""
        return bool(self._services.list(namespace))

    def may_have_pods(self, namespace: str) -> bool:
        """Whether the namespace is there. Names of pods are asked for so seldom that namespaces are
        watched from the first one on; until they are known, all are there."""
        if self.has_namespace(namespace):
            return True
        if self._namespaces is None:
            self._namespaces = self._watch_namespaces()
        known = self._namespaces
        return not known.has_synced or known.get("", namespace) is not None

    def services_at(self, ip: str) -> Sequence[Object]:
        return self._services.by_index(_BY_IP, ip)

    def slices_at(self, ip: str) -> Sequence[Object]:
        return self._slices.by_index(_BY_IP, ip)


def _cluster_ips(service: Object) -> Iterable[str]:
    spec = service.get("spec") or {}
    return [ip for ip in spec.get("clusterIPs") or [spec.get("clusterIP")] if ip and ip != "None"]


def service_of(item: Object) -> Iterable[str]:
    """The service of an EndpointSlice, as NAMESPACE/NAME."""
    meta = item["metadata"]
    name = (meta.get("labels") or {}).get("kubernetes.io/service-name")
    return (f"{meta['namespace']}/{name}",) if name else ()


def _endpoint_ips(item: Object) -> Iterable[str]:
    return {ip for entry in item.get("endpoints") or () for ip in entry.get("addresses") or ()}
