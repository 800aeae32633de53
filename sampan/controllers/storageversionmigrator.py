"""StorageVersionMigrations: every object of a resource is written anew as it is, which stores it in
the version, and by the key, that new ones are stored in (KEP-4192).

One migration of a resource runs at a time, the oldest first. Objects are listed in pages and
written by applies that say nothing; what has been written since the migration began is left out,
and what changes or goes meanwhile needs none. A controller that dies begins with the first page
again: what is stored as it should be is not written twice.
"""

from __future__ import annotations

from sampan.api.descriptor import Descriptor
from sampan.api.errors import (
    Conflict,
    InternalError,
    Object,
    ServiceUnavailable,
    Timeout,
    TooManyRequests,
)
from sampan.api.resources import resource
from sampan.api.times import parse_time
from sampan.client.interface import APPLY_PATCH

from .runtime.controller import Context, Controller
from .runtime.custom import custom_resource, definitions_resource
from .runtime.parallel import each
from .runtime.queue import Request, Requeue
from .runtime.status import write_status
from .storageversionmigrator_plan import (
    MIGRATING,
    RUNNING,
    definition_ended,
    definition_started,
    ended,
    is_over,
    is_running,
    is_true,
    key_of,
    next_of,
    started,
)

MANAGER = "storage-version-migrator-controller"
NEEDED = frozenset({"list", "patch", "update"})
PAGE_LENGTH = 500
"""Objects listed at a time, as clients' lists are."""
GRACE_S = 60.0
"""So long may the definition of a custom resource come after the migration."""
RETRIED = (TooManyRequests, InternalError, ServiceUnavailable, Timeout, OSError)
"""What a write may meet that a later one need not."""
UNHANDLED = "migration encountered unhandled error: "
UNSERVED = "resource does not exist in discovery"
VANISHED = f"{UNHANDLED}unable to obtain GVR from discovery"


class StorageVersionMigrator(Controller):
    """A request's name is that of a resource and its group, as of a definition."""

    name = MANAGER

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("storageversionmigrations", "storagemigration.k8s.io")
        self.definition_resource = definitions_resource()
        self.migrations = self.informer(self.resource)
        self.definitions = self.informer(self.definition_resource)
        self.migrations.on_change(self._changed)
        self.definitions.on_change(self._definition_changed)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        obj = new if new is not None else old
        if obj is not None:
            self.queue.add(Request("", key_of(obj)))

    def _definition_changed(self, old: Object | None, new: Object | None) -> None:
        """Migrations may wait for it; one that ran may have gone before its word was taken off."""
        name = (new or old or {})["metadata"]["name"]
        if (new is not None and is_true(new, MIGRATING)) or any(
            key_of(item) == name and not is_over(item) for item in self.migrations.list()
        ):
            self.queue.add(Request("", name))

    async def reconcile(self, request: Request) -> Requeue | None:
        mine = [item for item in self.migrations.list() if key_of(item) == request.name]
        migration = next_of(mine)
        if migration is None:
            # One that was deleted while it ran has left its word.
            await self._finish_definition(request.name, succeeded=False)
            return None
        found = self._find(migration)
        if found is None:
            created = parse_time(migration["metadata"]["creationTimestamp"])
            left = created + GRACE_S - self.clock.now()
            if left > 0:
                return Requeue(left)
            await self._end(migration, VANISHED if is_true(migration, RUNNING) else UNSERVED)
        elif not {*found.verbs} >= NEEDED:
            await self._end(migration, "resource is not migratable")
        else:
            await self._run(migration, found)
        return None

    def _find(self, migration: Object) -> Descriptor | None:
        """The resource, in the version it is stored in if that is served."""
        definition = self.definitions.get("", key_of(migration))
        if definition is not None:
            return custom_resource(definition)
        wanted = migration["spec"]["resource"]
        try:
            return resource(wanted["resource"], wanted["group"])
        except KeyError:
            return None

    async def _run(self, migration: Object, found: Descriptor) -> None:
        if not is_running(migration):
            begun = await self._begin(migration, found)
            if begun is None:
                return
            migration = begun
        version = int(migration["status"]["resourceVersion"])
        query = {"limit": str(PAGE_LENGTH)}
        while self._is_wanted(migration):
            page = await self.client.list(found, query=query)
            why = await self._write(found, page["items"], version)
            query["continue"] = page["metadata"].get("continue") or ""
            if why or not query["continue"]:
                await self._end(migration, why)
                return

    async def _begin(self, migration: Object, found: Descriptor) -> Object | None:
        """The migration as one that runs; None if it has gone.

        The definition is marked before the revision is read: what is written after it is stored as
        the definition wants, unless that changes again, which its generation tells."""
        definition = self.definitions.get("", key_of(migration))
        now = self.clock.now()
        if definition is not None:
            status = definition_started(definition, migration["metadata"]["name"], now)
            await write_status(self.client, self.definition_resource, definition, status)
        first = await self.client.list(found, query={"limit": "1"})
        status = started(migration, first["metadata"]["resourceVersion"], now)
        return await write_status(self.client, self.resource, migration, status)

    def _is_wanted(self, migration: Object) -> bool:
        meta = migration["metadata"]
        known = self.migrations.get("", meta["name"])
        return known is not None and known["metadata"]["uid"] == meta["uid"]

    async def _write(self, found: Descriptor, items: list[Object], version: int) -> str:
        """Write objects as they are. Why that cannot be done, "" if it is. Raises what may pass."""

        async def write(item: Object) -> None:
            meta = item["metadata"]
            body = {
                "apiVersion": found.api_version,
                "kind": found.kind,
                # With both, an object that is another by now is a conflict and never made.
                "metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]},
            }
            path = found.path(meta.get("namespace", ""), meta["name"])
            await self.client.transport.request(
                "PATCH", path, query={"fieldManager": MANAGER}, body=body, content_type=APPLY_PATCH
            )

        old = [item for item in items if int(item["metadata"]["resourceVersion"]) <= version]
        for result in await each(write, old):
            if isinstance(result, Conflict) or result is None:
                continue
            if isinstance(result, RETRIED) or not isinstance(result, Exception):
                raise result
            return f"{UNHANDLED}{result}"
        return ""

    async def _end(self, migration: Object, why: str) -> None:
        """It is over: for the definition first, so that who waits for one sees both."""
        await self._finish_definition(key_of(migration), succeeded=not why)
        status = ended(migration, why, self.clock.now())
        await write_status(self.client, self.resource, migration, status)

    async def _finish_definition(self, name: str, *, succeeded: bool) -> None:
        definition = self.definitions.get("", name)
        if definition is not None:
            status = definition_ended(definition, succeeded, self.clock.now())
            await write_status(self.client, self.definition_resource, definition, status)
