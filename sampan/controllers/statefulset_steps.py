"""Carries out what a StatefulSet's plan says, and tells of it in upstream's words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from sampan.api.errors import AlreadyExists, NotFound, Object, StatusError, is_namespace_terminating
from sampan.api.resources import resource
from sampan.client.api import Client
from sampan.client.events import NORMAL, WARNING, EventRecorder

from .runtime.parallel import AT_ONCE
from .statefulset_plan import Create, Fail, MakeClaim, Mend, OwnClaim, Remove, Step, Work


class Unready(OSError):
    """Something a pod needs is in the way; an event has said so. It is tried again later."""


class Steps:
    """Takes one step after the other; keeps nothing."""

    def __init__(self, client: Client, recorder: EventRecorder) -> None:
        self.client = client
        self.recorder = recorder
        self.pod_resource = resource("pods")
        self.claim_resource = resource("persistentvolumeclaims")

    async def take(self, owner: Object, step: Step) -> bool:
        """Do it; False if there was nothing to do any more. Raises as the client does, or Unready,
        having told of it."""
        match step:
            case Create():
                await self._create(owner, step.body)
            case Remove():
                return await self._remove(owner, step.pod)
            case MakeClaim():
                await self._make_claim(owner, step)
            case OwnClaim():
                await self._write_claim(step.body)
            case Mend():
                await self._mend(owner, step.body)
            case Fail():
                self._tell_pod(owner, "create", step.pod, step.message)
                raise Unready(step.message)
        return True

    async def _create(self, owner: Object, body: Object) -> None:
        meta = body["metadata"]
        try:
            await self.client.create(self.pod_resource, body, meta["namespace"])
        except AlreadyExists:
            # Of somebody else, or made before a crash and not in the cache yet: no event.
            raise
        except StatusError as error:
            if not is_namespace_terminating(error):
                self._tell_pod(owner, "create", meta["name"], str(error))
            raise
        self._tell_pod(owner, "create", meta["name"])

    async def _remove(self, owner: Object, pod: Object) -> bool:
        meta = pod["metadata"]
        options = {"preconditions": {"uid": meta["uid"]}}
        try:
            await self.client.delete(self.pod_resource, meta["name"], meta["namespace"], options)
        except NotFound:
            # Gone since the plan was made: no event of it is to be waited for.
            return False
        except StatusError as error:
            self._tell_pod(owner, "delete", meta["name"], str(error))
            raise
        self._tell_pod(owner, "delete", meta["name"])
        return True

    async def _mend(self, owner: Object, body: Object) -> None:
        name = body["metadata"]["name"]
        try:
            await self.client.update(self.pod_resource, body)
        except NotFound:
            return
        except StatusError as error:
            self._tell_pod(owner, "update", name, str(error))
            raise
        self._tell_pod(owner, "update", name)

    async def _make_claim(self, owner: Object, step: MakeClaim) -> None:
        meta = step.body["metadata"]
        text = f"create Claim {meta['name']}"
        where = f"Pod {step.pod} in StatefulSet {owner['metadata']['name']}"
        try:
            await self.client.create(self.claim_resource, step.body, meta["namespace"])
        except AlreadyExists:
            return
        except StatusError as error:
            if not is_namespace_terminating(error):
                message = f"{text} for {where} failed error: {error}"
                self.recorder.event(owner, WARNING, "FailedCreate", message)
                problem = f"failed to create PVC {meta['name']}: {error}"
                self._tell_pod(owner, "create", step.pod, problem)
            raise
        self.recorder.event(owner, NORMAL, "SuccessfulCreate", f"{text} {where} success")

    async def _write_claim(self, body: Object) -> None:
        """Write a claim back, if it is still there."""
        try:
            await self.client.update(self.claim_resource, body)
        except NotFound:
            return

    def _tell_pod(self, owner: Object, verb: str, pod: str, problem: str = "") -> None:
        text = f"{verb} Pod {pod} in StatefulSet {owner['metadata']['name']}"
        if problem:
            reason = f"Failed{verb.title()}"
            self.recorder.event(owner, WARNING, reason, f"{text} failed error: {problem}")
        else:
            reason = f"Successful{verb.title()}"
            self.recorder.event(owner, NORMAL, reason, f"{text} successful")


async def in_order_or_parallel(
    works: Sequence[Work], do: Callable[[Work], Awaitable[None]], *, parallel: bool
) -> Exception | None:
    """Do what a stage says: one after another, or in batches of 1, 2, 4 ... The first error,
    after which nothing more is begun."""
    begun, size = 0, 1
    while begun < len(works):
        batch = works[begun : begun + size]
        results = await asyncio.gather(*map(do, batch), return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                return result
            if result is not None:
                raise result
        begun += len(batch)
        if parallel:
            size = min(size * 2, AT_ONCE)
    return None
