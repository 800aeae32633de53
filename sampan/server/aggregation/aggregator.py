"""The APIServices there are, followed by events, and which requests belong to other servers.

Tasks: one per APIService that is not local (`availability.Checks`), and one that follows the
custom resources while there is something to do. Memory: one entry per APIService that is not
local, with its server's discovery document (at most `availability.MAX_DISCOVERY`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from sampan.api.errors import Object, StatusError
from sampan.api.resources import resource
from sampan.store.interface import StoreError

from ..exchange import Attributes, Request, Response, Stream, Upgrade
from ..registry import Registry
from ..webhooks.target import CallFailed, ServiceReference, Target, decode_bundle, service_target
from . import local
from .paths import attributes_of, group_version

if TYPE_CHECKING:
    from ..app import Server
    from .availability import Checks
    from .swagger import Swagger

log = logging.getLogger("sampan.aggregation")

Answer = Response | Stream | Upgrade
USER_AGENT = ("User-Agent", "kube-aggregator")


class Extension(Struct):
    """One APIService with a service: a group version of another server's."""

    name: str
    group: str
    version: str
    priority: tuple[int, int]
    reference: ServiceReference
    target: Target | None
    """None when its caBundle is none."""
    available: bool = False
    resources: list[Object] = field(default_factory=list)
    """Of its APIResourceList, as it was last read."""

    @property
    def names(self) -> frozenset[str]:
        return frozenset(row["name"] for row in self.resources)

    @property
    def path(self) -> str:
        return f"/apis/{self.group}/{self.version}"


class Aggregator:
    """APIServices of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.remote: dict[tuple[str, str], Extension] = {}
        """By group and version; empty in most clusters."""
        self.generation = 0
        """Grows when what discovery shows of extensions changes."""
        self._known: dict[str, Object] = {}
        self._checks: Checks | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._shown: tuple[tuple[int, int], Registry] | None = None
        self._syncing = False
        self._turn = asyncio.Lock()
        """Held by the pass under way: what it writes is known when the next begins."""
        self._swagger: Swagger | None = None

    async def start(self) -> None:
        """Write the automatic APIServices; called once, when the custom resources are loaded."""
        self._server.observe(resource("apiservices", local.GROUP), self._changed)
        await local.sync(self._server, self._known, start=True)
        self._server.resources.listeners.append(self._resources_changed)

    def close(self) -> None:
        if self._checks is not None:
            self._checks.close()
        for task in tuple(self._tasks):
            task.cancel()

    @property
    def shown(self) -> Registry:
        """What discovery shows: this server's resources and the extensions'."""
        if not self.remote:
            return self._server.resources
        made = (self._server.resources.generation, self.generation)
        if self._shown is None or self._shown[0] != made:
            from .discovery import merged

            self._shown = (made, merged(self._server))
        return self._shown[1]

    def find(self, path: str) -> Extension | None:
        """The extension a path belongs to; None for all others."""
        where = group_version(path)
        return None if where is None else self.remote.get(where)

    def attributes(self, request: Request) -> Attributes | None:
        """What a request to an extension is about; None for all others."""
        extension = self.find(request.path)
        if extension is None:
            return None
        return attributes_of(request, (extension.group, extension.version), extension.names)

    def begin(self, request: Request, extension: Extension) -> Coroutine[Any, Any, Answer]:
        """Pass a request on, once it is authorised."""
        from .passing import pass_on

        return pass_on(self._server, request, extension)

    @property
    def swagger(self) -> Swagger:
        """OpenAPI version 2 of everything, once there are extensions."""
        if self._swagger is None:
            from .swagger import Swagger

            self._swagger = Swagger(self._server)
        return self._swagger

    def streams(self, url: bytes) -> bool:
        """Does a request go to an extension, which takes its body as it comes?"""
        return bool(self.remote) and self.find(url.partition(b"?")[0].decode("latin-1")) is not None

    # Following.

    def _changed(self, event: str, obj: Object, old: Object | None) -> None:
        name, spec = obj["metadata"]["name"], obj.get("spec") or {}
        key = (spec.get("group") or "", spec.get("version") or "")
        if event == "DELETED":
            self._known.pop(name, None)
        else:
            self._known[name] = obj
        if event == "DELETED" or not spec.get("service") or not key[0]:
            if self.remote.pop(key, None) is not None:
                self.generation += 1
                if self._checks is not None:
                    self._checks.forget(name)
            if event != "DELETED":
                self._mark_local(obj)
            elif self._server.ready:
                # Deleted by hand, what is served locally gets its APIService again.
                self._resources_changed()
            return
        self._follow(name, key, spec)

    def _follow(self, name: str, key: tuple[str, str], spec: Object) -> None:
        known = self.remote.get(key)
        made = extension_of(self._server, name, spec)
        if known is not None and (known.target, known.priority) == (made.target, made.priority):
            # A change of status: our own.
            return
        if known is not None:
            made.available, made.resources = known.available, known.resources
        self.remote[key] = made
        self.generation += 1
        if self._checks is None:
            # Imported with the first extension there is.
            from .availability import Checks

            self._checks = Checks(self._server, self)
        self._checks.wake(name, made)

    def set_state(self, extension: Extension, available: bool, resources: list[Object]) -> None:
        """What a check found."""
        if (extension.available, extension.resources) != (available, resources):
            extension.available, extension.resources = available, resources
            self.generation += 1

    def _mark_local(self, obj: Object) -> None:
        """An APIService without a service is always available (upstream: Local)."""
        conditions = (obj.get("status") or {}).get("conditions") or ()
        if not any(item.get("reason") == "Local" for item in conditions):
            name = obj["metadata"]["name"]
            self._spawn(write_condition(self._server, name, dict(local.LOCAL)))

    def _resources_changed(self) -> None:
        """Custom resources come and go in bursts: one pass for all changes of a moment."""
        if not self._syncing:
            self._syncing = True
            self._spawn(self._sync())

    async def _sync(self) -> None:
        await asyncio.sleep(0)
        self._syncing = False
        async with self._turn:
            await local.sync(self._server, self._known, start=False)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(_logged(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except (StatusError, StoreError) as error:
        log.warning("an APIService could not be written: %s", error)


def extension_of(server: Server, name: str, spec: Object) -> Extension:
    """The extension an APIService describes."""
    service = spec["service"]
    reference = ServiceReference(
        service.get("namespace") or "", service.get("name") or "", service.get("port") or 443
    )
    target: Target | None
    try:
        plain = service_target(reference, "", decode_bundle(spec.get("caBundle") or ""))
    except CallFailed:
        target = None
    else:
        config = server.config
        target = Target(
            plain.url,
            reference,
            plain.ca,
            plain.server_name,
            client_cert=config.front_proxy_cert,
            client_key=config.front_proxy_key,
            insecure=bool(spec.get("insecureSkipTLSVerify")),
        )
    priority = (spec.get("groupPriorityMinimum") or 0, spec.get("versionPriority") or 0)
    return Extension(
        name, spec.get("group") or "", spec.get("version") or "", priority, reference, target
    )


async def write_condition(server: Server, name: str, condition: Object) -> None:
    """Set the Available condition of an APIService, if it says something else."""
    target = resource("apiservices", local.GROUP)
    stored = server.find_object(target, "", name)
    if stored is None:
        return
    now = server.timestamp()

    def change(obj: Object) -> Object:
        status = obj.setdefault("status", {})
        others, since = [], now
        for item in status.get("conditions") or ():
            if item.get("type") != condition["type"]:
                others.append(item)
            elif item.get("status") == condition["status"]:
                since = item.get("lastTransitionTime") or now
        status["conditions"] = [*others, {**condition, "lastTransitionTime": since}]
        return obj

    for item in (stored.get("status") or {}).get("conditions") or ():
        if all(item.get(field) == value for field, value in condition.items()):
            return
    try:
        await server.update_object(target, "", name, change, subresource="status")
    except StatusError as error:
        if error.code != 404:
            raise
