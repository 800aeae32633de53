"""The cluster's CA in every namespace, as ConfigMap kube-root-ca.crt: pods mount it to verify the
API server. What is changed by others is put back."""

from __future__ import annotations

from sampan.api.errors import AlreadyExists, NotFound, Object
from sampan.api.resources import resource

from .runtime.controller import Context, Controller
from .runtime.queue import Request
from .serviceaccount import is_open

NAME = "kube-root-ca.crt"
DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal "
    "endpoints such as the internal service IP or kubernetes.default.svc. No other usage is "
    "guaranteed across distributions of Kubernetes clusters."
)


class RootCaController(Controller):
    """See the module. Does nothing without a CA (`Options.root_ca`)."""

    name = "root_ca_cert_publisher"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("configmaps")
        self.pem = context.options.root_ca
        self.namespaces = self.informer(resource("namespaces"))
        self.maps = self.informer(self.resource)
        if self.pem:
            self.namespaces.on_change(self._namespace_changed)
            self.maps.on_change(self._map_changed)

    def _namespace_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self.queue.add(Request("", new["metadata"]["name"]))

    def _map_changed(self, old: Object | None, new: Object | None) -> None:
        obj = new if new is not None else old
        if obj is not None and obj["metadata"]["name"] == NAME:
            self.queue.add(Request("", obj["metadata"]["namespace"]))

    async def reconcile(self, request: Request) -> None:
        namespace = request.name
        if not is_open(self.namespaces.get("", namespace)):
            return
        data = {"ca.crt": self.pem}
        found = self.maps.get(namespace, NAME)
        if found is None:
            body = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": NAME,
                    "namespace": namespace,
                    "annotations": {"kubernetes.io/description": DESCRIPTION},
                },
                "data": data,
            }
            try:
                await self.client.create(self.resource, body, namespace)
            except (AlreadyExists, NotFound):
                return
        elif found.get("data") != data:
            await self.client.update(self.resource, {**found, "data": data})
