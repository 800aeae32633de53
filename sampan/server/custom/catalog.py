"""Which custom resources there are: follows the definitions, and keeps the registry as they say.

An observer of the cache, so that a definition is served by the time its writer hears that it is
stored, and at a start before the first request. Definitions that are being deleted have a task
each (`cleanup`), at most as many as there are definitions. What is refused (by a policy, by a
webhook that is away) is tried again, `FIRST_RETRY_S` later at first and `RETRY_S` in the end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from sampan.aio.backoff import Backoff
from sampan.api.descriptor import Descriptor
from sampan.api.errors import NotFound, Object, StatusError
from sampan.api.resources import resource
from sampan.store.interface import StoreError

from .naming import FINALIZER, condition_is

if TYPE_CHECKING:
    from ..app import Server

log = logging.getLogger("sampan.server.custom")

DEFINITIONS = resource("customresourcedefinitions", "apiextensions.k8s.io")
FIRST_RETRY_S, RETRY_S = 1.0, 60.0


class Entry(Struct):
    """What is known of one definition."""

    definition: Object
    versions: list[Descriptor] = field(default_factory=list)
    """Descriptors of all its versions, once it is established."""
    served: list[Descriptor] = field(default_factory=list)


class Catalog:
    """The custom resources of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._entries: dict[str, Entry] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.pending: dict[str, tuple[str, Object]] = {}
        """(group, names granted) by definition, of writes that are under way."""

    def start(self) -> None:
        """Serve what is defined. The server's cache must be open."""
        self._server.observe(DEFINITIONS, self._changed)

    def close(self) -> None:
        """End the tasks."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    def granted(self, group: str) -> Mapping[str, Object]:
        """The accepted names of a group's definitions, by the definitions' names."""
        return {
            name: (entry.definition.get("status") or {}).get("acceptedNames") or {}
            for name, entry in self._entries.items()
            if entry.definition["spec"].get("group") == group
        }

    def find(self, name: str) -> Entry | None:
        """What is known of a definition."""
        return self._entries.get(name)

    def _changed(self, event: str, obj: Object, old: Object | None) -> None:
        name = obj["metadata"]["name"]
        before = self._entries.get(name)
        if event == "DELETED":
            if before is not None:
                del self._entries[name]
                self.pending.pop(name, None)
                self._serve(before.served, [])
                self._reconsider(before.definition)
            return
        entry = Entry(obj)
        if before is not None and _equal(before.definition, obj):
            entry.versions, entry.served = before.versions, before.served
        elif condition_is(obj, "Established"):
            # Imported with the first definition there is.
            from .build import build

            entry.versions = build(self._server, obj, before.versions if before else [])
            served = {item["name"] for item in obj["spec"]["versions"] if item.get("served")}
            entry.served = [item for item in entry.versions if item.version in served]
        self._entries[name] = entry
        self._serve(before.served if before is not None else [], entry.served)
        if before is not None and _names(before.definition) != _names(obj):
            self._reconsider(obj)
        if "deletionTimestamp" in obj["metadata"] and FINALIZER in (
            obj["metadata"].get("finalizers") or ()
        ):
            self._clean(name)

    def _serve(self, before: list[Descriptor], now: list[Descriptor]) -> None:
        """Put the registry from one set of descriptors to another."""
        registry = self._server.resources
        if before is now:
            return
        kept = {(item.group, item.version, item.plural) for item in now}
        for item in before:
            if (item.group, item.version, item.plural) not in kept:
                registry.remove(item)
                self._end_watches(item)
        self._end_stale_watches(before, now)
        for item in now:
            registry.add(item)
            if item.custom is not None and item.custom.codec.is_stored:
                self._server.cache.redefine(item)

    def _end_watches(self, gone: Descriptor, *, viewed: bool = False) -> None:
        """End the watches of a resource; with `viewed` only those that convert what they show."""
        for watcher in tuple(self._server.watchers):
            selection = watcher.selection
            found = selection.resource
            if (found.group, found.version, found.plural) == (
                gone.group, gone.version, gone.plural,
            ) and not (viewed and selection.view is None):  # fmt: skip
                watcher.close()

    def _end_stale_watches(self, before: list[Descriptor], now: list[Descriptor]) -> None:
        """Watches go on when a schema changes. But those of a version that is not stored convert
        by the old schema, and when another version becomes the stored one, stored bytes are no
        longer what a watch of the old one shows: their clients begin anew, as with upstream."""
        if not before or not now:
            return
        was, becomes = before[0].custom, now[0].custom
        assert was is not None
        assert becomes is not None
        moved = was.codec.storage.api_version != becomes.codec.storage.api_version
        for item in before:
            self._end_watches(item, viewed=not moved)

    def _reconsider(self, changed: Object) -> None:
        """Names may have become free: definitions of the group that wait for some try again."""
        group = changed["spec"].get("group")
        for name, entry in self._entries.items():
            if entry.definition["spec"].get("group") == group and not condition_is(
                entry.definition, "NamesAccepted"
            ):
                self._spawn(f"names of {name}", partial(self._retry_names, name))

    async def _retry_names(self, name: str) -> None:
        # The write itself asks for the names anew (`strategy`).
        await self._server.update_object(
            DEFINITIONS, "", name, lambda stored: stored, subresource="status"
        )

    def _clean(self, name: str) -> None:
        from .cleanup import clean

        self._spawn(f"deletion of {name}", lambda: clean(self._server, name))

    def _spawn(self, what: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if what in self._tasks:
            return
        task = asyncio.get_running_loop().create_task(self._run(what, work))
        self._tasks[what] = task
        task.add_done_callback(lambda done: self._tasks.pop(what, None))

    async def _run(self, what: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        backoff = Backoff(FIRST_RETRY_S, RETRY_S)
        while True:
            try:
                await work()
                return
            except NotFound:
                # The definition has gone.
                return
            except StoreError as error:
                log.warning("%s: %s", what, error)
                return
            except StatusError as error:
                log.warning("%s: %s", what, error)
            await self._server.clock.sleep(backoff.next_s())


def _names(definition: Object) -> Any:
    return (definition.get("status") or {}).get("acceptedNames")


def _equal(before: Object, now: Object) -> bool:
    """Do two states of a definition serve the same?"""
    return (
        before["spec"] == now["spec"]
        and _names(before) == _names(now)
        and all(
            condition_is(before, kind) == condition_is(now, kind)
            for kind in ("Established", "Terminating")
        )
    )
