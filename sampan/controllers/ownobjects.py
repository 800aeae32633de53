"""The cluster's own objects, when somebody took them away or changed them: its namespaces, the
Service `kubernetes` and where that leads, by which pods find the API.

`kubectl delete service --all` in the namespace default is easily said. Upstream's API server looks
each ten seconds (kubernetesservice) and each minute (systemnamespaces); here events tell. What
they should be is the server's to know (`Options.restore`).
"""

from __future__ import annotations

from sampan.api.errors import Object
from sampan.api.resources import resource

from .runtime.controller import Context, Controller
from .runtime.queue import Request

NAME, NAMESPACE = "kubernetes", "default"
_NAMESPACES = frozenset(("default", "kube-system", "kube-public", "kube-node-lease"))


class OwnObjectsController(Controller):
    """See the module. There is one request, for all of them."""

    name = "own_objects"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.informer(resource("services")).on_change(self._gone)
        self.informer(resource("namespaces")).on_change(self._gone)
        for plural, group in (("endpoints", ""), ("endpointslices", "discovery.k8s.io")):
            self.informer(resource(plural, group)).on_change(self._changed)

    def _gone(self, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None:
            meta = old["metadata"]
            if meta["name"] in _NAMESPACES or is_own(meta):
                self.queue.add(Request(NAMESPACE, NAME))

    def _changed(self, old: Object | None, new: Object | None) -> None:
        """What leads to the server, which wrote it before anybody could ask for it."""
        if old is not None and is_own(old["metadata"]):
            self.queue.add(Request(NAMESPACE, NAME))

    async def reconcile(self, request: Request) -> None:
        if self.context.options.restore is not None:
            await self.context.options.restore()


def is_own(meta: Object) -> bool:
    """Is it the Service, or of it?"""
    return bool(meta["name"] == NAME and meta.get("namespace") == NAMESPACE)
