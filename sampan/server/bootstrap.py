"""What every cluster has: namespaces, classes of priority and storage, roles, the `kubernetes`
service.

Run once at each start, before the first request. What is there already is looked up in memory and
left alone, so later starts write next to nothing; the first one writes it all at once, and the
store commits that as a few groups. What was changed by hand stays, but the `kubernetes` service
always leads to this server.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any

import orjson

from sampan.api.descriptor import Descriptor
from sampan.api.errors import AlreadyExists, Object
from sampan.api.resources import resource
from sampan.api.volumes import FIRST_CONSUMER, IS_DEFAULT, LOCAL, STANDARD

from .aggregation.trust import CONFIG_MAP, authentication_data
from .authz.policy import Default, default_policy, leads_elsewhere, missing_parts

if TYPE_CHECKING:
    from .app import Server

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
# Value and description of upstream's two classes for system pods.
PRIORITY_CLASSES = {
    "system-node-critical": (
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    "system-cluster-critical": (
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another"
        " node if necessary.",
    ),
}
SERVICE = "kubernetes"
PORT = "https"


async def bootstrap(server: Server) -> None:
    """Bring the cluster's own objects to be. Raises StatusErrors and StoreErrors."""
    # Namespaces first: nothing else may be made in one that is not there.
    await asyncio.gather(*_missing(server, _namespaces()))
    await asyncio.gather(
        *_missing(server, _objects(server)),
        *_missing_policy(server),
        *_stale_endpoints(server),
        *_stale_trust(server),
    )


async def restore(server: Server) -> None:
    """Those of them that clients and pods find the server by, where somebody took them away or
    changed where they lead. Raises StatusErrors and StoreErrors."""
    await asyncio.gather(*_missing(server, _namespaces()))
    await asyncio.gather(*_missing(server, _service(server)), *_stale_endpoints(server))


def _missing(server: Server, defaults: Iterator[Default]) -> Iterator[Coroutine[Any, Any, None]]:
    for default in defaults:
        if server.find_object(default.resource, *default.key) is None:
            yield _create(server, default)


async def _create(server: Server, default: Default) -> None:
    namespace, _ = default.key
    try:
        await server.create_object(default.resource, default.obj, namespace)
    except AlreadyExists:
        # Another server of the same cluster was faster.
        return


def _missing_policy(server: Server) -> Iterator[Coroutine[Any, Any, None]]:
    for default in default_policy():
        stored = server.find_object(default.resource, *default.key)
        if stored is None:
            yield _create(server, default)
        elif leads_elsewhere(stored, default.obj):
            yield _replace(server, default)
        elif missing_parts(stored, default.obj) is not None:
            yield _complete(server, default)


async def _replace(server: Server, default: Default) -> None:
    await server.delete_object(default.resource, *default.key)
    await _create(server, default)


async def _complete(server: Server, default: Default) -> None:
    """Give a role or binding back what it lacks."""
    await server.update_object(
        default.resource,
        *default.key,
        lambda stored: missing_parts(stored, default.obj) or stored,
    )


def _stale_endpoints(server: Server) -> Iterator[Coroutine[Any, Any, None]]:
    """The address of this server may be another one than at the last start."""
    for default in _endpoints(server):
        stored = server.find_object(default.resource, *default.key)
        if stored is None:
            yield _create(server, default)
        elif any(stored.get(field) != default.obj[field] for field in _endpoint_fields(default)):
            yield _repoint(server, default)


def _stale_trust(server: Server) -> Iterator[Coroutine[Any, Any, None]]:
    """What extension servers read of whom to believe must be what is believed now."""
    data = authentication_data(server.config)
    maps = resource("configmaps")
    default = _default(maps, CONFIG_MAP, "kube-system", data=data)
    stored = server.find_object(maps, *default.key)
    if stored is None:
        yield _create(server, default)
    elif any((stored.get("data") or {}).get(name) != text for name, text in data.items()):
        yield _trust(server, default)


async def _trust(server: Server, default: Default) -> None:
    def change(stored: Object) -> Object:
        return {**stored, "data": {**(stored.get("data") or {}), **default.obj["data"]}}

    await server.update_object(default.resource, *default.key, change)


def _endpoint_fields(default: Default) -> tuple[str, ...]:
    return ("subsets",) if default.resource.plural == "endpoints" else ("endpoints", "ports")


async def _repoint(server: Server, default: Default) -> None:
    fields = {field: default.obj[field] for field in _endpoint_fields(default)}
    await server.update_object(default.resource, *default.key, lambda stored: {**stored, **fields})


def _namespaces() -> Iterator[Default]:
    for name in NAMESPACES:
        yield _default(resource("namespaces"), name)


def _objects(server: Server) -> Iterator[Default]:
    for name, (value, description) in PRIORITY_CLASSES.items():
        yield _default(
            resource("priorityclasses", "scheduling.k8s.io"),
            name,
            value=value,
            description=description,
        )
    yield _standard_class()
    yield from _service(server)
    ranges = server.config.service_cidr.split(",")
    yield _default(resource("servicecidrs", "networking.k8s.io"), SERVICE, spec={"cidrs": ranges})
    ca = server.config.ca_cert.read_text()
    yield _default(
        resource("configmaps"),
        "cluster-info",
        "kube-public",
        data={"kubeconfig": _cluster_info(server, ca)},
    )


def _service(server: Server) -> Iterator[Default]:
    network = ipaddress.ip_network(server.config.service_cidr.split(",")[0])
    port = {
        "name": PORT,
        "port": 443,
        "protocol": "TCP",
        "targetPort": server.config.advertise_port,
    }
    yield _default(
        resource("services"),
        SERVICE,
        "default",
        {"component": "apiserver", "provider": "kubernetes"},
        spec={"clusterIP": str(network[1]), "ports": [port], "type": "ClusterIP"},
    )


def _standard_class() -> Default:
    """The class of claims that name none: directories of the node their first pod runs on."""
    made = _default(
        resource("storageclasses", "storage.k8s.io"),
        STANDARD,
        provisioner=LOCAL,
        reclaimPolicy="Delete",
        volumeBindingMode=FIRST_CONSUMER,
        allowVolumeExpansion=True,
    )
    made.obj["metadata"]["annotations"] = {IS_DEFAULT: "true"}
    return made


def _cluster_info(server: Server, ca: str) -> str:
    """A kubeconfig without credentials, by which others find and trust the cluster; in JSON."""
    cluster = {
        "certificate-authority-data": base64.b64encode(ca.encode()).decode(),
        "server": f"https://{server.config.advertise_host}:{server.config.advertise_port}",
    }
    config: Object = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "", "cluster": cluster}],
        "contexts": None,
        "current-context": "",
        "preferences": {},
        "users": None,
    }
    return orjson.dumps(config).decode()


def _endpoints(server: Server) -> Iterator[Default]:
    host = server.config.advertise_host
    port = {"name": PORT, "port": server.config.advertise_port, "protocol": "TCP"}
    yield _default(
        resource("endpoints"),
        SERVICE,
        "default",
        {"endpointslice.kubernetes.io/skip-mirror": "true"},
        subsets=[{"addresses": [{"ip": host}], "ports": [port]}],
    )
    yield _default(
        resource("endpointslices", "discovery.k8s.io"),
        SERVICE,
        "default",
        {"kubernetes.io/service-name": SERVICE},
        addressType=f"IPv{ipaddress.ip_address(host).version}",
        endpoints=[{"addresses": [host], "conditions": {"ready": True}}],
        ports=[port],
    )


def _default(
    target: Descriptor,
    name: str,
    namespace: str = "",
    labels: dict[str, str] | None = None,
    **fields: Any,
) -> Default:
    meta: Object = {"name": name}
    if namespace:
        meta["namespace"] = namespace
    if labels:
        meta["labels"] = labels
    head = {"kind": target.kind, "apiVersion": target.api_version, "metadata": meta}
    return Default(target, {**head, **fields})
