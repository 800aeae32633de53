"""Takes the tracking finalizer off pods whose job is gone or finished: nobody counts them."""

from __future__ import annotations

from sampan.api.errors import NotFound, Object
from sampan.api.resources import resource
from sampan.client.interface import STRATEGIC_PATCH

from .job import MANAGER
from .job_plan import FINALIZER, has_finalizer, is_finished
from .runtime.controller import Context, Controller
from .runtime.owners import add_owner_indexes, controller_of, owned, refers_to
from .runtime.queue import Request, Requeue


class JobOrphanController(Controller):
    """A request is a pod."""

    name = "job_orphan_pod"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("jobs", "batch")
        self.jobs = self.informer(self.resource)
        self.pods = self.informer(resource("pods"))
        add_owner_indexes(self.pods)
        self.jobs.on_change(self._job_changed)
        self.pods.on_change(self._pod_changed)

    def _job_changed(self, old: Object | None, new: Object | None) -> None:
        """A job that ends leaves no finalizer behind."""
        job = old if new is None else new
        if job is None or (new is not None and not is_finished(new)):
            return
        for pod in owned(self.pods, job):
            self._pod_changed(None, pod)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and has_finalizer(new) and self._is_orphan(new):
            self.add(new)

    def _is_orphan(self, pod: Object) -> bool:
        reference = controller_of(pod)
        if reference is None:
            return True
        if not refers_to(reference, self.resource):
            return False
        job = self.jobs.get(pod["metadata"]["namespace"], reference["name"])
        if job is None or job["metadata"]["uid"] != reference["uid"]:
            return True
        return bool(is_finished(job)) and job["spec"].get("managedBy", MANAGER) == MANAGER

    async def _is_gone(self, pod: Object) -> bool:
        """Is its job really gone or finished? The cache may not have a new one yet."""
        reference = controller_of(pod)
        if reference is None:
            return True
        job = await self.jobs.get_live(pod["metadata"]["namespace"], reference["name"])
        return job is None or job["metadata"]["uid"] != reference["uid"] or bool(is_finished(job))

    async def reconcile(self, request: Request) -> Requeue | None:
        pod = self.pods.get(*request)
        if pod is None or not has_finalizer(pod) or not self._is_orphan(pod):
            return None
        if not await self._is_gone(pod):
            return None
        patch = {
            "metadata": {
                "uid": pod["metadata"]["uid"],
                "$deleteFromPrimitiveList/finalizers": [FINALIZER],
            }
        }
        try:
            await self.client.patch(
                self.pods.resource,
                request.name,
                patch,
                request.namespace,
                content_type=STRATEGIC_PATCH,
            )
        except NotFound:
            return None
        return None
