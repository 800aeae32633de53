"""StatefulSets: pods with names, places and claims of their own that they keep.

`statefulset_plan` decides; this carries it out. Work per sync is that of the set's own pods,
claims and revisions, by index, plus orphans its selector takes. No pod is made while another of
its name is there, for the server has one object per name: there are never two of one identity.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from sampan.api.errors import Object, StatusError, is_namespace_terminating
from sampan.api.resources import resource

from . import statefulset_metrics as metrics
from .runtime import history
from .runtime import pods as podlib
from .runtime.claim import claim
from .runtime.controller import Context
from .runtime.owners import add_owner_indexes
from .runtime.podbackoff import PodBackoff
from .runtime.podcontroller import PodController
from .runtime.queue import Request, Requeue
from .statefulset_plan import (
    Create,
    Plan,
    Remove,
    Step,
    Work,
    plan,
)
from .statefulset_pods import claim_names, ordinal, revision_of, start, wanted
from .statefulset_status import Observed
from .statefulset_steps import Steps, in_order_or_parallel

# A sync costs some 8 us per pod: a set of 1000 is looked at fifty times a second at most, and
# below 500 none is held up, for ordered ones go forward by syncs.
PACE_S = 20e-6
# A pod that fails at once (its node refuses it) is made again after 1 s, 2 s, ... at most this.
# Upstream does so at once, for ever.
FAILED_CAP_S = 60.0
COLLISIONS = 16
"""Names tried for one revision before the sync is given up: each has another hash."""


class StatefulSetController(PodController):
    """See the module."""

    name = "statefulset"
    kind = ("statefulsets", "apps")
    component = "statefulset-controller"
    waits_for_names = True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.steps = Steps(context.client, self.recorder)
        self.gauges = metrics.Gauges()
        self.backoffs: dict[Request, PodBackoff] = {}
        self.claims = self.informer(resource("persistentvolumeclaims"))
        self.revisions = self.informer(history.revisions_resource())
        add_owner_indexes(self.revisions)
        self.claims.on_change(self._claim_changed)

    def exposition(self) -> str:
        return self.gauges.exposition()

    def forget(self, request: Request) -> None:
        super().forget(request)
        self.gauges.forget(*request)
        self.backoffs.pop(request, None)

    def may_adopt(self, owner: Object, pod: Object) -> bool:
        return ordinal(owner, pod) >= 0 and super().may_adopt(owner, pod)

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        """A set that waits for a claim to go makes it anew."""
        if new is not None or old is None:
            return
        meta = old["metadata"]
        for found in self.owners.list(meta["namespace"]):
            if f"-{found['metadata']['name']}-" in meta["name"]:
                self.add(found)

    async def reconcile(self, request: Request) -> Requeue | None:
        owner = self.owners.get(*request)
        if owner is None:
            self.forget(request)
            return None
        # Before the pods are read: what is seen only while this waits would be done twice.
        waiting_s = self.expectations.outstanding_s(request)
        pods = await claim(self.pods, self.owners, owner, lambda pod: ordinal(owner, pod) >= 0)
        members = [pod for pod in pods if ordinal(owner, pod) >= 0]
        observed, revisions = await self._observe(request, owner, members)
        now_s = self.clock.now()
        backoff = self._backoff(request, owner, members)
        observed = replace(observed, wait_s=lambda pod: backoff.wait_s(pod, now_s))
        todo = plan(observed, now_s)
        error = None
        if not waiting_s:
            error = await self._apply(request, owner, todo)
            for step in todo.steps():
                if isinstance(step, Remove) and podlib.is_finished(step.pod):
                    backoff.deleted(step.pod["metadata"]["name"], now_s)
        self._measure(request, owner, todo)
        await self.report(owner, todo.status)
        if error is not None:
            raise error
        await self._truncate(owner, members, revisions, todo.status)
        self.queue.rest(request, PACE_S * len(members))
        waits = [wait for wait in (todo.again_s, waiting_s) if wait]
        return Requeue(min(waits)) if waits else None

    def _backoff(self, request: Request, owner: Object, pods: Sequence[Object]) -> PodBackoff:
        known = self.backoffs.setdefault(request, PodBackoff(FAILED_CAP_S))

        def places() -> set[str]:
            first, name = start(owner), owner["metadata"]["name"]
            out = {f"{name}-{place}" for place in range(first, first + wanted(owner))}
            return out | {pod["metadata"]["name"] for pod in pods}

        known.keep(places, int(owner["metadata"].get("generation") or 0))
        return known

    async def _observe(
        self, request: Request, owner: Object, pods: Sequence[Object]
    ) -> tuple[Observed, list[Object]]:
        """What the plan looks at, the present template's revision among it; and all revisions."""
        revisions = history.in_order(await claim(self.revisions, self.owners, owner))
        status = owner.get("status") or {}
        collisions = int(status.get("collisionCount") or 0)
        if owner["metadata"].get("deletionTimestamp"):
            update = revisions[-1] if revisions else _no_revision(status)
        else:
            update, collisions = await self._update_revision(owner, revisions, collisions)
        name = status.get("currentRevision")
        current = next((item for item in revisions if item["metadata"]["name"] == name), update)
        return Observed(owner, pods, self._claims_of(owner, pods), current, update, collisions), [
            *revisions
        ]

    async def _update_revision(
        self, owner: Object, revisions: list[Object], collisions: int
    ) -> tuple[Object, int]:
        """The present template's revision, found, made the newest again, or made; and how many
        names were taken by other templates."""
        template = owner["spec"]["template"]
        data = history.template_data(template)
        equal = history.newest_equal(revisions, data)
        if equal is not None:
            if equal is revisions[-1]:
                return equal, collisions
            newest = await history.renumber(self.client, equal, history.next_number(revisions))
            return newest, collisions
        labels = (template.get("metadata") or {}).get("labels") or {}
        for _ in range(COLLISIONS):
            body = history.new_revision(self.resource, owner, data, labels, collisions)
            body["revision"] = history.next_number(revisions)
            made = await history.create(self.client, body)
            if made is not None:
                return made, collisions
            collisions += 1
        raise OSError(f"{COLLISIONS} hashes of a revision are taken")

    def _claims_of(self, owner: Object, pods: Sequence[Object]) -> dict[str, Object]:
        if not owner["spec"].get("volumeClaimTemplates"):
            return {}
        first, namespace = start(owner), owner["metadata"]["namespace"]
        places = {*range(first, first + wanted(owner)), *(ordinal(owner, pod) for pod in pods)}
        names = (name for place in places for _, name in claim_names(owner, place))
        found = ((name, self.claims.get(namespace, name)) for name in names)
        return {name: item for name, item in found if item is not None}

    async def _apply(self, request: Request, owner: Object, todo: Plan) -> Exception | None:
        """Carry the plan out as far as it goes; the first error ends it."""
        creations = todo.count(Create)
        if creations:
            self.expectations.expect_creations(request, creations)
        doomed = [step.pod for step in todo.steps() if isinstance(step, Remove)]
        if doomed:
            self.expect_deletions(request, doomed)
        made: list[Step] = []

        async def do(work: Work) -> None:
            for step in work:
                if await self.steps.take(owner, step):
                    made.append(step)

        error: Exception | None = None
        for stage in todo.stages:
            error = await in_order_or_parallel(stage, do, parallel=todo.parallel)
            if error is not None:
                break
        self.note(request, error)
        done = {id(step) for step in made}
        for step in todo.steps():
            if isinstance(step, Create) and id(step) not in done:
                self.expectations.created(request)
            elif isinstance(step, Remove) and id(step) not in done:
                self.expectations.deleted(request, step.pod["metadata"]["uid"])
        if isinstance(error, StatusError) and is_namespace_terminating(error):
            return None
        return error

    def _measure(self, request: Request, owner: Object, todo: Plan) -> None:
        policy = owner["spec"].get("podManagementPolicy") or ""
        self.gauges.set(*request, policy, todo.limit, todo.unavailable)

    async def _truncate(
        self, owner: Object, pods: Sequence[Object], revisions: list[Object], status: Object
    ) -> None:
        """Drop revisions beyond the limit that neither the set nor a pod has."""
        limit = owner["spec"].get("revisionHistoryLimit")
        before = owner.get("status") or {}
        live = {status["updateRevision"], status["currentRevision"], *map(revision_of, pods)}
        live.add(before.get("currentRevision") or "")
        doomed = history.surplus(revisions, live, 10 if limit is None else limit, live_counts=False)
        for item in doomed:
            await history.remove(self.client, item)


def _no_revision(status: Object) -> Object:
    """Of a set whose revisions are gone already: names are all that is asked for."""
    return {"metadata": {"name": status.get("updateRevision") or ""}}
