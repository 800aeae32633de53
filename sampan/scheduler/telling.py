"""What the scheduler writes: bindings, conditions, nominations, and the end of victims.

No queue of its own: `run.py` bounds how many of these requests are under way.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from sampan.aio.clock import Clock
from sampan.api.errors import NotFound, Object, StatusError
from sampan.api.resources import resource
from sampan.client.api import Client
from sampan.client.events import EventRecorder
from sampan.client.interface import STRATEGIC_PATCH

from .profile import NAME

log = logging.getLogger("sampan.scheduler")

UNSCHEDULABLE, FAULT = "Unschedulable", "SchedulerError"
"""Reasons of PodScheduled: no node fits; the scheduler, or whom it asked, could not do its work."""


class Telling:
    """Requests of the scheduler, by pod. Events are those of the pod's own scheduler's name."""

    def __init__(self, client: Client, events: Mapping[str, EventRecorder], clock: Clock) -> None:
        self._client = client
        self._events = events
        self._clock = clock
        self._pods = resource("pods")

    async def bind(self, pod: Object, node_name: str) -> None:
        """Raises StatusError or OSError when the pod is not bound."""
        meta = pod["metadata"]
        namespace, name = meta["namespace"], meta["name"]
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": meta["uid"]},
            "target": {"kind": "Node", "name": node_name},
        }
        await self._client.create(self._pods, binding, namespace, name, "binding")
        self.assigned(pod, node_name)

    def assigned(self, pod: Object, node_name: str) -> None:
        meta = pod["metadata"]
        text = f"Successfully assigned {meta['namespace']}/{meta['name']} to {node_name}"
        self._event(pod, pod, "Normal", "Scheduled", text)

    async def report(
        self, pod: Object, why: str, nominated: str, reason: str = UNSCHEDULABLE
    ) -> None:
        """Event, condition and nomination of a pod that got no node; an unchanged status is not
        sent again."""
        self._event(pod, pod, "Warning", "FailedScheduling", why)
        status = pod.get("status") or {}
        known: Object = _condition(status, "PodScheduled")
        named = status.get("nominatedNodeName") or ""
        if (known.get("status"), known.get("message"), named) == ("False", why, nominated):
            return
        moved = known.get("lastTransitionTime") if known.get("status") == "False" else None
        condition = {
            "type": "PodScheduled",
            "observedGeneration": pod["metadata"].get("generation", 1),
            "status": "False",
            "reason": reason,
            "message": why,
            "lastProbeTime": None,
            "lastTransitionTime": moved or self._stamp(),
        }
        change: dict[str, Any] = {"conditions": [condition]}
        if named != nominated:
            change["nominatedNodeName"] = nominated or None
        await self._patch(pod, change)

    def waits_for_devices(self, pod: Object, node_name: str) -> None:
        text = f"waiting for binding conditions for device on node {node_name}"
        self._event(pod, pod, "Normal", "BindingConditionsPending", text)

    async def nominate(self, pod: Object, node_name: str | None) -> None:
        """Say where a pod is expected to run; None for nowhere any more."""
        await self._patch(pod, {"nominatedNodeName": node_name})

    async def preempt(self, victim: Object, preemptor: Object, node_name: str) -> None:
        """End a pod in favour of another, gracefully."""
        meta, scheduler = victim["metadata"], preemptor["spec"].get("schedulerName", "")
        condition = {
            "type": "DisruptionTarget",
            "observedGeneration": meta.get("generation", 1),
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": f"{scheduler}: preempting to accommodate a higher priority pod",
            "lastProbeTime": None,
            "lastTransitionTime": self._stamp(),
        }
        if _condition(victim.get("status") or {}, "DisruptionTarget").get("status") != "True":
            await self._patch(victim, {"conditions": [condition]})
        options = {"preconditions": {"uid": meta["uid"]}}
        try:
            await self._client.delete(self._pods, meta["name"], meta["namespace"], options)
        except NotFound:
            return
        except (StatusError, OSError) as error:
            log.warning("preempting %s/%s: %s", meta["namespace"], meta["name"], error)
            return
        text = f"Preempted by pod {preemptor['metadata']['uid']} on node {node_name}"
        self._event(preemptor, victim, "Normal", "Preempted", text)

    def _event(self, mine: Object, about: Object, kind: str, reason: str, text: str) -> None:
        self._events[mine["spec"].get("schedulerName") or NAME].event(about, kind, reason, text)

    async def _patch(self, pod: Object, status: Object) -> None:
        meta = pod["metadata"]
        try:
            await self._client.patch(
                self._pods,
                meta["name"],
                {"metadata": {"uid": meta["uid"]}, "status": status},
                meta["namespace"],
                "status",
                content_type=STRATEGIC_PATCH,
            )
        except (StatusError, OSError) as error:
            log.debug("status of %s/%s: %s", meta["namespace"], meta["name"], error)

    def _stamp(self) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock.now()))


def _condition(status: Object, kind: str) -> Object:
    conditions = status.get("conditions") or ()
    return next((item for item in conditions if item["type"] == kind), {})
