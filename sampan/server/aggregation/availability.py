"""Is an extension server there? The Available condition, as upstream's controllers write it.

One task per APIService: it checks, writes what changed, and waits for an event (the APIService,
its service, its endpoints) or the next look: `PASSED_S` after a check that passed, else a delay
that doubles up to the same. A look costs one small request.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import orjson

from sampan.api.errors import Object, StatusError
from sampan.api.principals import MASTERS
from sampan.api.resources import resource
from sampan.store.interface import StoreError

from ..exchange import User
from ..webhooks.target import SERVICE_LABEL, CallFailed, ServiceReference, slices_of
from .aggregator import USER_AGENT, Extension, write_condition
from .trust import identity_headers

if TYPE_CHECKING:
    from ..app import Server
    from .aggregator import Aggregator

log = logging.getLogger("sampan.aggregation")

PASSED_S = 30.0
"""Upstream's resync."""
FIRST_RETRY_S = 1.0
CHECK_S = 5.0
MAX_DISCOVERY = 1 << 20
"""Bytes of an extension's APIResourceList that are read."""
CHECKER = User("system:kube-aggregator", (MASTERS,))


class Checks:
    """The checks of every extension of one server."""

    def __init__(self, server: Server, aggregator: Aggregator) -> None:
        self._server = server
        self._aggregator = aggregator
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._events: dict[str, asyncio.Event] = {}
        self._extensions: dict[str, Extension] = {}
        self._services: dict[tuple[str, str], set[str]] = {}
        server.observe(resource("services"), self._service_changed)
        server.observe(resource("endpointslices", "discovery.k8s.io"), self._slice_changed)

    def wake(self, name: str, extension: Extension) -> None:
        """Check an extension now, and from now on."""
        self._drop_service(name)
        self._extensions[name] = extension
        where = (extension.reference.namespace, extension.reference.name)
        self._services.setdefault(where, set()).add(name)
        if name in self._tasks:
            self._events[name].set()
            return
        self._events[name] = asyncio.Event()
        self._tasks[name] = asyncio.get_running_loop().create_task(self._run(name))

    def forget(self, name: str) -> None:
        self._drop_service(name)
        self._events.pop(name, None)
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    def _drop_service(self, name: str) -> None:
        known = self._extensions.pop(name, None)
        if known is not None:
            where = (known.reference.namespace, known.reference.name)
            names = self._services.get(where, set())
            names.discard(name)
            if not names:
                self._services.pop(where, None)

    def _service_changed(self, event: str, obj: Object, old: Object | None) -> None:
        metadata = obj["metadata"]
        self._touch(metadata["namespace"], metadata["name"])

    def _slice_changed(self, event: str, obj: Object, old: Object | None) -> None:
        metadata = obj["metadata"]
        name = (metadata.get("labels") or {}).get(SERVICE_LABEL)
        if name:
            self._touch(metadata["namespace"], name)

    def _touch(self, namespace: str, service: str) -> None:
        for name in self._services.get((namespace, service), ()):
            self._events[name].set()

    async def _run(self, name: str) -> None:
        delay_s = FIRST_RETRY_S
        while True:
            event = self._events[name]
            event.clear()
            extension = self._extensions[name]
            try:
                passed = await self._check(extension)
            except (StatusError, StoreError) as error:
                log.warning("the state of APIService %s could not be written: %s", name, error)
                passed = False
            delay_s = PASSED_S if passed else min(delay_s * 2, PASSED_S)
            try:
                async with asyncio.timeout(delay_s):
                    await event.wait()
                delay_s = FIRST_RETRY_S
            except TimeoutError:
                pass

    async def _check(self, extension: Extension) -> bool:
        found = _service_problem(self._server, extension.reference)
        resources = extension.resources
        if found is None:
            try:
                resources = await fetch_resources(self._server, extension)
            except CallFailed as error:
                found = ("FailedDiscoveryCheck", error.message)
        reason, message = found or ("Passed", "all checks passed")
        self._aggregator.set_state(extension, found is None, resources)
        condition = {
            "type": "Available",
            "status": "False" if found else "True",
            "reason": reason,
            "message": message,
        }
        await write_condition(self._server, extension.name, condition)
        return found is None


def _service_problem(server: Server, reference: ServiceReference) -> tuple[str, str] | None:
    """Reason and message when the service cannot answer; None when it may."""
    namespace, name, number = reference
    service = server.find_object(resource("services"), namespace, name)
    if service is None:
        return "ServiceNotFound", f'service/{name} in "{namespace}" is not present'
    spec = service.get("spec") or {}
    if (spec.get("type") or "ClusterIP") != "ClusterIP":
        return None
    port = next((item for item in spec.get("ports") or () if item.get("port") == number), None)
    if port is None:
        why = f'service/{name} in "{namespace}" is not listening on port {number}'
        return "ServicePortError", why
    slices = slices_of(server, reference)
    if not slices:
        why = f'cannot find endpointslices for service/{name} in "{namespace}"'
        return "EndpointsNotFound", why
    wanted = port.get("name") or ""
    if not any(_has_address(item, wanted) for item in slices):
        why = (
            f'endpointslices for service/{name} in "{namespace}" have no addresses with port name '
            f'"{wanted}"'
        )
        return "MissingEndpoints", why
    return None


def _has_address(entry: Object, port: str) -> bool:
    ready = any(
        (item.get("conditions") or {}).get("ready", True) is not False
        for item in entry.get("endpoints") or ()
    )
    ports = entry.get("ports") or ()
    return ready and any((item.get("name") or "") == port and item.get("port") for item in ports)


async def fetch_resources(server: Server, extension: Extension) -> list[Object]:
    """The resources an extension serves: its APIResourceList. Raises CallFailed."""
    target = extension.target
    if target is None:
        raise CallFailed("unable to load root certificates: the caBundle is no PEM")
    url = f"{target.url}{extension.path}"
    headers = [*identity_headers(CHECKER), ("Accept", "application/json"), USER_AGENT]
    try:
        async with asyncio.timeout(CHECK_S):
            connection = await server.webhooks.open(target, "GET", url, headers, b"")
            try:
                body = await connection.read(MAX_DISCOVERY)
            except BaseException:
                connection.abort()
                raise
    except TimeoutError:
        raise CallFailed(_missing(url, f'Get "{url}": context deadline exceeded')) from None
    except CallFailed as error:
        raise CallFailed(_missing(url, f'Get "{url}": {error.message}')) from None
    server.webhooks.keep(target, connection)
    if not 200 <= connection.status < 300:
        raise CallFailed(_missing(url, f"bad status from {url}: {connection.status}"))
    try:
        found = orjson.loads(body)["resources"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        # Reachable is enough for upstream; discovery then has nothing to show.
        return []
    return [item for item in found if _is_resource(item)] if isinstance(found, list) else []


def _missing(url: str, why: str) -> str:
    return f"failing or missing response from {url}: {why}"


def _is_resource(item: object) -> bool:
    return (
        isinstance(item, dict)
        and isinstance(item.get("name"), str)
        and isinstance(item.get("kind"), str)
        and isinstance(item.get("verbs"), list)
    )
