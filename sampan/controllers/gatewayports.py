"""Ports of Gateways, for a proxy that can only listen where its own configuration says: Traefik.

A GatewayClass that says where its proxy is (`ANNOTATION`, a NAMESPACE/NAME of a Deployment and of
its Service), as the one of the add-on `ingress` does, gets an entry point (an environment
variable), a port of the container and one of the Service for each port of its Gateways' listeners
that the proxy has not got by itself; they go with the last listener. The proxy starts anew by that,
one pod after the other. At most `PORTS_MAX` ports, those of the oldest Gateways first.
"""

from __future__ import annotations

from collections.abc import Iterable

from sampan.api.descriptor import ApiResource
from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.client.informer import Informer
from sampan.client.interface import STRATEGIC_PATCH

from .runtime.controller import Context, Controller
from .runtime.custom import FILL_S, definitions_resource, follow_custom
from .runtime.queue import Request, Requeue

GROUP = "gateway.networking.k8s.io"
ANNOTATION = "gateway.sampan.io/proxy"
PORTS_MAX = 32
"""Each is a listener of the proxy and a chain on each node; any maker of Gateways opens them."""
_PREFIX, _VARIABLE = "gw-", "TRAEFIK_ENTRYPOINTS_GW{}_ADDRESS"
_STREAMS = ("HTTP", "HTTPS", "TLS", "TCP")


class GatewayPortsController(Controller):
    """See the module. A request is a GatewayClass; nothing is looked at before one is served."""

    name = "gateway_ports"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.deployment_resource = resource("deployments", "apps")
        self.service_resource = resource("services")
        self.deployments = self.informer(self.deployment_resource)
        self.services = self.informer(self.service_resource)
        self.kinds: dict[str, Informer] = {}
        """Gateways and their classes, by plural, while they are served."""
        self.deployments.on_change(self._proxy_changed)
        self.services.on_change(self._proxy_changed)
        follow_custom(self.informer(definitions_resource()), self._served, self._gone)

    def _served(self, found: ApiResource) -> None:
        if found.group == GROUP and found.plural in ("gateways", "gatewayclasses"):
            cache = self.kinds[found.plural] = self.context.informers.informer(found)
            is_class = found.plural == "gatewayclasses"
            cache.on_change(self.add_changed if is_class else self._gateway_changed)

    def _gone(self, found: ApiResource) -> None:
        if found.group == GROUP:
            self.kinds.pop(found.plural, None)

    def _gateway_changed(self, old: Object | None, new: Object | None) -> None:
        for item in (old, new):
            if item is not None:
                self.queue.add(Request("", str(item["spec"].get("gatewayClassName") or "")))

    def _proxy_changed(self, old: Object | None, new: Object | None) -> None:
        """Somebody may have brought it back to what it was."""
        if "gatewayclasses" in self.kinds and new is not None:
            meta = new["metadata"]
            for item in self.kinds["gatewayclasses"].list():
                if proxy_of(item) == (meta["namespace"], meta["name"]):
                    self.add(item)

    async def reconcile(self, request: Request) -> Requeue | None:
        classes, gateways = self.kinds.get("gatewayclasses"), self.kinds.get("gateways")
        if classes is None or gateways is None:
            return None
        if not (classes.has_synced and gateways.has_synced):
            return Requeue(FILL_S)
        place = proxy_of(classes.get("", request.name) or {"metadata": {}})
        deployment = self.deployments.get(*place) if place else None
        service = self.services.get(*place) if place else None
        if place is None or deployment is None or service is None:
            return None
        wanted = ports_of(gateways.list(), request.name)
        for found, kind, change in (
            (service, self.service_resource, change_service(service, wanted)),
            (deployment, self.deployment_resource, change_deployment(deployment, wanted)),
        ):
            if change:
                name = found["metadata"]["name"]
                await self.client.patch(
                    kind, name, {"spec": change}, place[0], content_type=STRATEGIC_PATCH
                )
        return None


def proxy_of(item: Object) -> tuple[str, str] | None:
    """Where a class's proxy is, if it says so."""
    namespace, _, name = str(
        (item["metadata"].get("annotations") or {}).get(ANNOTATION) or ""
    ).partition("/")
    return (namespace, name) if namespace and name else None


def ports_of(gateways: Iterable[Object], class_name: str) -> list[int]:
    """All that Gateways of a class listen at, those of the oldest first. Pure."""
    mine = [item for item in gateways if item["spec"].get("gatewayClassName") == class_name]
    mine.sort(key=lambda item: str(item["metadata"].get("creationTimestamp") or ""))
    return [*dict.fromkeys(
        listener["port"]
        for item in mine if not item["metadata"].get("deletionTimestamp")
        for listener in item["spec"].get("listeners") or ()
        if listener.get("protocol") in _STREAMS
    )]  # fmt: skip


def change_deployment(deployment: Object, wanted: Iterable[int]) -> Object:
    """A strategic merge patch of its spec, {} when nothing is to be done. Pure."""
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    own, had = _split(container.get("ports") or (), "containerPort")
    added, gone = _difference(wanted, own, had)
    if not added and not gone:
        return {}
    ports = [
        {"containerPort": port, "protocol": "TCP", "name": f"{_PREFIX}{port}"} for port in added
    ]
    ports += [{"containerPort": port, "protocol": "TCP", "$patch": "delete"} for port in gone]
    variables = [{"name": _VARIABLE.format(port), "value": f":{port}"} for port in added]
    variables += [{"name": _VARIABLE.format(port), "$patch": "delete"} for port in gone]
    change = {"name": container["name"], "env": variables, "ports": ports}
    return {"template": {"spec": {"containers": [change]}}}


def change_service(service: Object, wanted: Iterable[int]) -> Object:
    """The same for its Service."""
    own, had = _split(service["spec"].get("ports") or (), "port")
    added, gone = _difference(wanted, own, had)
    ports: list[Object] = [
        {"port": port, "protocol": "TCP", "targetPort": port, "name": f"{_PREFIX}{port}"}
        for port in added
    ]
    ports += [{"port": port, "protocol": "TCP", "$patch": "delete"} for port in gone]
    return {"ports": ports} if ports else {}


def _split(ports: Iterable[Object], key: str) -> tuple[set[int], set[int]]:
    """Those that are there anyway, and those from here."""
    own: set[int] = set()
    had: set[int] = set()
    for item in ports:
        derived = str(item.get("name") or "").startswith(_PREFIX)
        (had if derived else own).add(item[key])
    return own, had


def _difference(wanted: Iterable[int], own: set[int], had: set[int]) -> tuple[list[int], list[int]]:
    left = [port for port in wanted if port not in own][:PORTS_MAX]
    return [port for port in left if port not in had], sorted(had - {*left})
