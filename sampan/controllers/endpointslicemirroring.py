"""EndpointSlices for Endpoints that somebody wrote by hand, for a service without a selector.

Proxies and DNS read slices alone. A sync is one Endpoints object and the slices made of it; a slice
that was created and not yet seen is waited for. Source: KEP-0752, upstream's
pkg/controller/endpointslicemirroring.
"""

from __future__ import annotations

import asyncio

from sampan.api.errors import NotFound, Object
from sampan.api.resources import resource

from .endpointslice_plan import MANAGED_LABEL, NAME_LABEL
from .endpointslicemirroring_plan import MANAGER, Plan, is_mirrored, plan
from .runtime.controller import Context, Controller
from .runtime.expectations import Expectations
from .runtime.queue import Request, Requeue


class EndpointSliceMirroringController(Controller):
    """See the module."""

    name = "endpoint_slice_mirroring"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("endpointslices", "discovery.k8s.io")
        self.endpoints_resource = resource("endpoints")
        self.expectations = Expectations(context.clock)
        self.services = self.informer(resource("services"))
        self.endpoints = self.informer(self.endpoints_resource)
        self.slices = self.informer(self.resource)
        self.slices.add_index(MANAGER, _mirror_of)
        self.services.on_change(self._service_changed)
        self.endpoints.on_change(self._endpoints_changed)
        self.slices.on_change(self._slice_changed)

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        """Matters when the service comes or goes, or gets or loses its selector."""
        seen = [bool(obj["spec"].get("selector")) for obj in (old, new) if obj is not None]
        if len(seen) == 1 or seen[0] != seen[1]:
            self.add_changed(old, new)

    def _endpoints_changed(self, old: Object | None, new: Object | None) -> None:
        """Those of services with selectors are another controller's and change often."""
        if new is None and old is not None:
            meta = old["metadata"]
            self.expectations.forget(Request(meta["namespace"], meta["name"]))
        obj = new if new is not None else old
        if obj is None:
            return
        service = self.services.get(obj["metadata"]["namespace"], obj["metadata"]["name"])
        if service is None or not service["spec"].get("selector"):
            self.add(obj)

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        for obj in (old, new):
            for value in _mirror_of(obj) if obj is not None else ():
                request = Request(*value.split("/", 1))
                if old is None:
                    self.expectations.created(request)
                self.queue.add(request)

    async def reconcile(self, request: Request) -> Requeue | None:
        waiting_s = self.expectations.outstanding_s(request)
        if waiting_s:
            return Requeue(waiting_s)
        service, endpoints = self.services.get(*request), self.endpoints.get(*request)
        existing = self.slices.by_index(MANAGER, "/".join(request))
        if service is None or endpoints is None or not is_mirrored(service, endpoints):
            await self._apply(request, Plan(delete=[*existing]))
        else:
            await self._apply(request, plan(endpoints, self.endpoints_resource, existing))
        return None

    async def _apply(self, request: Request, todo: Plan) -> None:
        """All writes at once. Conflicts are raised after all have ended."""
        self.expectations.expect_creations(request, len(todo.create))
        results = await asyncio.gather(
            *(self._create(request, body) for body in todo.create),
            *(self.client.update(self.resource, body) for body in todo.update),
            *(self._delete(body) for body in todo.delete),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, NotFound):
                raise result

    async def _create(self, request: Request, body: Object) -> None:
        try:
            await self.client.create(self.resource, body, request.namespace)
        except BaseException:
            self.expectations.created(request)
            raise

    async def _delete(self, body: Object) -> None:
        meta = body["metadata"]
        options = {"preconditions": {"uid": meta["uid"]}}
        await self.client.delete(self.resource, meta["name"], meta["namespace"], options)


def _mirror_of(obj: Object) -> tuple[str, ...]:
    """ "namespace/name" of the Endpoints a slice was made of."""
    labels = obj["metadata"].get("labels") or {}
    name = labels.get(NAME_LABEL)
    if not name or labels.get(MANAGED_LABEL) != MANAGER:
        return ()
    return (f"{obj['metadata']['namespace']}/{name}",)
