"""The resource quota controller: keeps status.used of every quota true.

Admission charges a quota before the object is stored; this controller gives back what deleted
objects and finished pods used, counts for what is newly limited, and finds drift. It counts anew
only when the quota has been left alone for `SETTLE_S`: a count made while a charged object is on
its way to the store would take the charge back, and let the quota be exceeded. What is given back
is exact at any time, since it is subtracted.

Memory: what was released and not yet written, per quota. Objects are those of the shared informers.
"""

from __future__ import annotations

from collections.abc import Iterator

from sampan.api.descriptor import Descriptor
from sampan.api.errors import NotFound, Object
from sampan.api.quota import pods
from sampan.api.quota.amounts import Amounts, add, changed, mask, subtract
from sampan.api.quota.evaluators import Evaluator, evaluator_of
from sampan.api.resources import resource
from sampan.client.informer import Informer

from .resourcequota_plan import concerns, plan, recount, unknown
from .runtime.collections import deletable, is_cached
from .runtime.controller import Context, Controller
from .runtime.custom import FILL_S, definitions_resource, follow_custom
from .runtime.queue import Request, Requeue

SETTLE_S = 10.0
"""From a charge to its object in the store it takes milliseconds; no request lives so long behind
its admission."""
RESYNC_S = 300.0
"""Between counts of a quota nothing happens to, as upstream."""


class ResourceQuotaController(Controller):
    """A request is a quota."""

    name = "resourcequota_primary"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("resourcequotas")
        self.quotas = self.informer(self.resource)
        self._released: dict[Request, Amounts] = {}
        self._changed_s: dict[Request, float] = {}
        """When each quota was last seen to change."""
        self._counted: list[tuple[Evaluator, Informer]] = []
        for item in deletable():
            evaluator = evaluator_of(item.group, item.plural) if _is_counted(item) else None
            if evaluator is not None:
                self._listen(evaluator, self.informer(item))
        follow_custom(self.informer(definitions_resource()), self._serve, self._forget)
        self.quotas.on_change(self._quota_changed)

    def _serve(self, item: Descriptor) -> None:
        """A custom resource appears: quotas may count its objects."""
        evaluator = evaluator_of(item.group, item.plural) if item.namespaced else None
        if evaluator is not None:
            self._listen(evaluator, self.context.informers.informer(item))

    def _forget(self, item: Descriptor) -> None:
        self._counted = [known for known in self._counted if known[1].resource != item]

    def _listen(self, evaluator: Evaluator, cache: Informer) -> None:
        self._counted.append((evaluator, cache))

        def on_change(old: Object | None, new: Object | None) -> None:
            if old is None or not self.quotas.holds(old["metadata"]["namespace"]):
                return
            if new is None:
                self._release(evaluator, old, None)
            elif evaluator.plural == "pods" and _finished(old, new):
                self._release(evaluator, old, new)

        cache.on_change(on_change)

    def _release(self, evaluator: Evaluator, old: Object, new: Object | None) -> None:
        """Give back what an object used that is gone, or is over."""
        now_s = self.clock.now()
        used = evaluator.usage(old, now_s)
        if new is not None:
            used = subtract(used, evaluator.usage(new, now_s))
        for quota in self.quotas.list(old["metadata"]["namespace"]):
            if not concerns(evaluator, quota, old):
                continue
            wanted = changed(mask(used, (quota.get("spec") or {}).get("hard") or {}))
            if wanted:
                request = _request(quota)
                self._released[request] = add(self._released.get(request, {}), wanted)
                self.queue.add(request)

    def _quota_changed(self, old: Object | None, new: Object | None) -> None:
        obj = new if new is not None else old
        assert obj is not None
        request = _request(obj)
        if new is None:
            self._released.pop(request, None)
            self._changed_s.pop(request, None)
        else:
            self._changed_s[request] = self.clock.monotonic()
            if old is not None and old.get("spec") == new.get("spec"):
                # A charge, or this controller itself.
                self.queue.add_after(request, SETTLE_S)
                return
        self.queue.add(request)

    async def reconcile(self, request: Request) -> Requeue | None:
        try:
            quota = await self.client.get(self.resource, request.name, request.namespace)
        except NotFound:
            return None
        quiet_s = self.clock.monotonic() - self._changed_s.get(request, 0.0)
        settled = quiet_s >= SETTLE_S
        released = self._released.pop(request, {})
        names = set((quota.get("spec") or {}).get("hard") or ()) if settled else unknown(quota)
        late = self._uncountable(names)
        names -= late
        made = plan(quota, released, mask(self._count(quota), names) if names else {})
        if made is not None:
            body = {**quota, "status": {"hard": made.hard, "used": made.used}}
            try:
                await self.client.update(self.resource, body, "status")
            except BaseException:
                # Not written, so not given back yet; a conflict is tried again at once.
                self._put_back(request, released)
                raise
        if late:
            return Requeue(FILL_S)
        # Changes come back at once; what a pod uses that should be gone by now changes with time.
        return Requeue(RESYNC_S if settled else max(SETTLE_S - quiet_s, 0.1))

    def _put_back(self, request: Request, released: Amounts) -> None:
        if released and self.quotas.get(*request) is not None:
            self._released[request] = add(self._released.get(request, {}), released)

    def _uncountable(self, names: set[str]) -> set[str]:
        """Those whose objects have not all been seen yet."""
        return {
            name
            for evaluator, cache in self._counted
            if not cache.has_synced
            for name in evaluator.matching(names)
        }

    def _count(self, quota: Object) -> Amounts:
        namespace = quota["metadata"]["namespace"]
        return recount(quota, self._objects(namespace), self.clock.now())

    def _objects(self, namespace: str) -> Iterator[tuple[Evaluator, list[Object]]]:
        for evaluator, cache in self._counted:
            if cache.holds(namespace):
                yield evaluator, cache.list(namespace)


def _request(obj: Object) -> Request:
    return Request(obj["metadata"]["namespace"], obj["metadata"]["name"])


def _is_counted(item: Descriptor) -> bool:
    return item.namespaced and is_cached(item)


def _finished(old: Object, new: Object) -> bool:
    """Did the pod come to its end?"""
    over = (new.get("status") or {}).get("phase") in pods.FINISHED
    return over and (old.get("status") or {}).get("phase") not in pods.FINISHED
