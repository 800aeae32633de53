"""DNS makes itself known: the Service kube-system/kube-dns and an EndpointSlice per server.

Task: `run`; it writes when something differs, and is woken when somebody changes or deletes what it
wrote. The Service has no selector, so no controller touches the slices. Names, labels and ports are
those of upstream's addon: tools look for them.
"""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec import Struct

from sampan.api.errors import AlreadyExists, Conflict, NotFound, Object
from sampan.api.resources import api_resource
from sampan.client.api import Client
from sampan.client.informer import Informer

NAMESPACE, NAME = "kube-system", "kube-dns"
_LABELS = {
    "k8s-app": "kube-dns",
    "kubernetes.io/cluster-service": "true",
    "kubernetes.io/name": "CoreDNS",
}
_PORTS = (("dns", "UDP", 53), ("dns-tcp", "TCP", 53), ("metrics", "TCP", 9153))


class Place(Struct, frozen=True):
    """Where a server is found: the service's address, and the node's behind it."""

    service_ip: str
    node_name: str
    node_ip: str
    port: int = 53
    metrics_port: int = 9153

    def listens(self, number: int) -> int:
        """Where the server listens for what the service has at a port."""
        return self.port if number == 53 else self.metrics_port


class Publisher:
    """Keeps the objects as they should be. `done` is set while they are."""

    def __init__(self, client: Client, services: Informer, slices: Informer, place: Place) -> None:
        self._client = client
        self._services = services
        self._slices = slices
        self._place = place
        self._wake = asyncio.Event()
        self.done = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled. Raises what the client raises; start it again then."""
        await self._services.synced()
        await self._slices.synced()
        stop = [
            self._services.on_change(self._changed),
            self._slices.on_change(self._changed),
        ]
        self._wake.set()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._publish()
                self.done.set()
        finally:
            for unsubscribe in stop:
                unsubscribe()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        meta = (new or old or {})["metadata"]
        if meta.get("namespace") == NAMESPACE and meta["name"].startswith(NAME):
            self._wake.set()

    async def _publish(self) -> None:
        if self._services.get(NAMESPACE, NAME) is None:
            try:
                await self._client.create(
                    api_resource("services"), service_object(self._place), NAMESPACE
                )
            except AlreadyExists:
                pass
        kind = api_resource("endpointslices", "discovery.k8s.io")
        wanted = slice_object(self._place)
        present = self._slices.get(NAMESPACE, wanted["metadata"]["name"])
        if present is None:
            try:
                await self._client.create(kind, wanted, NAMESPACE)
            except AlreadyExists:
                pass
        elif not covers(present, wanted):
            version = present["metadata"]["resourceVersion"]
            meta = {**wanted["metadata"], "resourceVersion": version}
            try:
                await self._client.update(kind, {**wanted, "metadata": meta})
            except (Conflict, NotFound):
                # The cache is behind; the change that it will hear of wakes us again.
                pass


def service_object(place: Place) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": dict(_LABELS)},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": place.service_ip,
            "trafficDistribution": "PreferSameNode",
            "ports": [
                {"name": name, "port": number, "protocol": protocol, "targetPort": number}
                for name, protocol, number in _PORTS
            ],
        },
    }


def slice_object(place: Place) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{NAME}-{place.node_name}",
            "namespace": NAMESPACE,
            "labels": {
                "k8s-app": NAME,
                "kubernetes.io/service-name": NAME,
                "endpointslice.kubernetes.io/managed-by": "dns.sampan.io",
            },
        },
        "addressType": "IPv4",
        "endpoints": [
            {
                "addresses": [place.node_ip],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "nodeName": place.node_name,
                # Each node asks its own server while that is there: it is the nearest, and the one
                # that knows whose question it is (`search`).
                "hints": {"forNodes": [{"name": place.node_name}]},
            }
        ],
        "ports": [
            {"name": name, "port": place.listens(number), "protocol": protocol}
            for name, protocol, number in _PORTS
            if place.listens(number)
        ],
    }


def covers(present: Any, wanted: Any) -> bool:
    """Whether everything in `wanted` is in `present`, which may hold more."""
    if isinstance(wanted, dict):
        return isinstance(present, dict) and all(
            covers(present.get(key), value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(present, list)
            and len(present) == len(wanted)
            and all(map(covers, present, wanted))
        )
    return bool(present == wanted)
