"""Endpoints, the older form of EndpointSlices, for clients that still read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sampan.api.errors import AlreadyExists, NotFound, Object
from sampan.api.resources import resource

from .endpoints_plan import (
    HEADLESS_LABEL,
    Backend,
    Port,
    backends,
    families,
    fingerprint,
    is_headless,
    matches,
    selects_pods,
    target,
)
from .endpoints_triggers import Triggers, stamped
from .runtime.backends import on_backend_change
from .runtime.controller import Context, Controller
from .runtime.labels import add_label_index, selected
from .runtime.queue import Request

MANAGED_LABEL = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
# Upstream's maxCapacity: what is beyond is cut off, and an annotation says so.
MAX_ADDRESSES = 1000

# Each write is of all addresses, so a service of 1000 pods that all change is written twice a
# second; readers in a hurry read EndpointSlices.
PACE_S = 500e-6


class EndpointsController(Controller):
    """See the module."""

    name = "endpoint"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("endpoints")
        self.services = self.informer(resource("services"))
        self.pods = self.informer(resource("pods"))
        self.endpoints = self.informer(self.resource)
        self.triggers = Triggers()
        add_label_index(self.pods)
        self.services.on_change(self.add_changed)
        self.endpoints.on_change(self._endpoints_changed)
        on_backend_change(self.pods, self.services, self._affects, fingerprint, self.add)

    @staticmethod
    def _affects(service: Object, labels: dict[str, str] | None) -> bool:
        return selects_pods(service) and matches(service, labels)

    def _endpoints_changed(self, old: Object | None, new: Object | None) -> None:
        meta = (new if new is not None else old or {})["metadata"]
        if (meta.get("labels") or {}).get(MANAGED_LABEL) == MANAGER or new is None:
            self.queue.add(Request(meta["namespace"], meta["name"]))

    async def reconcile(self, request: Request) -> None:
        service = self.services.get(*request)
        found = self.endpoints.get(*request)
        if service is None:
            self.triggers.forget(request)
            if found is not None and _is_ours(found):
                await self._delete(found)
            return
        if not selects_pods(service) or service["metadata"].get("deletionTimestamp"):
            return
        pods = [*selected(self.pods, request.namespace, service["spec"]["selector"])]
        self.queue.rest(request, PACE_S * len(pods))
        since = self.triggers.since(request, service, pods)
        wanted = body_of(service, backends(service, pods, families(service)[0]))
        try:
            if found is None:
                body = _stamped(wanted, since)
                await self.client.create(self.resource, body, request.namespace)
            elif _differs(found, wanted):
                body = _stamped(_merged(found, wanted), since)
                await self.client.update(self.resource, body)
        except (NotFound, AlreadyExists):
            # Gone with its namespace; or made by someone else, whose event brings us back.
            return

    async def _delete(self, found: Object) -> None:
        meta = found["metadata"]
        options = {"preconditions": {"uid": meta["uid"]}}
        try:
            await self.client.delete(self.resource, meta["name"], meta["namespace"], options)
        except NotFound:
            return


def body_of(service: Object, found: Sequence[Backend]) -> Object:
    """The Endpoints of a service. Pure."""
    meta = service["metadata"]
    labels = {**(meta.get("labels") or {})}
    labels.pop(HEADLESS_LABEL, None)
    if is_headless(service):
        labels[HEADLESS_LABEL] = ""
    labels[MANAGED_LABEL] = MANAGER
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    # Unlike slices, Endpoints list nobody who has none of the service's ports.
    reached = [item for item in found if item.ports or not service["spec"].get("ports")]
    usable = [item for item in reached if publish or not item.terminating]
    annotations = {OVER_CAPACITY: "truncated"} if len(usable) > MAX_ADDRESSES else {}
    # Ready ones are kept first when there are too many.
    usable.sort(key=lambda item: not item.ready)
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "labels": labels,
            **({"annotations": annotations} if annotations else {}),
        },
        "subsets": _subsets(usable[:MAX_ADDRESSES]),
    }


def _subsets(found: Iterable[Backend]) -> list[Object]:
    """One subset per set of ports, its addresses sorted (endpoints.RepackSubsets)."""
    groups: dict[tuple[Port, ...], list[Backend]] = {}
    for item in found:
        groups.setdefault(item.ports, []).append(item)
    subsets = []
    for ports, group in sorted(groups.items()):
        group.sort(key=lambda item: (item.address, item.pod["metadata"]["uid"]))
        subset: Object = {}
        ready = [_address(item) for item in group if item.ready]
        waiting = [_address(item) for item in group if not item.ready]
        if ready:
            subset["addresses"] = ready
        if waiting:
            subset["notReadyAddresses"] = waiting
        if ports:
            subset["ports"] = [_port(port) for port in ports]
        subsets.append(subset)
    return subsets


def _port(port: Port) -> Object:
    name, protocol, number, application = port
    item: Object = {"name": name} if name else {}
    item |= {"port": number, "protocol": protocol}
    if application:
        item["appProtocol"] = application
    return item


def _address(backend: Backend) -> Object:
    found: Object = {"ip": backend.address}
    if backend.hostname:
        found["hostname"] = backend.hostname
    if backend.node:
        found["nodeName"] = backend.node
    found["targetRef"] = target(backend.pod)
    return found


def _is_ours(found: Object) -> bool:
    return (found["metadata"].get("labels") or {}).get(MANAGED_LABEL) == MANAGER


def _merged(found: Object, wanted: Object) -> Object:
    """What is there with our parts changed; annotations of others stay."""
    annotations = {**(found["metadata"].get("annotations") or {})}
    annotations.pop(OVER_CAPACITY, None)
    annotations |= wanted["metadata"].get("annotations") or {}
    meta = {**found["metadata"], "labels": wanted["metadata"]["labels"]}
    meta["annotations"] = annotations
    return {**found, "metadata": meta, "subsets": wanted["subsets"]}


def _stamped(body: Object, since: str) -> Object:
    annotations = stamped(body["metadata"].get("annotations"), since)
    return {**body, "metadata": {**body["metadata"], "annotations": annotations}}


def _differs(found: Object, wanted: Object) -> bool:
    meta = found["metadata"]
    marked = OVER_CAPACITY in (meta.get("annotations") or {})
    return (
        (found.get("subsets") or []) != wanted["subsets"]
        or (meta.get("labels") or {}) != wanted["metadata"]["labels"]
        or marked != ("annotations" in wanted["metadata"])
    )
