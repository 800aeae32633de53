"""ReplicaSets: as many pods as wanted, from one template.

Work per sync is that of the set's own pods (index by owner) plus the orphans that carry the first
label of its selector. Creations go in batches of 1, 2, 4 ... so that a quota stops a burst early.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import ClassVar

from sampan.api.errors import NotFound, Object, StatusError, is_namespace_terminating
from sampan.api.resources import resource
from sampan.client.events import NORMAL, WARNING

from .replicaset_plan import Failure, Observed, Plan, available_later_s, plan, status_of, wanted
from .runtime import pods as podlib
from .runtime.claim import claim
from .runtime.controller import Context, Controller
from .runtime.expectations import Expectations
from .runtime.owners import (
    BY_CONTROLLER,
    add_owner_indexes,
    controller_of,
    controller_reference,
    controller_uid,
    owned,
    refers_to,
)
from .runtime.parallel import each, slow_start
from .runtime.queue import Request, Requeue
from .runtime.selection import selects

# A sync costs some 10 us per pod. A set of 1000 whose pods all change is looked at ten times a
# second, one of 30 is not held up.
PACE_S = 100e-6


class ReplicaSetController(Controller):
    """See the module. ReplicationControllers are the same under an older name: their controller
    says which kind it is, and how its objects look as ReplicaSets."""

    name = "replicaset"
    kind: ClassVar[tuple[str, str]] = ("replicasets", "apps")
    component: ClassVar[str] = "replicaset-controller"
    """Of its events."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource(*self.kind)
        self.pod_resource = resource("pods")
        self.expectations = Expectations(context.clock)
        self.recorder = context.recorder(self.component)
        self.pods = self.informer(self.pod_resource)
        self.sets = self.informer(self.resource)
        add_owner_indexes(self.pods)
        add_owner_indexes(self.sets)
        self.sets.on_change(self._set_changed)
        self.pods.on_change(self._pod_changed)

    def _set_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None:
            meta = old["metadata"]
            self.expectations.forget(Request(meta["namespace"], meta["name"]))
        self.add_changed(old, new)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        """Wake the set a pod belongs to, and note what was expected."""
        pod = new if new is not None else old
        if pod is None:
            return
        owner = self._owner(pod)
        if old is not None and new is not None:
            before = self._owner(old)
            if before is not None and before != owner:
                self.queue.add(before)
        if owner is None:
            if new is not None and not controller_uid(pod):
                self._wake_adopters(pod)
            return
        if old is None:
            self.expectations.created(owner)
        if new is None or podlib.is_terminating(new):
            self.expectations.deleted(owner, pod["metadata"]["uid"])
        self.queue.add(owner)

    def _owner(self, pod: Object) -> Request | None:
        reference = controller_of(pod)
        if reference is None or not refers_to(reference, self.resource):
            return None
        return Request(pod["metadata"]["namespace"], reference["name"])

    def _wake_adopters(self, pod: Object) -> None:
        meta = pod["metadata"]
        for found in self.sets.list(meta["namespace"]):
            if selects(self.as_set(found)["spec"].get("selector"), meta.get("labels")):
                self.add(found)

    def as_set(self, found: Object) -> Object:
        """The object as a ReplicaSet has it."""
        return found

    def own_status(self, status: Object) -> Object:
        """A ReplicaSet's status as the object's own."""
        return status

    async def reconcile(self, request: Request) -> Requeue | None:
        known = self.sets.get(*request)
        if known is None:
            self.expectations.forget(request)
            return None
        found = self.as_set(known)
        mine = await claim(self.pods, self.sets, found, podlib.is_active)
        active = [pod for pod in mine if podlib.is_active(pod)]
        terminating = sum(
            podlib.is_terminating(pod) and not podlib.is_finished(pod) for pod in mine
        )
        waiting_s = self.expectations.outstanding_s(request)
        failure: Failure | None = None
        error: Exception | None = None
        if not waiting_s:
            surplus = len(active) > wanted(found)
            per_node = self._per_node(found, active) if surplus else None
            todo = plan(Observed(found, active, 0, per_node), self.clock.now())
            failure, error = await self._apply(request, found, todo)
            if error is None and (todo.create or todo.delete):
                # Each pod's event brings us back here, with the status of all of them.
                return None
        self.queue.rest(request, PACE_S * len(mine))
        observed = Observed(found, active, terminating)
        await self._report(known, self.own_status(status_of(observed, failure, self.clock.now())))
        if error is not None:
            raise error
        later = available_later_s(observed, self.clock.now())
        waits = [wait for wait in (later, waiting_s) if wait]
        return Requeue(min(waits)) if waits else None

    def _per_node(self, found: Object, active: Iterable[Object]) -> Counter[str]:
        """Active pods by node, of this set and its siblings under the same owner."""
        uid = controller_uid(found)
        counted = [*active]
        if uid:
            for sibling in self.sets.by_index(BY_CONTROLLER, uid):
                if sibling["metadata"]["uid"] != found["metadata"]["uid"]:
                    counted += [pod for pod in owned(self.pods, sibling) if podlib.is_active(pod)]
        return Counter((pod.get("spec") or {}).get("nodeName") or "" for pod in counted)

    async def _apply(
        self, request: Request, found: Object, todo: Plan
    ) -> tuple[Failure | None, Exception | None]:
        if todo.create:
            self.expectations.expect_creations(request, todo.create)
            done, error = await slow_start(todo.create, lambda: self._create(found))
            self.expectations.created(request, todo.create - done)
            if isinstance(error, StatusError) and is_namespace_terminating(error):
                return None, None
            return (Failure("Create", str(error)) if error else None), error
        if todo.delete:
            uids = {pod["metadata"]["uid"] for pod in todo.delete}
            self.expectations.expect_deletions(request, uids)
            results = await each(lambda pod: self._delete(request, found, pod), todo.delete)
            failed = next((item for item in results if isinstance(item, Exception)), None)
            return (Failure("Delete", str(failed)) if failed else None), failed
        return None, None

    async def _create(self, found: Object) -> None:
        """One pod from the template. Raises what the client raises, having told of it."""
        template = found["spec"]["template"]
        meta = template.get("metadata") or {}
        namespace = found["metadata"]["namespace"]
        kept = {key: meta[key] for key in ("labels", "annotations", "finalizers") if meta.get(key)}
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **kept,
                "generateName": f"{found['metadata']['name']}-",
                "namespace": namespace,
                "ownerReferences": [controller_reference(self.resource, found)],
            },
            "spec": template["spec"],
        }
        try:
            pod = await self.client.create(self.pod_resource, body, namespace)
        except StatusError as error:
            if not is_namespace_terminating(error):
                self.recorder.event(found, WARNING, "FailedCreate", f"Error creating: {error}")
            raise
        name = pod["metadata"]["name"]
        self.recorder.event(found, NORMAL, "SuccessfulCreate", f"Created pod: {name}")

    async def _delete(self, request: Request, found: Object, pod: Object) -> Exception | None:
        meta = pod["metadata"]
        options = {"preconditions": {"uid": meta["uid"]}}
        try:
            await self.client.delete(self.pod_resource, meta["name"], meta["namespace"], options)
        except (StatusError, OSError) as error:
            self.expectations.deleted(request, meta["uid"])
            if isinstance(error, NotFound):
                return None
            self.recorder.event(found, WARNING, "FailedDelete", f"Error deleting: {error}")
            return error
        name = meta["name"]
        self.recorder.event(found, NORMAL, "SuccessfulDelete", f"Deleted pod: {name}")
        return None

    async def _report(self, found: Object, status: Object) -> None:
        if status == found.get("status"):
            return
        try:
            await self.client.update(self.resource, {**found, "status": status}, "status")
        except NotFound:
            return
