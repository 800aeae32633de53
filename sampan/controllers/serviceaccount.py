"""The service account "default" of every namespace: pods are refused until it is there, so it is
made in the turn of the loop in which the namespace shows."""

from __future__ import annotations

from sampan.api.errors import AlreadyExists, NotFound, Object
from sampan.api.resources import resource

from .runtime.controller import Context, Controller
from .runtime.queue import Request

NAME = "default"


class ServiceAccountController(Controller):
    """See the module."""

    name = "serviceaccount"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("serviceaccounts")
        self.namespaces = self.informer(resource("namespaces"))
        self.accounts = self.informer(self.resource)
        self.namespaces.on_change(self._namespace_changed)
        self.accounts.on_change(self._account_changed)

    def _namespace_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self.queue.add(Request("", new["metadata"]["name"]))

    def _account_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None and old["metadata"]["name"] == NAME:
            self.queue.add(Request("", old["metadata"]["namespace"]))

    async def reconcile(self, request: Request) -> None:
        namespace = request.name
        if not is_open(self.namespaces.get("", namespace)):
            return
        if self.accounts.get(namespace, NAME) is not None:
            return
        body = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": NAME, "namespace": namespace},
        }
        try:
            await self.client.create(self.resource, body, namespace)
        except (AlreadyExists, NotFound):
            return


def is_open(namespace: Object | None) -> bool:
    """May things be created in this namespace?"""
    if namespace is None or namespace["metadata"].get("deletionTimestamp"):
        return False
    return (namespace.get("status") or {}).get("phase") != "Terminating"
