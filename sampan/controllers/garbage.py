"""The garbage collector: what is owned goes when its owners do (background, foreground, orphan).

The owner graph is not kept apart: every resource's informer indexes its objects by their owners'
uids, so dependents are looked up where they are. A cache may propose that an owner is gone; only
the server says so (kubernetes#59848), once per owner: a uid never comes back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from sampan.api.descriptor import ApiResource
from sampan.api.errors import NotFound, Object
from sampan.client.events import WARNING
from sampan.client.informer import Informer

from .garbage_plan import (
    FOREGROUND,
    ORPHAN,
    Nothing,
    Owner,
    Remove,
    Unlink,
    blocks,
    is_going,
    plan,
    with_owners,
    without_finalizer,
)
from .runtime.collections import deletable, is_cached, owners
from .runtime.controller import Context, Controller
from .runtime.custom import definitions_resource, follow_custom
from .runtime.parallel import each_or_raise
from .runtime.queue import Request

BY_OWNER = "owner uid"
# Owners known to be gone; the oldest are forgotten and would be asked for again.
ABSENT_LENGTH = 4096
# Objects whose owner is of a kind that is not served; more are looked at when they change.
WAITING_LENGTH = 4096


class GarbageCollector(Controller):
    """A request's name is the resource's path, a slash and the object's name."""

    name = "garbage_collector_attempt_to_delete"
    workers = 20

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.recorder = context.recorder("garbage-collector-controller")
        self.caches: dict[str, Informer] = {}
        self.kinds: dict[tuple[str, str], ApiResource] = dict(owners())
        self.absent: OrderedDict[str, None] = OrderedDict()
        self.waiting: OrderedDict[Request, tuple[str, str]] = OrderedDict()
        """Objects whose owner's kind was not served when they were looked at."""
        for item in deletable():
            if is_cached(item):
                cache = self.informer(item)
                cache.add_index(BY_OWNER, _owner_uids)
                self.caches[item.path()] = cache
        for cache in self.caches.values():
            self._listen(cache)
        follow_custom(self.informer(definitions_resource()), self._serve, self._forget)

    def _serve(self, resource: ApiResource) -> None:
        """A custom resource appears: its objects may own and be owned from now on."""
        cache = self.context.informers.informer(resource)
        cache.add_index(BY_OWNER, _owner_uids)
        self.caches[resource.path()] = cache
        kind = (resource.group, resource.kind)
        self.kinds[kind] = resource
        self._listen(cache)
        for request in [item for item, wanted in self.waiting.items() if wanted == kind]:
            del self.waiting[request]
            self.queue.add(request)

    def _forget(self, resource: ApiResource) -> None:
        """It is no longer served: as an owner it is then of an unknown kind, which deletes
        nothing."""
        self.context.informers.stop(resource)
        self.caches.pop(resource.path(), None)
        self.kinds.pop((resource.group, resource.kind), None)

    def _listen(self, cache: Informer) -> None:
        def changed(old: Object | None, new: Object | None) -> None:
            if new is None:
                if old is not None:
                    self._gone(old)
            else:
                self._seen(cache.resource, old, new)

        cache.on_change(changed)

    def _gone(self, old: Object) -> None:
        """Its dependents may have to follow; an owner that waits for it may go."""
        for cache, dependent in self._dependents(old["metadata"]["uid"]):
            self._add(cache.resource, dependent)
        self._wake_waiting_owners(old)

    def _seen(self, resource: ApiResource, old: Object | None, new: Object) -> None:
        meta = new["metadata"]
        if "deletionTimestamp" in meta and (is_going(new, FOREGROUND) or is_going(new, ORPHAN)):
            self._add(resource, new)
        references = meta.get("ownerReferences")
        if old is not None:
            before = old["metadata"].get("ownerReferences")
            if before != references:
                self._wake_waiting_owners(old)
            elif not (is_going(old, FOREGROUND) and not is_going(new, FOREGROUND)):
                return
        if references and not all(
            self._cached_owner(new, reference) == "solid" for reference in references
        ):
            self._add(resource, new)

    def _wake_waiting_owners(self, obj: Object) -> None:
        for reference in obj["metadata"].get("ownerReferences") or ():
            cache = self._cache_of(reference)
            owner = self._find(cache, obj, reference) if cache is not None else None
            if cache is not None and owner is not None and is_going(owner, FOREGROUND):
                self._add(cache.resource, owner)

    def _add(self, resource: ApiResource, obj: Object) -> None:
        meta = obj["metadata"]
        name = f"{resource.path()}/{meta['name']}"
        self.queue.add(Request(meta.get("namespace", ""), name))

    def _dependents(self, uid: str) -> Iterator[tuple[Informer, Object]]:
        for cache in self.caches.values():
            for obj in cache.by_index(BY_OWNER, uid):
                yield cache, obj

    def _cache_of(self, reference: Object) -> Informer | None:
        """The informer of the owner's resource; None for a kind that is not served."""
        found = self.kinds.get(_kind_of(reference))
        return self.caches.get(found.path()) if found is not None else None

    @staticmethod
    def _find(cache: Informer, obj: Object, reference: Object) -> Object | None:
        """The owner as the cache has it: of this uid, in the object's namespace."""
        namespace = obj["metadata"].get("namespace", "") if cache.resource.namespaced else ""
        found = cache.get(namespace, reference["name"])
        if found is None or found["metadata"].get("uid") != reference["uid"]:
            return None
        return found

    def _cached_owner(self, obj: Object, reference: Object) -> Owner:
        cache = self._cache_of(reference)
        found = self._find(cache, obj, reference) if cache is not None else None
        return "dangling" if found is None else state(found)

    async def reconcile(self, request: Request) -> None:
        path, _, name = request.name.rpartition("/")
        cache = self.caches.get(path)
        obj = cache.get(request.namespace, name) if cache is not None else None
        if cache is None or obj is None:
            self.waiting.pop(request, None)
            return
        if is_going(obj, ORPHAN):
            await self._orphan(cache, obj)
        elif is_going(obj, FOREGROUND):
            await self._delete_dependents(cache, obj)
        elif not obj["metadata"].get("deletionTimestamp"):
            await self._collect(cache, obj)

    async def _orphan(self, cache: Informer, obj: Object) -> None:
        """Unlink all dependents, then let the owner go."""
        uid = obj["metadata"]["uid"]
        await each_or_raise(
            lambda found: self._write(
                found[0], with_owners(found[1], _other_owners(found[1], uid))
            ),
            self._dependents(uid),
        )
        await self._write(cache, without_finalizer(obj, ORPHAN))

    async def _delete_dependents(self, cache: Informer, obj: Object) -> None:
        """Foreground: the owner goes once no dependent holds it up any more."""
        uid = obj["metadata"]["uid"]
        blocking = [item for item in self._dependents(uid) if blocks(item[1], uid)]
        if not blocking:
            await self._write(cache, without_finalizer(obj, FOREGROUND))
            return
        for dependents, item in self._dependents(uid):
            if not is_going(item, FOREGROUND):
                self._add(dependents.resource, item)

    async def _collect(self, cache: Informer, obj: Object) -> None:
        """Delete the object, or drop owners that are gone, if the server agrees."""
        references = obj["metadata"].get("ownerReferences") or ()
        states = {
            reference["uid"]: await self._owner_state(cache, obj, reference)
            for reference in references
        }
        if all(value == "solid" for value in states.values()):
            return
        uid = obj["metadata"]["uid"]
        dependents = [item for _, item in self._dependents(uid)]
        action = plan(
            obj, states, any(is_going(item, FOREGROUND) for item in dependents), len(dependents)
        )
        match action:
            case Nothing():
                return
            case Unlink(kept):
                await self._write(cache, with_owners(obj, kept))
            case Remove(policy, unblocked):
                if unblocked is not None:
                    obj = await self._write(cache, with_owners(obj, unblocked)) or obj
                await self._delete(cache, obj, policy)

    async def _owner_state(self, cache: Informer, obj: Object, reference: Object) -> Owner:
        """From the cache if it is there; else the server is asked, by name and uid."""
        uid = reference["uid"]
        if uid in self.absent:
            return "dangling"
        owner_cache = self._cache_of(reference)
        if owner_cache is None:
            # A kind nobody serves may be one that is not served yet: never a reason to delete.
            self._await_kind(cache, obj, reference)
            return "solid"
        namespace = obj["metadata"].get("namespace", "")
        if owner_cache.resource.namespaced and not namespace:
            text = f"ownerRef {_describe(reference)} does not exist in namespace {namespace!r}"
            self.recorder.event(obj, WARNING, "OwnerRefInvalidNamespace", text.replace("'", '"'))
            return "solid"
        found = self._find(owner_cache, obj, reference)
        if found is None:
            where = namespace if owner_cache.resource.namespaced else ""
            found = await owner_cache.get_live(where, reference["name"])
        if found is None or found["metadata"].get("uid") != uid:
            self.absent[uid] = None
            if len(self.absent) > ABSENT_LENGTH:
                self.absent.popitem(last=False)
            return "dangling"
        return state(found)

    def _await_kind(self, cache: Informer, obj: Object, reference: Object) -> None:
        meta = obj["metadata"]
        name = f"{cache.resource.path()}/{meta['name']}"
        self.waiting[Request(meta.get("namespace", ""), name)] = _kind_of(reference)
        if len(self.waiting) > WAITING_LENGTH:
            self.waiting.popitem(last=False)

    async def _delete(self, cache: Informer, obj: Object, policy: str) -> None:
        meta = obj["metadata"]
        options = {
            "propagationPolicy": policy,
            "preconditions": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]},
        }
        try:
            await self.client.delete(
                cache.resource, meta["name"], meta.get("namespace", ""), options
            )
        except NotFound:
            return

    async def _write(self, cache: Informer, obj: Object) -> Object | None:
        try:
            return await self.client.update(cache.resource, obj)
        except NotFound:
            return None


def state(owner: Object) -> Owner:
    """Of an owner that exists."""
    return "waiting" if is_going(owner, FOREGROUND) else "solid"


def _kind_of(reference: Object) -> tuple[str, str]:
    """Group and kind of an owner reference."""
    return str(reference.get("apiVersion", "")).rpartition("/")[0], str(reference.get("kind"))


def _owner_uids(obj: Object) -> list[str]:
    return [reference["uid"] for reference in obj["metadata"].get("ownerReferences") or ()]


def _other_owners(obj: Object, uid: str) -> list[Object]:
    references = obj["metadata"].get("ownerReferences") or ()
    return [reference for reference in references if reference["uid"] != uid]


def _describe(reference: Object) -> str:
    """A reference as upstream prints it."""
    return (
        f"[{reference.get('apiVersion')}/{reference.get('kind')}, namespace: , "
        f"name: {reference.get('name')}, uid: {reference.get('uid')}]"
    )
