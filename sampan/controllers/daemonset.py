"""DaemonSets: one pod on each node that fits.

`daemonset_plan` decides; this carries it out. Work per sync is that of the nodes and of the set's
own pods and revisions. A node's change wakes the sets for which it now fits otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

from sampan.api.errors import Object, conflict
from sampan.api.resources import resource
from sampan.client.events import NORMAL, WARNING

from .daemonset_nodes import fits, new_pod
from .daemonset_plan import (
    Observed,
    Plan,
    available_later_s,
    plan,
    status_of,
    survey,
)
from .runtime import history
from .runtime.claim import claim
from .runtime.controller import Context
from .runtime.owners import add_owner_indexes
from .runtime.podbackoff import PodBackoff
from .runtime.podcontroller import PodController
from .runtime.queue import Request, Requeue

# A sync costs some 20 us per node: on 1000 nodes a set is looked at ten times a second at most.
PACE_S = 100e-6


class DaemonSetController(PodController):
    """See the module."""

    name = "daemonset"
    kind = ("daemonsets", "apps")
    component = "daemonset-controller"
    workers = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.backoffs: dict[Request, PodBackoff] = {}
        self.nodes = self.informer(resource("nodes"))
        self.revisions = self.informer(history.revisions_resource())
        add_owner_indexes(self.revisions)
        self.nodes.on_change(self._node_changed)

    def forget(self, request: Request) -> None:
        super().forget(request)
        self.backoffs.pop(request, None)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        """Heartbeats change nothing here: labels and taints do, and that a node comes or goes."""
        if old is not None and new is not None and _essence(old) == _essence(new):
            return
        for found in self.owners.list():
            fit = fits(found)
            before, after = (None if node is None else fit(node) for node in (old, new))
            if before != after:
                self.add(found)

    async def reconcile(self, request: Request) -> Requeue | None:
        owner = self.owners.get(*request)
        if owner is None:
            self.forget(request)
            return None
        if owner["metadata"].get("deletionTimestamp"):
            # Its revisions may be gone already: nothing that would be reported is true any more.
            return None
        # Before the pods are read: what is seen only while this waits would be made twice.
        waiting_s = self.expectations.outstanding_s(request)
        pods = await claim(self.pods, self.owners, owner)
        revisions = history.in_order(await claim(self.revisions, self.owners, owner))
        current = await self._current(owner, revisions, pods)
        now_s = self.clock.now()
        backoff = self._backoff(request, owner)
        digest = _digest(current)
        nodes = self.nodes.list()
        observed = Observed(owner, nodes, pods, digest, lambda node: backoff.wait_s(node, now_s))
        found = survey(observed, now_s)
        todo = Plan() if waiting_s else plan(found)
        error = await self._apply(request, owner, digest, todo)
        for item in todo.ended:
            if item.is_failed:
                backoff.deleted(item.node, now_s)
        if error is not None:
            raise error
        await self._truncate(owner, pods, revisions, current)
        await self.report(owner, status_of(found, acted=not waiting_s))
        self.queue.rest(request, PACE_S * max(len(nodes), len(pods)))
        waits = [wait for wait in (available_later_s(found), todo.again_s, waiting_s) if wait]
        return Requeue(min(waits)) if waits else None

    def _backoff(self, request: Request, owner: Object) -> PodBackoff:
        known = self.backoffs.setdefault(request, PodBackoff())
        generation = int(owner["metadata"].get("generation") or 0)
        known.keep(lambda: {node["metadata"]["name"] for node in self.nodes.list()}, generation)
        return known

    async def _current(
        self, owner: Object, revisions: Sequence[Object], pods: Sequence[Object]
    ) -> Object:
        """The present template's revision: found, made the newest again, or made."""
        template = owner["spec"]["template"]
        data = history.template_data(template)
        equal = [item for item in revisions if history.same_data(item, data)]
        others = [item for item in revisions if not history.same_data(item, data)]
        number = history.next_number(others)
        if not equal:
            return await self._snapshot(owner, data, number)
        current = equal[-1]
        await self._join(current, equal[:-1], pods)
        if history.number(current) < number:
            return await history.renumber(self.client, current, number)
        return current

    async def _join(
        self, current: Object, doubles: Sequence[Object], pods: Sequence[Object]
    ) -> None:
        """Of several revisions with one template, the newest stays and has their pods."""
        digest = _digest(current)
        for item in doubles:
            other = _digest(item)
            for pod in pods:
                meta = pod["metadata"]
                if meta["labels"].get(history.REVISION_LABEL) == other:
                    labels = {**meta["labels"], history.REVISION_LABEL: digest}
                    body = {**pod, "metadata": {**meta, "labels": labels}}
                    await self.client.update(self.pod_resource, body)
            await history.remove(self.client, item)

    async def _snapshot(self, owner: Object, data: Object, number: int) -> Object:
        """Make the revision; if another template has its name, say so in the status: the hash of
        the next sync has one collision more in it."""
        status = owner.get("status") or {}
        collisions = int(status.get("collisionCount") or 0)
        labels = (owner["spec"]["template"].get("metadata") or {}).get("labels") or {}
        body = history.new_revision(self.resource, owner, data, labels, collisions)
        digest = body["metadata"]["labels"].pop(history.HASH_LABEL)
        body["metadata"]["labels"][history.REVISION_LABEL] = digest
        body["revision"] = number
        made = await history.create(self.client, body)
        if made is None:
            counted = {**status, "collisionCount": collisions + 1}
            await self.client.update(self.resource, {**owner, "status": counted}, "status")
            name = body["metadata"]["name"]
            text = "another template has the same hash"
            raise conflict("apps", "controllerrevisions", name, text)
        return made

    async def _apply(
        self, request: Request, owner: Object, digest: str, todo: Plan
    ) -> Exception | None:
        """Create and delete; the first error of either."""
        if not todo.create and not todo.delete:
            return None
        for item in todo.ended:
            self._tell_ended(owner, item.pod, item.node, failed=item.is_failed)
        # Before the creations, which wait: a deletion seen meanwhile is not waited for.
        self.expect_deletions(request, todo.delete)
        bodies = (new_pod(self.resource, owner, digest, node) for node in todo.create)
        _, error = await self.create_pods(request, owner, bodies, len(todo.create))
        _, failed = await self.delete_pods(request, owner, todo.delete)
        return error or failed

    def _tell_ended(self, owner: Object, pod: Object, node: str, *, failed: bool) -> None:
        meta = pod["metadata"]
        word, kind = ("failed", WARNING) if failed else ("succeeded", NORMAL)
        what = "try to kill it" if failed else "try to delete it"
        text = f"Found {word} daemon pod {meta['namespace']}/{meta['name']} on node {node}"
        self.recorder.event(owner, kind, f"{word.title()}DaemonPod", f"{text}, will {what}")

    async def _truncate(
        self,
        owner: Object,
        pods: Sequence[Object],
        revisions: Sequence[Object],
        current: Object,
    ) -> None:
        """Drop old revisions beyond the limit that no pod has."""
        limit = owner["spec"].get("revisionHistoryLimit")
        name = current["metadata"]["name"]
        old = [item for item in revisions if item["metadata"]["name"] != name]
        label = history.REVISION_LABEL
        hashes = {(pod["metadata"].get("labels") or {}).get(label) for pod in pods}
        live = [item["metadata"]["name"] for item in old if _digest(item) in hashes]
        doomed = history.surplus(old, live, 10 if limit is None else limit, live_counts=True)
        for item in doomed:
            await history.remove(self.client, item)


def _digest(revision: Object) -> str:
    """What pods made from a revision carry; its name, if another kind of controller made it."""
    meta = revision["metadata"]
    return str((meta.get("labels") or {}).get(history.REVISION_LABEL) or meta["name"])


def _essence(node: Object) -> tuple[object, object]:
    """What of a node can change where daemons run."""
    return node["metadata"].get("labels"), (node.get("spec") or {}).get("taints")
