"""What the controllers that make pods share: who is woken by which pod, what was made and is not
seen yet, and the events that tell of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import ClassVar

from sampan.api.errors import (
    Forbidden,
    NotFound,
    Object,
    StatusError,
    is_namespace_terminating,
)
from sampan.api.resources import resource
from sampan.client.events import NORMAL, WARNING

from . import pods as podlib
from .controller import Context, Controller
from .expectations import Expectations
from .owners import add_owner_indexes, controller_of, controller_uid, refers_to
from .parallel import each, slow_start
from .queue import Request
from .selection import selects
from .status import write_status

Act = Callable[[Object], Awaitable[None]]


class PodController(Controller):
    """A controller of pods that its objects, the owners, control.

    Its subclass reconciles an owner: it reads `expectations.outstanding_s` before anything that
    waits, claims its pods, and makes and deletes none while something is outstanding."""

    kind: ClassVar[tuple[str, str]]
    """Plural and group of the owners."""
    component: ClassVar[str]
    """Of its events."""
    waits_for_names: ClassVar[bool] = False
    """Its pods have names of their own: an orphan that goes may have been in the way."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource(*self.kind)
        self.pod_resource = resource("pods")
        self.expectations = Expectations(context.clock)
        self.recorder = context.recorder(self.component)
        self.owners = self.informer(self.resource)
        self.pods = self.informer(self.pod_resource)
        self.refused: set[Request] = set()
        """Owners whose pods something forbids: a quota, most often."""
        add_owner_indexes(self.pods)
        self.informer(resource("resourcequotas")).on_change(self._quota_changed)
        self.owners.on_change(self.owner_changed)
        self.pods.on_change(self.pod_changed)

    def forget(self, request: Request) -> None:
        """Drop what is known of an owner that is gone."""
        self.expectations.forget(request)
        self.refused.discard(request)

    def note(self, request: Request, error: Exception | None) -> None:
        """Pods could not be made: is it something that a quota may end?"""
        if isinstance(error, Forbidden):
            self.refused.add(request)

    def _quota_changed(self, old: Object | None, new: Object | None) -> None:
        """What a quota allows is another thing, or it is gone: who was refused tries again now,
        and not after a back-off of minutes."""
        if old is None or (new is not None and _allowed(old) == _allowed(new)):
            return
        for request in [*self.refused]:
            if request.namespace == old["metadata"]["namespace"]:
                self.refused.discard(request)
                self.queue.add(request)

    def may_adopt(self, owner: Object, pod: Object) -> bool:
        """Is the orphan one that the owner could take?"""
        return selects(owner["spec"].get("selector"), pod["metadata"].get("labels"))

    def owner_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None:
            self.forget(Request(old["metadata"]["namespace"], old["metadata"]["name"]))
        self.add_changed(old, new)

    def pod_changed(self, old: Object | None, new: Object | None) -> None:
        """Wake the owner of a pod, and note what was expected."""
        pod = new if new is not None else old
        if pod is None:
            return
        owner = self.owner_of(pod)
        before = self.owner_of(old) if old is not None and new is not None else None
        if before is not None and before != owner:
            self.queue.add(before)
        if owner is None:
            if (new is not None or self.waits_for_names) and not controller_uid(pod):
                self._wake_adopters(pod)
            return
        if old is None:
            self.expectations.created(owner)
        if new is None or podlib.is_terminating(new):
            self.expectations.deleted(owner, pod["metadata"]["uid"])
        self.queue.add(owner)

    def owner_of(self, pod: Object) -> Request | None:
        """The name of the owner that controls the pod, if it is of this kind."""
        reference = controller_of(pod)
        if reference is None or not refers_to(reference, self.resource):
            return None
        return Request(pod["metadata"]["namespace"], reference["name"])

    def _wake_adopters(self, pod: Object) -> None:
        for owner in self.owners.list(pod["metadata"]["namespace"]):
            if self.may_adopt(owner, pod):
                self.add(owner)

    async def create_pods(
        self, request: Request, owner: Object, bodies: Iterator[Object], count: int
    ) -> tuple[int, Exception | None]:
        """Make so many pods; how many were made, and why no more. That the namespace is going is
        no error: nothing that is tried again would succeed."""
        self.expectations.expect_creations(request, count)
        done, error = await slow_start(count, lambda: self._create_pod(owner, next(bodies)))
        self.expectations.created(request, count - done)
        self.note(request, error)
        if isinstance(error, StatusError) and is_namespace_terminating(error):
            return done, None
        return done, error

    async def _create_pod(self, owner: Object, body: Object) -> None:
        """Raises what the client raises, having told of it."""
        try:
            pod = await self.client.create(self.pod_resource, body, owner["metadata"]["namespace"])
        except StatusError as error:
            if not is_namespace_terminating(error):
                self.recorder.event(owner, WARNING, "FailedCreate", f"Error creating: {error}")
            raise
        name = pod["metadata"]["name"]
        self.recorder.event(owner, NORMAL, "SuccessfulCreate", f"Created pod: {name}")

    def expect_deletions(self, request: Request, pods: Iterable[Object]) -> None:
        """Say which pods are about to be deleted, before anything is done that may wait."""
        self.expectations.expect_deletions(request, {pod["metadata"]["uid"] for pod in pods})

    async def delete_pods(
        self, request: Request, owner: Object, pods: Iterable[Object], first: Act | None = None
    ) -> tuple[list[Object], Exception | None]:
        """Delete pods, each after `first` was done to it: those that are going or gone, and the
        first error of the others."""
        todo = [*pods]

        async def delete(pod: Object) -> None:
            try:
                if first is not None:
                    await first(pod)
                await self._delete_pod(owner, pod)
            except NotFound:
                self.expectations.deleted(request, pod["metadata"]["uid"])
            except (StatusError, OSError) as error:
                self.expectations.deleted(request, pod["metadata"]["uid"])
                self.recorder.event(owner, WARNING, "FailedDelete", f"Error deleting: {error}")
                raise

        results = await each(delete, todo)
        gone = [pod for pod, result in zip(todo, results, strict=True) if result is None]
        return gone, next((item for item in results if isinstance(item, Exception)), None)

    async def _delete_pod(self, owner: Object, pod: Object) -> None:
        meta = pod["metadata"]
        options = {"preconditions": {"uid": meta["uid"]}}
        await self.client.delete(self.pod_resource, meta["name"], meta["namespace"], options)
        name = meta["name"]
        self.recorder.event(owner, NORMAL, "SuccessfulDelete", f"Deleted pod: {name}")

    async def report(self, owner: Object, status: Object) -> Object | None:
        """The owner with this status; None if there is no such owner any more."""
        return await write_status(self.client, self.resource, owner, status)


def _allowed(quota: Object) -> object:
    return (quota.get("status") or {}).get("hard")
