"""Namespaces that are going: everything in them is deleted, pods first (KEP-5080), then the rest;
when nothing is left the namespace itself.

Nothing is polled: each deletion in such a namespace wakes its sync again, a tenth of a second
later while there is more to come (so that a hundred deletions are one look), at once when the
cache shows the last one gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from sampan.api.descriptor import Descriptor
from sampan.api.errors import NotFound, Object, StatusError
from sampan.api.resources import resource
from sampan.client.informer import Informer

from .namespace_plan import Remaining, status_of
from .runtime.collections import deletable, is_cached
from .runtime.controller import Context, Controller
from .runtime.custom import definitions_resource, follow_custom
from .runtime.queue import Request, Requeue
from .runtime.status import write_status

FINALIZER = "kubernetes"
GATHER_S = 0.1


class NamespaceController(Controller):
    """See the module."""

    name = "namespace"
    workers = 10

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("namespaces")
        self.pod_resource = resource("pods")
        self.namespaces = self.informer(self.resource)
        self.pods = self.informer(self.pod_resource)
        self.going: dict[str, bool] = {}
        """Namespaces that are terminating; True once their pods were gone."""
        self.contents: dict[Descriptor, Informer | None] = {}
        for item in deletable():
            if item.namespaced:
                self.contents[item] = self.informer(item) if is_cached(item) else None
        follow_custom(self.informer(definitions_resource()), self._serve, self._forget)
        self.namespaces.on_change(self._namespace_changed)
        for informer in self.contents.values():
            if informer is not None:
                informer.on_change(self._content_changed)

    def _serve(self, item: Descriptor) -> None:
        """A custom resource appears: its objects go with their namespace, too."""
        if item.namespaced:
            informer = self.contents[item] = self.context.informers.informer(item)
            informer.on_change(self._content_changed)

    def _forget(self, item: Descriptor) -> None:
        if self.contents.pop(item, None) is not None:
            self.context.informers.stop(item)
            # What was left of it is no longer in the way.
            for namespace in self.going:
                self.queue.add(Request("", namespace))

    def _namespace_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            if old is not None:
                self.going.pop(old["metadata"]["name"], None)
        elif new["metadata"].get("deletionTimestamp"):
            self.going.setdefault(new["metadata"]["name"], False)
            self.add(new)

    def _content_changed(self, old: Object | None, new: Object | None) -> None:
        """Something in a namespace is gone, or has fewer finalizers."""
        if old is None:
            return
        if new is not None and _finalizers(old) == _finalizers(new):
            return
        namespace = old["metadata"]["namespace"]
        if namespace not in self.going:
            return
        request = Request("", namespace)
        if self._more_to_come(namespace):
            self.queue.add_after(request, GATHER_S)
        else:
            self.queue.add(request)

    def _more_to_come(self, namespace: str) -> bool:
        """Are there pods left? Once they were gone: is there anything else?"""
        if self.pods.holds(namespace):
            return True
        return self.going[namespace] and any(
            informer is not None and informer.holds(namespace)
            for informer in self.contents.values()
        )

    async def reconcile(self, request: Request) -> Requeue | None:
        found = self.namespaces.get("", request.name)
        if found is None or not found["metadata"].get("deletionTimestamp"):
            return None
        if FINALIZER not in ((found.get("spec") or {}).get("finalizers") or ()):
            # Ours is done; whoever holds metadata.finalizers goes on.
            return None
        remaining = Remaining()
        await self._clear(request.name, [self.pod_resource], remaining)
        if not remaining.resources and not remaining.errors:
            if request.name in self.going:
                # It may have gone while we looked.
                self.going[request.name] = True
            others = [item for item in self.contents if item != self.pod_resource]
            await self._clear(request.name, others, remaining)
        found = await self._report(found, remaining)
        if found is None:
            return None
        if remaining.errors:
            raise StatusError("; ".join(remaining.errors))
        if not remaining.resources:
            await self._finalize(found)
        return None

    async def _clear(
        self, namespace: str, resources: Iterable[Descriptor], remaining: Remaining
    ) -> None:
        """Delete all objects of these resources, all at once, and count what is left.

        While the cache shows something it is believed, so that a look costs no list of thousands
        of objects; that nothing is left is only ever the server's word.
        """
        await asyncio.gather(*(self._clear_one(namespace, item, remaining) for item in resources))

    async def _clear_one(self, namespace: str, item: Descriptor, remaining: Remaining) -> None:
        try:
            left = await self._left(namespace, item)
            if any(not obj["metadata"].get("deletionTimestamp") for obj in left):
                await self._delete_all(namespace, item, left)
                left = await self._left(namespace, item)
        except NotFound:
            return
        except StatusError as error:
            remaining.errors.append(str(error))
            return
        remaining.count(f"{item.plural}.{item.group}", left)

    async def _left(self, namespace: str, item: Descriptor) -> list[Object]:
        """What is there: by the cache, and by the server where the cache shows nothing."""
        informer = self.contents.get(item)
        cached = informer.list(namespace) if informer is not None else []
        if cached:
            return cached
        answer = await self.client.list(item, namespace)
        found: list[Object] = answer.get("items") or []
        return found

    async def _delete_all(self, namespace: str, item: Descriptor, left: Iterable[Object]) -> None:
        if "deletecollection" in item.verbs:
            await self.client.delete_collection(item, namespace)
            return
        for obj in left:
            try:
                await self.client.delete(item, obj["metadata"]["name"], namespace)
            except NotFound:
                continue

    async def _report(self, found: Object, remaining: Remaining) -> Object | None:
        """Write the conditions; the namespace as it is now, None if it is gone."""
        status = status_of(found, remaining, self.clock.now())
        return await write_status(self.client, self.resource, found, status)

    async def _finalize(self, found: Object) -> None:
        kept = [item for item in found["spec"].get("finalizers") or () if item != FINALIZER]
        body = {**found, "spec": {**found["spec"], "finalizers": kept}}
        try:
            await self.client.update(self.resource, body, "finalize")
        except NotFound:
            return


def _finalizers(obj: Object) -> list[str]:
    found: list[str] = obj["metadata"].get("finalizers") or []
    return found
