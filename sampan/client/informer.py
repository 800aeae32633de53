"""A cache of one resource, kept true by list and watch, that tells its listeners what changed.

Tasks: one per informer, under the supervisor. Queues: none; each watch event is applied to the
cache and handed to every handler in the same turn of the loop, in the order of the server's
revisions. Handlers are synchronous and short: they put a name on a work queue. Memory: the
objects without managedFields, equal parts of pods once (`sharing`).

What a cache cannot promise (kubernetes/kubernetes#59848): it is a past state, and after a
reconnection possibly an older one than some other component has acted on. A controller that must
not act on such a view (that a pod of a StatefulSet is gone, that an owner no longer exists) asks
`get_live`; one that creates or deletes keeps expectations (`controllers/runtime`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing

from sampan.aio.backoff import Backoff
from sampan.aio.clock import Clock, SystemClock
from sampan.aio.tasks import Supervisor
from sampan.api.descriptor import ApiResource
from sampan.api.errors import Expired, Gone, NotFound, Object, StatusError

from .api import Client
from .interface import WatchEvent
from .sharing import Sharing

log = logging.getLogger("sampan.informer")

Key = tuple[str, str]
Handler = Callable[[Object | None, Object | None], None]
IndexFunction = Callable[[Object], Iterable[str]]
# Index value -> keys, in the order they came.
Entries = dict[str, dict[Key, None]]

# The server is asked to end a watch after 5 to 10 minutes, as upstream's reflector does: the
# connections of many clients then spread over the servers there are.
WATCH_MIN_S = 300
# A watch that ends sooner than this without a single event counts as a failure (backoff).
SHORT_WATCH_S = 1.0
# A list at a lower revision than what was seen means a server that lags behind (etcd 3.4's bug, a
# stale member). It is asked again this often before it is believed: then it is a restored backup.
REGRESSIONS = 5


class RevisionError(Exception):
    """A list is older than what this cache already holds."""


class Informer:
    """Cache of one resource, optionally of one namespace or selector. Made by `Informers`."""

    def __init__(
        self,
        client: Client,
        resource: ApiResource,
        query: tuple[str, str, str] = ("", "", ""),
        clock: Clock | None = None,
    ) -> None:
        """`query` is (namespace, label selector, field selector)."""
        self.client = client
        self.resource = resource
        self.namespace, self._labels, self._fields = query
        self._clock = clock or SystemClock()
        self._objects: dict[Key, Object] = {}
        self._by_namespace: dict[str, dict[str, Object]] = {}
        self._indexes: dict[str, tuple[IndexFunction, Entries]] = {}
        self._handlers: list[Handler] = []
        self._slim = Sharing().slim
        self._revision = 0
        self._regressions = 0
        self._synced = asyncio.Event()
        self.lists = 0
        """How often everything was listed: 1 in a quiet life."""
        self.watches = 0
        self.dropped = 0
        """Events older than the cache, not delivered."""
        self.handler_errors = 0

    def __len__(self) -> int:
        return len(self._objects)

    @property
    def revision(self) -> int:
        """The revision the cache is true of."""
        return self._revision

    @property
    def has_synced(self) -> bool:
        return self._synced.is_set()

    async def synced(self) -> None:
        """Wait until the first list is in the cache."""
        await self._synced.wait()

    def get(self, namespace: str, name: str) -> Object | None:
        """The cached object; do not change it. `namespace` is "" for cluster-scoped ones."""
        return self._objects.get((namespace, name))

    def list(self, namespace: str = "") -> list[Object]:
        """The cached objects of one namespace, or all."""
        if namespace:
            return [*self._by_namespace.get(namespace, {}).values()]
        return [*self._objects.values()]

    def holds(self, namespace: str) -> bool:
        """Is anything of this namespace cached?"""
        return namespace in self._by_namespace

    async def get_live(self, namespace: str, name: str) -> Object | None:
        """What the server says now; None if there is no such object. Raises as the client does."""
        try:
            return await self.client.get(self.resource, name, namespace)
        except NotFound:
            return None

    def add_index(self, name: str, function: IndexFunction) -> None:
        """Index objects by the values `function` gives, a tuple or list, from nothing but the
        object. The same name twice keeps the first."""
        if name in self._indexes:
            return
        entries: Entries = {}
        self._indexes[name] = (function, entries)
        for key, obj in self._objects.items():
            for value in function(obj):
                entries.setdefault(value, {})[key] = None

    def by_index(self, index: str, value: str) -> Sequence[Object]:
        """The objects for which the index gives `value`. KeyError for an unknown index."""
        objects = self._objects
        return [objects[key] for key in self._indexes[index][1].get(value, ())]

    def count(self, index: str, value: str) -> int:
        """How many objects `by_index` would give."""
        return len(self._indexes[index][1].get(value, ()))

    def on_change(self, handler: Handler) -> Callable[[], None]:
        """Call `handler(old, new)` for each change: (None, new) added, (old, None) deleted.

        What is already cached comes at once, as added. An object replaced by another of the same
        name comes as a deletion, then an addition. Returns a function that unsubscribes.
        """
        for obj in [*self._objects.values()]:
            self._call(handler, None, obj)
        self._handlers.append(handler)

        def unsubscribe() -> None:
            if handler in self._handlers:
                self._handlers.remove(handler)

        return unsubscribe

    async def run(self) -> None:
        """List, then watch for ever; comes back from everything but cancellation."""
        backoff = Backoff(initial_s=0.05, cap_s=30.0, jitter=0.5)
        listed = False
        while True:
            try:
                if not listed:
                    await self._relist()
                    listed = True
                if await self._watch():
                    backoff.reset()
                    continue
            except (Expired, Gone):
                listed = False
                log.info("%s: the watch's version has expired, listing again", self._name)
            except RevisionError as error:
                log.warning("%s: %s", self._name, error)
            except (StatusError, OSError) as error:
                log.info("%s: %s: %s", self._name, type(error).__name__, error)
                if isinstance(error, StatusError) and error.details is not None:
                    await self._clock.sleep(min(error.details.retry_after_s, 30))
            await self._clock.sleep(backoff.next_s())

    @property
    def _name(self) -> str:
        return self.resource.path(self.namespace)

    def _query(self, **more: str) -> dict[str, str]:
        if self._labels:
            more["labelSelector"] = self._labels
        if self._fields:
            more["fieldSelector"] = self._fields
        return more

    async def _relist(self) -> None:
        answer = await self.client.list(self.resource, self.namespace, self._query())
        revision = int(answer["metadata"].get("resourceVersion") or 0)
        if revision < self._revision and self._regressions < REGRESSIONS:
            self._regressions += 1
            raise RevisionError(f"listed at {revision}, but {self._revision} was seen before")
        self._regressions = 0
        self.lists += 1
        self._replace(answer.get("items") or [], revision)
        self._synced.set()

    def _replace(self, items: Iterable[Object], revision: int) -> None:
        self._revision = revision
        gone = {**self._objects}
        for obj in items:
            key = _key(obj)
            old = gone.pop(key, None)
            if old is None or _version(old) != _version(obj):
                self._put(key, obj)
        for key in gone:
            self._remove(key)

    async def _watch(self) -> bool:
        """One watch, until the server ends it. False if it was too short to be healthy."""
        query = self._query(
            resourceVersion=str(self._revision),
            allowWatchBookmarks="true",
            timeoutSeconds=str(random.randint(WATCH_MIN_S, 2 * WATCH_MIN_S)),
        )
        self.watches += 1
        began = self._clock.monotonic()
        seen = False
        events = self.client.watch(self.resource, self.namespace, query)
        async with aclosing(events) as stream:  # type: ignore[type-var]
            async for event in stream:
                seen = True
                self._accept(event)
        return seen or self._clock.monotonic() - began >= SHORT_WATCH_S

    def _accept(self, event: WatchEvent) -> None:
        """Apply one event, unless the cache is already past it."""
        obj = event.object
        version = int(_version(obj) or 0)
        if event.type == "BOOKMARK":
            self._revision = max(self._revision, version)
            return
        key = _key(obj)
        if event.type == "DELETED":
            old = self._objects.get(key)
            if old is not None and int(_version(old) or 0) > version:
                self.dropped += 1
                return
            self._remove(key)
        elif version <= self._revision:
            self.dropped += 1
            return
        else:
            self._put(key, obj)
        self._revision = max(self._revision, version)

    def _put(self, key: Key, obj: Object) -> None:
        old = self._objects.get(key)
        if old is not None and old["metadata"].get("uid") != obj["metadata"].get("uid"):
            self._remove(key)
            old = None
        obj = self._slim(obj, old)
        self._objects[key] = obj
        self._by_namespace.setdefault(key[0], {})[key[1]] = obj
        for function, entries in self._indexes.values():
            before = function(old) if old is not None else ()
            after = function(obj)
            if before != after:
                _reindex(entries, key, before, after)
        self._tell(old, obj)

    def _remove(self, key: Key) -> None:
        old = self._objects.pop(key, None)
        if old is None:
            return
        names = self._by_namespace[key[0]]
        del names[key[1]]
        if not names:
            del self._by_namespace[key[0]]
        for function, entries in self._indexes.values():
            _reindex(entries, key, function(old), ())
        self._tell(old, None)

    def _tell(self, old: Object | None, new: Object | None) -> None:
        for handler in [*self._handlers]:
            self._call(handler, old, new)

    def _call(self, handler: Handler, old: Object | None, new: Object | None) -> None:
        """A handler that raises is logged and counted; the cache and the others go on."""
        try:
            handler(old, new)
        except Exception:
            self.handler_errors += 1
            log.exception("%s: a handler failed", self._name)


class Informers:
    """The informers of one process: one per (resource, namespace, selectors), shared."""

    def __init__(self, client: Client, supervisor: Supervisor, clock: Clock | None = None) -> None:
        self.client = client
        self.clock = clock or SystemClock()
        self._supervisor = supervisor
        self._informers: dict[tuple[ApiResource, str, str, str], Informer] = {}

    def informer(
        self, resource: ApiResource, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Informer:
        """The informer for these arguments, started now if it is the first call."""
        key = (resource, namespace, labels, fields)
        found = self._informers.get(key)
        if found is None:
            found = Informer(self.client, resource, (namespace, labels, fields), self.clock)
            self._informers[key] = found
            self._supervisor.start(self._task(key), found.run)
        return found

    def all(self) -> list[Informer]:
        """Every informer, for metrics."""
        return [*self._informers.values()]

    def stop(
        self, resource: ApiResource, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> None:
        """End one informer (its resource is no longer served); its cache stays as it was."""
        key = (resource, namespace, labels, fields)
        if self._informers.pop(key, None) is not None:
            self._supervisor.cancel(self._task(key))

    async def synced(self) -> None:
        """Wait for the first list of every informer there is."""
        for informer in self.all():
            await informer.synced()

    @staticmethod
    def _task(key: tuple[ApiResource, str, str, str]) -> str:
        resource, namespace, labels, fields = key
        parts = [resource.path(namespace), labels, fields]
        return "informer " + " ".join(part for part in parts if part)


def _reindex(entries: Entries, key: Key, before: Iterable[str], after: Iterable[str]) -> None:
    wanted = {*after}
    for value in before:
        if value not in wanted and value in entries:
            entries[value].pop(key, None)
            if not entries[value]:
                del entries[value]
    for value in after:
        entries.setdefault(value, {})[key] = None


def _key(obj: Object) -> Key:
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _version(obj: Object) -> str:
    version: str = obj["metadata"].get("resourceVersion", "")
    return version
