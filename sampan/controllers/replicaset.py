"""ReplicaSets: as many pods as wanted, from one template.

Work per sync is that of the set's own pods (index by owner) plus the orphans that carry the first
label of its selector. Creations go in batches of 1, 2, 4 ... so that a quota stops a burst early.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import repeat

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object

from .replicaset_plan import Failure, Observed, Plan, available_later_s, plan, status_of, wanted
from .runtime import pods as podlib
from .runtime.claim import claim
from .runtime.controller import Context
from .runtime.owners import (
    BY_CONTROLLER,
    add_owner_indexes,
    controller_reference,
    controller_uid,
    owned,
)
from .runtime.podcontroller import PodController
from .runtime.queue import Request, Requeue

# A sync costs some 10 us per pod. A set of 1000 whose pods all change is looked at ten times a
# second, one of 30 is not held up.
PACE_S = 100e-6


class ReplicaSetController(PodController):
    """See the module. ReplicationControllers are the same under an older name: their controller
    says which kind it is, and how its objects look as ReplicaSets."""

    name = "replicaset"
    kind = ("replicasets", "apps")
    component = "replicaset-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        add_owner_indexes(self.owners)

    def may_adopt(self, owner: Object, pod: Object) -> bool:
        return super().may_adopt(self.as_set(owner), pod)

    def as_set(self, found: Object) -> Object:
        """The object as a ReplicaSet has it."""
        return found

    def own_status(self, status: Object) -> Object:
        """A ReplicaSet's status as the object's own."""
        return status

    async def reconcile(self, request: Request) -> Requeue | None:
        known = self.owners.get(*request)
        if known is None:
            self.forget(request)
            return None
        found = self.as_set(known)
        # Before the pods are read: what is seen only while this waits would be made twice.
        waiting_s = self.expectations.outstanding_s(request)
        mine = await claim(self.pods, self.owners, found, podlib.is_active)
        active = [pod for pod in mine if podlib.is_active(pod)]
        terminating = sum(
            podlib.is_terminating(pod) and not podlib.is_finished(pod) for pod in mine
        )
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
        await self.report(known, self.own_status(status_of(observed, failure, self.clock.now())))
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
            for sibling in self.owners.by_index(BY_CONTROLLER, uid):
                if sibling["metadata"]["uid"] != found["metadata"]["uid"]:
                    counted += [pod for pod in owned(self.pods, sibling) if podlib.is_active(pod)]
        return Counter((pod.get("spec") or {}).get("nodeName") or "" for pod in counted)

    async def _apply(
        self, request: Request, found: Object, todo: Plan
    ) -> tuple[Failure | None, Exception | None]:
        if todo.create:
            bodies = repeat(new_pod(self.resource, found))
            _, error = await self.create_pods(request, found, bodies, todo.create)
            return (Failure("Create", str(error)) if error else None), error
        if todo.delete:
            self.expect_deletions(request, todo.delete)
            _, error = await self.delete_pods(request, found, todo.delete)
            return (Failure("Delete", str(error)) if error else None), error
        return None, None


def new_pod(resource: Descriptor, found: Object) -> Object:
    """A pod from the template of a set."""
    template = found["spec"]["template"]
    meta = template.get("metadata") or {}
    kept = {key: meta[key] for key in ("labels", "annotations", "finalizers") if meta.get(key)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **kept,
            "generateName": f"{found['metadata']['name']}-",
            "namespace": found["metadata"]["namespace"],
            "ownerReferences": [controller_reference(resource, found)],
        },
        "spec": template["spec"],
    }
