"""Pod statuses on their way to the API: per pod one patch at a time, and only the latest.

Tasks: one per pod with something to say; it ends when there is nothing more. Bound: one waiting
status per pod. A server that cannot be reached is tried again with backoff; a pod that is gone or
was replaced (404, or 409 by the uid) is forgotten.
"""

from __future__ import annotations

import asyncio
import logging

from sampan.aio.backoff import Backoff
from sampan.aio.clock import Clock
from sampan.api.errors import Conflict, Forbidden, Invalid, NotFound, Object, StatusError
from sampan.api.resources import api_resource
from sampan.client.api import Client
from sampan.client.interface import STRATEGIC_PATCH

from .manifests import is_static
from .status import status_patch
from .tally import Tally
from .timings import POD_STATUS

RESTATE_S = 0.5
"""Our node's own end of silence should be heard first, or the same is said of the pod again."""

log = logging.getLogger("sampan.node.reports")


class _Pod:
    """What is known of one pod's reporting."""

    __slots__ = (
        "acknowledged", "last", "latest", "name", "namespace", "task", "uid", "version",
    )  # fmt: skip

    def __init__(self, pod: Object) -> None:
        meta = pod["metadata"]
        self.namespace, self.name, self.uid = meta["namespace"], meta["name"], meta["uid"]
        self.acknowledged: Object = pod.get("status") or {}
        self.version = 0
        """Of the API's object when it took our word last."""
        self.latest: Object | None = None
        self.last: Object | None = None
        self.task: asyncio.Task[None] | None = None


class Reports:
    """Sends statuses for all pods of the node."""

    def __init__(
        self, client: Client, clock: Clock, *, remember: bool = True, tally: Tally | None = None
    ) -> None:
        """Without `remember` nothing is kept of a pod all of whose statuses are sent; what the API
        knows of it is then taken from the pod when there is more to say."""
        self._remember = remember
        self._client = client
        self._clock = clock
        self._tally = tally
        self._pods: dict[str, _Pod] = {}
        self._shown: dict[str, Object] = {}
        self.sent = 0

    def put(self, pod: Object, status: Object) -> None:
        """Have `status` sent; what waits for the same pod is replaced."""
        uid = pod["metadata"]["uid"]
        entry = self._pods.get(uid)
        if entry is None:
            entry = self._pods[uid] = _Pod(pod)
            if is_static(pod):
                # Nobody but its mirror can be told.
                entry.uid = ""
                if uid in self._shown:
                    self._follow(entry, self._shown[uid])
        entry.latest = entry.last = status
        self._begin(entry)

    def show(self, uid: str, mirror: Object) -> None:
        """What is said of static pod `uid` goes to this object of the API from now on."""
        self._shown[uid] = mirror
        entry = self._pods.get(uid)
        if entry is not None and entry.uid != mirror["metadata"]["uid"]:
            self._follow(entry, mirror)
            entry.latest = entry.last
            self._begin(entry)

    def uid_of(self, uid: str) -> str:
        """Under which uid the API knows the pod; "" when it does not."""
        entry = self._pods.get(uid)
        return entry.uid if entry is not None else uid

    def saw(self, pod: Object) -> None:
        """The API's pod as it is now. While its node was cut off somebody else said that it is not
        ready; that is ours to say, and is said anew when we are heard again."""
        entry = self._pods.get(pod["metadata"]["uid"])
        if entry is None or entry.task is not None or entry.last is None:
            return
        if int(pod["metadata"].get("resourceVersion") or 0) <= entry.version:
            return
        status = pod.get("status") or {}
        if _readiness(status) != _readiness(entry.last):
            entry.acknowledged, entry.latest = status, entry.last
            entry.task = asyncio.create_task(self._send(entry, RESTATE_S))

    @staticmethod
    def _follow(entry: _Pod, mirror: Object) -> None:
        entry.uid = mirror["metadata"]["uid"]
        entry.acknowledged = mirror.get("status") or {}

    def _begin(self, entry: _Pod) -> None:
        if entry.task is None and entry.uid:
            entry.task = asyncio.create_task(self._send(entry), name=f"report {entry.uid}")

    async def flushed(self, uid: str) -> None:
        """Wait until everything said of the pod has been sent (or dropped)."""
        entry = self._pods.get(uid)
        if entry is not None and entry.task is not None:
            await asyncio.wait([entry.task])

    def forget(self, uid: str) -> None:
        """The pod is gone: send nothing more."""
        self._shown.pop(uid, None)
        entry = self._pods.pop(uid, None)
        if entry is not None and entry.task is not None:
            entry.task.cancel()

    async def close(self) -> None:
        tasks = [entry.task for entry in self._pods.values() if entry.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._pods.clear()

    async def _send(self, entry: _Pod, after_s: float = 0.0) -> None:
        backoff = Backoff(initial_s=0.1, cap_s=10.0)
        try:
            if after_s:
                await self._clock.sleep(after_s)
            began = self._clock.monotonic()
            while entry.latest is not None:
                status, entry.latest = entry.latest, None
                patch = status_patch(entry.acknowledged, status, entry.uid)
                try:
                    answer = await self._client.patch(
                        api_resource("pods"),
                        entry.name,
                        patch,
                        entry.namespace,
                        "status",
                        content_type=STRATEGIC_PATCH,
                    )
                except (NotFound, Conflict):
                    return
                except (Invalid, Forbidden) as error:
                    log.error("status of pod %s/%s: %s", entry.namespace, entry.name, error)
                except (StatusError, OSError) as error:
                    log.info("status of pod %s/%s: %s", entry.namespace, entry.name, error)
                    if entry.latest is None:
                        entry.latest = status
                    await self._clock.sleep(backoff.next_s())
                else:
                    self.sent += 1
                    if self._tally is not None:
                        self._tally.time(POD_STATUS, self._clock.monotonic() - began)
                    began = self._clock.monotonic()
                    backoff.reset()
                    entry.acknowledged = answer.get("status") or {}
                    entry.version = int(answer["metadata"].get("resourceVersion") or 0)
        finally:
            entry.task = None
            if not self._remember:
                self._pods.pop(entry.uid, None)


def _readiness(status: Object) -> str:
    conditions = status.get("conditions") or ()
    return next((item["status"] for item in conditions if item["type"] == "Ready"), "")
