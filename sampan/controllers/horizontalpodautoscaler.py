"""Horizontal pod autoscalers: as many replicas as their metrics ask for (autoscaling/v2).

Every autoscaler has one appointment in the queue, `PERIOD_S` from its last sync; a change of its
spec brings it on at once. Work per sync: its metrics are read, its target's pods are looked at
(by the index of labels), its Scale is read and, if need be, written; nothing is cached between
syncs but what was recommended and done within the windows (`horizontalpodautoscaler_limits`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sampan.api.errors import Conflict, Object, StatusError
from sampan.api.resources import resource
from sampan.client.events import WARNING

from .runtime.controller import Context, Controller
from .runtime.labels import add_label_index
from .runtime.queue import Request, Requeue
from .runtime.scales import Scales, definitions_resource
from .runtime.status import write_status

if TYPE_CHECKING:
    from .horizontalpodautoscaler_sync import Tools

log = logging.getLogger("sampan.controllers")

PERIOD_S = 15.0
"""--horizontal-pod-autoscaler-sync-period."""


class HorizontalPodAutoscalerController(Controller):
    """See the module."""

    name = "horizontalpodautoscaler"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("horizontalpodautoscalers", "autoscaling")
        self.recorder = context.recorder("horizontal-pod-autoscaler")
        self.scales = Scales(self.client, self.informer(definitions_resource()))
        self.pods = self.informer(resource("pods"))
        self.autoscalers = self.informer(self.resource)
        add_label_index(self.pods)
        self.tools: Tools | None = None
        self.autoscalers.on_change(self._changed)

    def exposition(self) -> str:
        return self.tools.tally.exposition() if self.tools is not None else ""

    def _equip(self) -> Tools:
        """Loads what syncs are made of: a cluster without autoscalers boots without it."""
        if self.tools is None:
            from .horizontalpodautoscaler_metrics import MetricsReader
            from .horizontalpodautoscaler_sync import Tools
            from .horizontalpodautoscaler_tally import Tally

            reader = MetricsReader(self.client, self.scales)
            self.tools = Tools(
                self.clock, self.recorder, self.scales, reader, self.pods, Tally(), {}, {}
            )
        return self.tools

    def _forget(self, request: Request) -> None:
        if self.tools is not None:
            self.tools.forget(request)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            if old is not None:
                meta = old["metadata"]
                self._forget(Request(meta["namespace"], meta["name"]))
            return
        # Not for the status that was written here.
        if old is None or old["spec"] != new["spec"]:
            self.add(new)

    async def reconcile(self, request: Request) -> Requeue | None:
        found = self.autoscalers.get(*request)
        if found is None:
            self._forget(request)
            return None
        tools = self._equip()
        from .horizontalpodautoscaler_sync import Sync, SyncError

        sync, fault, began = Sync(tools, request, found), "none", self.clock.monotonic()
        try:
            await sync.run()
        except SyncError as error:
            fault = error.fault
            log.info("%s %s: %s", self.name, "/".join(request), error)
        tools.tally.note_sync(sync.action, fault, self.clock.monotonic() - began)
        await self._report(found, sync.status)
        return Requeue(PERIOD_S)

    async def _report(self, found: Object, status: Object) -> None:
        try:
            await write_status(self.client, self.resource, found, status)
        except Conflict:
            # It was changed, which brings it back here.
            return
        except (StatusError, OSError) as error:
            self.recorder.event(found, WARNING, "FailedUpdateStatus", str(error))
            raise
