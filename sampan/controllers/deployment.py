"""Deployments: rollouts of pod templates, through one ReplicaSet per template.

`deployment_plan` decides; this carries it out. A rollout advances by the ReplicaSets' own
changes; only a progress deadline is waited for by the clock.
"""

from __future__ import annotations

from sampan.api.errors import AlreadyExists, NotFound, Object, StatusError, conflict
from sampan.api.resources import resource
from sampan.client.events import NORMAL, WARNING

from . import deployment_status as report
from .deployment_plan import Create, Delete, Observed, Plan, Resize, plan, same_template, split
from .deployment_sizes import REVISION, is_rolling
from .runtime import pods as podlib
from .runtime.claim import claim
from .runtime.conditions import with_condition
from .runtime.controller import Context, Controller
from .runtime.owners import add_owner_indexes, controller_of, controller_uid, owned, refers_to
from .runtime.queue import Request, Requeue
from .runtime.selection import selects
from .runtime.status import write_status


class DeploymentController(Controller):
    """See the module."""

    name = "deployment"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("deployments", "apps")
        self.set_resource = resource("replicasets", "apps")
        self.recorder = context.recorder("deployment-controller")
        self.deployments = self.informer(self.resource)
        self.sets = self.informer(self.set_resource)
        self.pods = self.informer(resource("pods"))
        add_owner_indexes(self.sets)
        add_owner_indexes(self.pods)
        self.deployments.on_change(self.add_changed)
        self.sets.on_change(self._set_changed)
        self.pods.on_change(self._pod_changed)

    def _set_changed(self, old: Object | None, new: Object | None) -> None:
        for item in (old, new):
            owner = self._owner(item) if item is not None else None
            if owner is not None:
                self.queue.add(owner)
        if new is not None and not controller_uid(new):
            meta = new["metadata"]
            for found in self.deployments.list(meta["namespace"]):
                if selects(found["spec"].get("selector"), meta.get("labels")):
                    self.add(found)

    def _owner(self, found: Object) -> Request | None:
        reference = controller_of(found)
        if reference is None or not refers_to(reference, self.resource):
            return None
        return Request(found["metadata"]["namespace"], reference["name"])

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        """A Recreate rollout waits for the last old pod to go."""
        if old is None or (new is not None and not podlib.is_finished(new)):
            return
        reference = controller_of(old)
        if reference is None or not refers_to(reference, self.set_resource):
            return
        found = self.sets.get(old["metadata"]["namespace"], reference["name"])
        request = self._owner(found) if found is not None else None
        deployment = self.deployments.get(*request) if request is not None else None
        if deployment is not None and not is_rolling(deployment):
            self.add(deployment)

    async def reconcile(self, request: Request) -> Requeue | None:
        deployment = self.deployments.get(*request)
        if deployment is None:
            return None
        sets = await claim(self.sets, self.deployments, deployment)
        observed = Observed(deployment, sets, self._old_pods(deployment, sets))
        todo = plan(observed, self.clock.now())
        await self._apply(deployment, todo)
        return Requeue(todo.again_s) if todo.again_s is not None else None

    def _old_pods(self, deployment: Object, sets: list[Object]) -> bool:
        if is_rolling(deployment):
            return False
        _, old = split(deployment, sets)
        return any(not podlib.is_finished(pod) for item in old for pod in owned(self.pods, item))

    async def _apply(self, deployment: Object, todo: Plan) -> None:
        for step in todo.steps:
            match step:
                case Create():
                    await self._create(deployment, step.body)
                case Resize():
                    await self._resize(deployment, step)
                case Delete():
                    await self._delete(step.body)
        await self._report(deployment, todo.status, todo.revision)

    async def _create(self, deployment: Object, body: Object) -> None:
        """Make the new set; one that exists is taken if it is the one that was meant."""
        meta = body["metadata"]
        try:
            await self.client.create(self.set_resource, body, meta["namespace"])
        except AlreadyExists:
            await self._resolve(deployment, body)
            return
        except StatusError as error:
            await self._report_failure(deployment, meta["name"], error)
            raise
        self._tell(deployment, meta["name"], 0, body["spec"]["replicas"])

    async def _resolve(self, deployment: Object, body: Object) -> None:
        """The name is taken: by this very set, created before a crash, or by another template."""
        meta = body["metadata"]
        live = await self.sets.get_live(meta["namespace"], meta["name"])
        if (
            live is not None
            and controller_uid(live) == deployment["metadata"]["uid"]
            and same_template(live["spec"]["template"], deployment["spec"]["template"])
        ):
            return
        status = {**(deployment.get("status") or {})}
        status["collisionCount"] = (status.get("collisionCount") or 0) + 1
        await self._report(deployment, status, "")
        # Quietly again: the hash of the next sync has one collision more in it.
        raise conflict("apps", "replicasets", meta["name"], "another template has the same hash")

    async def _report_failure(self, deployment: Object, name: str, error: StatusError) -> None:
        text = f'Failed to create new replica set "{name}": {error}'
        if report.has_deadline(deployment):
            found = report.progressing(report.CREATE_ERROR, text, self.clock.now(), "False")
            status = {**(deployment.get("status") or {})}
            status["conditions"] = with_condition(status.get("conditions"), found)
            await self._report(deployment, status, "")
        self.recorder.event(deployment, WARNING, report.CREATE_ERROR, text)

    async def _resize(self, deployment: Object, step: Resize) -> None:
        await self.client.update(self.set_resource, step.body)
        if step.before != step.after:
            self._tell(deployment, step.body["metadata"]["name"], step.before, step.after)

    def _tell(self, deployment: Object, name: str, before: int, after: int) -> None:
        if before != after:
            word = "up" if after > before else "down"
            text = f"Scaled {word} replica set {name} from {before} to {after}"
            self.recorder.event(deployment, NORMAL, "ScalingReplicaSet", text)

    async def _delete(self, found: Object) -> None:
        meta = found["metadata"]
        options = {
            "preconditions": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        }
        try:
            await self.client.delete(self.set_resource, meta["name"], meta["namespace"], options)
        except NotFound:
            return

    async def _report(self, deployment: Object, status: Object, revision: str) -> None:
        """Write status and revision in one: /status takes annotations too, as upstream's does."""
        meta = None
        if revision:
            known = deployment["metadata"]
            annotations = {**(known.get("annotations") or {}), REVISION: revision}
            meta = {**known, "annotations": annotations}
        await write_status(self.client, self.resource, deployment, status, metadata=meta)
