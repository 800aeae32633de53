"""EndpointSlices: for every service with a selector, the pods behind it.

A sync is the service's own pods and slices, found by label and owner. A slice that was created
and not yet seen is waited for, so that a lagging cache never makes a second one.
"""

from __future__ import annotations

import asyncio

from sampan.api.errors import NotFound, Object
from sampan.api.resources import resource
from sampan.client.events import NORMAL, WARNING, EventRecorder

from .endpoints_plan import ZONE_LABEL, backends, families, fingerprint, matches, selects_pods
from .endpoints_triggers import Triggers
from .endpointslice_plan import (
    MANAGED_LABEL,
    MANAGER,
    NAME_LABEL,
    Plan,
    is_automatic,
    placed,
    plan,
)
from .runtime.backends import on_backend_change
from .runtime.controller import Context, Controller
from .runtime.expectations import Expectations
from .runtime.labels import add_label_index, selected
from .runtime.queue import Request, Requeue

# A sync costs some 10 us per pod and a write per slice: a service of 1000 pods that all change is
# written five times a second, one of 30 is not held up (upstream: --endpoint-updates-batch-period).
PACE_S = 200e-6


class EndpointSliceController(Controller):
    """See the module."""

    name = "endpoint_slice"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("endpointslices", "discovery.k8s.io")
        self.service_resource = resource("services")
        self.expectations = Expectations(context.clock)
        self.triggers = Triggers()
        self.recorder: EventRecorder | None = None
        self.unhinted: dict[Request, dict[str, str]] = {}
        """What was told of services of topology-mode Auto, by family."""
        self.displaced: dict[Request, None] = {}
        """Services with pods on nodes that are not there."""
        self.services = self.informer(self.service_resource)
        self.pods = self.informer(resource("pods"))
        self.slices = self.informer(self.resource)
        self.nodes = self.informer(resource("nodes"))
        add_label_index(self.pods)
        self.slices.add_index(NAME_LABEL, _service_of)
        self.services.on_change(self._service_changed)
        self.slices.on_change(self._slice_changed)
        self.nodes.on_change(self._node_changed)
        on_backend_change(self.pods, self.services, self._affects, fingerprint, self.add)

    @staticmethod
    def _affects(service: Object, labels: dict[str, str] | None) -> bool:
        return selects_pods(service) and matches(service, labels)

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None:
            meta = old["metadata"]
            self.expectations.forget(Request(meta["namespace"], meta["name"]))
        self.add_changed(old, new)

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        for obj in (old, new):
            for value in _service_of(obj) if obj is not None else ():
                request = Request(*value.split("/", 1))
                if old is None:
                    self.expectations.created(request)
                self.queue.add(request)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        """A node's zone is on its endpoints, and they go with it; both is so seldom that all
        services look. One that is new concerns those that may have missed it."""
        if old is None and new is not None:
            for request in self.displaced:
                self.queue.add(request)
        if new is None or _zone(old) != _zone(new):
            for service in self.services.list():
                self.add(service)
        elif self.unhinted and _processors(old) != _processors(new):
            for request in self.unhinted:
                self.queue.add(request)

    async def reconcile(self, request: Request) -> Requeue | None:
        service = self.services.get(*request)
        if service is None or service["metadata"].get("deletionTimestamp"):
            # The garbage collector takes the slices: the service owns them.
            self.expectations.forget(request)
            self.displaced.pop(request, None)
            self.unhinted.pop(request, None)
            self.triggers.forget(request)
            return None
        if not selects_pods(service):
            return None
        waiting_s = self.expectations.outstanding_s(request)
        if waiting_s:
            return Requeue(waiting_s)
        pods = [*selected(self.pods, request.namespace, service["spec"]["selector"])]
        since = self.triggers.since(request, service, pods)
        found = {family: backends(service, pods, family) for family in families(service)}
        self.queue.rest(request, PACE_S * len(pods))
        names = {item.node for group in found.values() for item in group}
        nodes = {name: node for name in names if (node := self.nodes.get("", name)) is not None}
        if names - nodes.keys() - {""}:
            self.displaced[request] = None
        else:
            self.displaced.pop(request, None)
        found = placed(service, found, nodes)
        existing = self.slices.by_index(NAME_LABEL, "/".join(request))
        shares = None
        if is_automatic(service):
            from .endpointslice_zones import zone_shares

            shares = zone_shares(self.nodes.list())
        todo = plan(
            service, self.service_resource, found, existing, nodes, shares=shares, since=since
        )
        await self._apply(request, todo)
        if todo.unhinted or request in self.unhinted:
            self._tell_hints(service, request, todo.unhinted)
        return None

    def _tell_hints(self, service: Object, request: Request, now: dict[str, str]) -> None:
        """What has changed since it was last told, in upstream's words."""
        before = self.unhinted.pop(request, {})
        if now:
            self.unhinted[request] = now
        if self.recorder is None:
            self.recorder = self.context.recorder("endpoint-slice-controller")
        for family, why in now.items():
            if before.get(family) == why:
                continue
            kind, reason = (WARNING, "Disabled") if why else (NORMAL, "Enabled")
            text = why or "Topology Aware Hints has been enabled"
            text = f"{text}, addressType: {family}"
            self.recorder.event(service, kind, f"TopologyAwareHints{reason}", text)

    async def _apply(self, request: Request, todo: Plan) -> None:
        """All writes at once. Conflicts are raised after all have ended."""
        self.expectations.expect_creations(request, len(todo.create))
        results = await asyncio.gather(
            *(self._create(request, body) for body in todo.create),
            *(self._update(body) for body in todo.update),
            *(self._delete(body) for body in todo.delete),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _create(self, request: Request, body: Object) -> None:
        try:
            await self.client.create(self.resource, body, request.namespace)
        except BaseException as error:
            self.expectations.created(request)
            # The namespace or the service is going; nothing will be missed.
            if not isinstance(error, NotFound):
                raise

    async def _update(self, body: Object) -> None:
        try:
            await self.client.update(self.resource, body)
        except NotFound:
            return

    async def _delete(self, body: Object) -> None:
        meta = body["metadata"]
        options = {"preconditions": {"uid": meta["uid"]}}
        try:
            await self.client.delete(self.resource, meta["name"], meta["namespace"], options)
        except NotFound:
            return


def _service_of(obj: Object) -> tuple[str, ...]:
    """ "namespace/service" of a slice that is this controller's."""
    meta = obj["metadata"]
    labels = meta.get("labels") or {}
    name = labels.get(NAME_LABEL)
    if not name or labels.get(MANAGED_LABEL) != MANAGER:
        return ()
    return (f"{meta['namespace']}/{name}",)


def _processors(node: Object | None) -> tuple[object, ...]:
    """What of a node zones are measured by."""
    status = (node or {}).get("status") or {}
    ready = [item for item in status.get("conditions") or () if item.get("type") == "Ready"]
    return (status.get("allocatable") or {}).get("cpu"), [item.get("status") for item in ready]


def _zone(node: Object | None) -> str:
    if node is None:
        return ""
    return str((node["metadata"].get("labels") or {}).get(ZONE_LABEL) or "")
