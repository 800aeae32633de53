"""Horizontal pod autoscalers: as many replicas as their metrics ask for (autoscaling/v2).

Every autoscaler has one appointment in the queue, `PERIOD_S` from its last sync; a change of its
spec brings it on at once. Work per sync: its metrics are read, its target's pods are looked at
(by the index of labels), its Scale is read and, if need be, written; nothing is cached between
syncs but what was recommended and done within the windows (`horizontalpodautoscaler_limits`).
"""

from __future__ import annotations

import logging
from typing import NamedTuple, NoReturn

from sampan.api.errors import BadRequest, Conflict, NotFound, Object, StatusError
from sampan.api.resources import resource
from sampan.api.selectors import Selector, parse_labels
from sampan.api.times import format_time
from sampan.client.events import NORMAL, WARNING
from sampan.wire.quantity import nanos

from .horizontalpodautoscaler_limits import Asked, History, Told, begin, limit, note_change
from .horizontalpodautoscaler_metrics import MetricsReader
from .horizontalpodautoscaler_replicas import TOLERANCE, Scaled, Tolerance
from .horizontalpodautoscaler_sources import SourceError, Target, propose
from .runtime.controller import Context, Controller
from .runtime.labels import add_label_index, selected
from .runtime.queue import Request, Requeue
from .runtime.scales import NoKindError, Scales, definitions_resource, replicas_of

log = logging.getLogger("sampan.controllers")

PERIOD_S = 15.0
"""--horizontal-pod-autoscaler-sync-period."""
NANO = 10**9
ABLE, ACTIVE, LIMITED = "AbleToScale", "ScalingActive", "ScalingLimited"
ABOVE = "Current number of replicas above Spec.MaxReplicas"
BELOW = "Current number of replicas below Spec.MinReplicas"
DISABLED = Told(
    False, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero"
)
FOUND = Told(
    True, "SucceededGetScale", "the HPA controller was able to get the target's current scale"
)


class SyncError(Exception):
    """This sync came to nothing; the next one is at its time."""


class Measured(NamedTuple):
    """What the metrics together ask for."""

    replicas: int
    metric: str
    statuses: list[Object]


class HorizontalPodAutoscalerController(Controller):
    """See the module."""

    name = "horizontalpodautoscaler"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("horizontalpodautoscalers", "autoscaling")
        self.recorder = context.recorder("horizontal-pod-autoscaler")
        self.scales = Scales(self.client, self.informer(definitions_resource()))
        self.reader = MetricsReader(self.client, self.scales)
        self.histories: dict[Request, History] = {}
        self.selectors: dict[Request, Selector] = {}
        """Of the targets, as they were last seen: no two autoscalers may have the same pods."""
        self.pods = self.informer(resource("pods"))
        self.autoscalers = self.informer(self.resource)
        add_label_index(self.pods)
        self.autoscalers.on_change(self._changed)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            if old is not None:
                meta = old["metadata"]
                request = Request(meta["namespace"], meta["name"])
                self.histories.pop(request, None)
                self.selectors.pop(request, None)
            return
        # Not for the status that was written here.
        if old is None or old["spec"] != new["spec"]:
            self.add(new)

    async def reconcile(self, request: Request) -> Requeue | None:
        found = self.autoscalers.get(*request)
        if found is None:
            self.histories.pop(request, None)
            self.selectors.pop(request, None)
            return None
        sync = _Sync(self, request, found)
        try:
            await sync.run()
        except SyncError as error:
            log.info("%s %s: %s", self.name, "/".join(request), error)
        await self._report(found, sync.status)
        return Requeue(PERIOD_S)

    async def _report(self, found: Object, status: Object) -> None:
        if status == (found.get("status") or {}):
            return
        try:
            await self.client.update(self.resource, {**found, "status": status}, "status")
        except (NotFound, Conflict):
            # It is gone, or was changed, which brings it back here.
            return
        except (StatusError, OSError) as error:
            self.recorder.event(found, WARNING, "FailedUpdateStatus", str(error))
            raise


class _Sync:
    """One look at one autoscaler; `status` is what it comes to."""

    def __init__(
        self, controller: HorizontalPodAutoscalerController, request: Request, found: Object
    ) -> None:
        self.controller = controller
        self.request = request
        self.found = found
        self.spec: Object = found["spec"]
        self.status: Object = dict(found.get("status") or {})
        self.now_s = controller.clock.now()

    async def run(self) -> None:
        """Raises SyncError, and Conflict where the target was changed meanwhile."""
        reference = self.spec["scaleTargetRef"]
        try:
            target = self.controller.scales.resource(
                reference.get("apiVersion") or "", reference["kind"]
            )
            scale = await self.controller.scales.get(
                target, self.request.namespace, reference["name"]
            )
        except (NoKindError, StatusError, OSError) as error:
            self._tell(WARNING, "FailedGetScale", str(error))
            why = f"the HPA controller was unable to get the target's current scale: {error}"
            self._set(ABLE, Told(False, "FailedGetScale", why))
            raise SyncError(f"failed to query scale subresource: {error}") from None
        self._set(ABLE, FOUND)
        current = replicas_of(scale)
        history = self.controller.histories.setdefault(self.request, History())
        begin(history, current, self.now_s)
        desired, reason, measured = await self._decide(scale, history)
        rescaled = desired != current
        if rescaled:
            try:
                await self.controller.scales.update(target, scale, desired)
            except Conflict:
                raise
            except (StatusError, OSError) as error:
                text = f"New size: {desired}; reason: {reason}; error: {error}"
                self._tell(WARNING, "FailedRescale", text)
                why = f"the HPA controller was unable to update the target scale: {error}"
                self._set(ABLE, Told(False, "FailedUpdateScale", why))
                self._count(current, self.status.get("desiredReplicas", 0), None)
                raise SyncError(f"failed to rescale: {error}") from None
            why = f"the HPA controller was able to update the target scale to {desired}"
            self._set(ABLE, Told(True, "SucceededRescale", why))
            self._tell(NORMAL, "SuccessfulRescale", f"New size: {desired}; reason: {reason}")
            note_change(history, self.spec.get("behavior"), desired - current, self.now_s)
            self.status["lastScaleTime"] = format_time(self.now_s)
        self._count(current, desired, measured)

    async def _decide(
        self, scale: Object, history: History
    ) -> tuple[int, str, list[Object] | None]:
        """The replicas to have, why, and what the metrics say. Raises SyncError."""
        current, most = replicas_of(scale), int(self.spec["maxReplicas"])
        low = self.spec.get("minReplicas")
        least = 1 if low is None else int(low)
        if not current and least:
            # Somebody turned it off.
            self._set(ACTIVE, DISABLED)
            return 0, "", None
        if current > most:
            return most, ABOVE, None
        if current < least:
            return least, BELOW, None
        measured = await self._measure(scale)
        reason = ""
        if measured.replicas > current:
            reason = f"{measured.metric} above target"
        elif measured.replicas < current:
            reason = "All metrics below target"
        asked = Asked(current, measured.replicas, least, most)
        limited = limit(asked, self.spec.get("behavior"), history, self.now_s)
        self._set(ABLE, limited.able)
        self._set(LIMITED, limited.limited)
        return limited.replicas, reason, measured.statuses

    async def _measure(self, scale: Object) -> Measured:
        """The most that a metric asks for. Raises SyncError if that cannot be told."""
        current = replicas_of(scale)
        metrics = self.spec.get("metrics") or ()
        target = self._target(scale)
        best, statuses, errors = None, [], []
        for metric in metrics:
            try:
                proposal = await propose(target, metric)
            except SourceError as error:
                self._tell(WARNING, error.reason, error.why)
                errors.append(error)
                statuses.append({"type": ""})
                continue
            statuses.append(proposal.status)
            if best is None or proposal.replicas > best.replicas:
                best = proposal
        # What is unknown might ask for more: nothing is taken away then.
        if best is None or (errors and best.replicas < current):
            text = (
                f"invalid metrics ({len(errors)} invalid out of {len(metrics)}), first error is: "
                f"{errors[0] if errors else 'no metrics'}"
            )
            if errors:
                why = f"the HPA was unable to compute the replica count: {errors[0].why}"
                self._set(ACTIVE, Told(False, errors[0].reason, why))
            self._fail(current, statuses, text)
        why = f"the HPA was able to successfully calculate a replica count from {best.metric}"
        self._set(ACTIVE, Told(True, "ValidMetricFound", why))
        return Measured(best.replicas, best.metric, statuses)

    def _target(self, scale: Object) -> Target:
        """What is measured. Raises SyncError for a selector that is none, or not its own."""
        text = (scale.get("status") or {}).get("selector") or ""
        if not text:
            self._tell(WARNING, "SelectorRequired", "selector is required")
            why = "the HPA target's scale is missing a selector"
            self._refuse(scale, "InvalidSelector", why, "selector is required")
        try:
            selector = parse_labels(text)
        except BadRequest as error:
            why = (
                f"couldn't convert selector into a corresponding internal selector object: {error}"
            )
            self._tell(WARNING, "InvalidSelector", why)
            self._refuse(scale, "InvalidSelector", why, why)
        self.controller.selectors[self.request] = selector
        pods = self._pods(selector)
        others = self._others(pods)
        if others:
            keys = sorted([self.request, *others])
            listed = " ".join(f"{{{key.name} {key.namespace}}}" for key in keys)
            why = f"pods by selector {text} are controlled by multiple HPAs: [{listed}]"
            self._tell(WARNING, "AmbiguousSelector", why)
            self._refuse(scale, "AmbiguousSelector", why, why)
        running = int((scale.get("status") or {}).get("replicas") or 0)
        scaled = Scaled(replicas_of(scale), running, pods, _tolerance(self.spec), self.now_s)
        return Target(self.request.namespace, selector, scaled, self.controller.reader)

    def _pods(self, selector: Selector) -> list[Object]:
        equal = dict(selector.equals)
        pods, namespace = self.controller.pods, self.request.namespace
        listed = selected(pods, namespace, equal) if equal else pods.list(namespace)
        return [pod for pod in listed if selector.matches(pod["metadata"].get("labels") or {})]

    def _others(self, pods: list[Object]) -> list[Request]:
        """Autoscalers that have one of these pods too."""
        return [
            request
            for request, selector in self.controller.selectors.items()
            if request != self.request
            and request.namespace == self.request.namespace
            and any(selector.matches(pod["metadata"].get("labels") or {}) for pod in pods)
        ]

    def _refuse(self, scale: Object, reason: str, why: str, text: str) -> NoReturn:
        self._set(ACTIVE, Told(False, reason, why))
        self._fail(replicas_of(scale), None, text)

    def _fail(self, current: int, statuses: list[Object] | None, text: str) -> NoReturn:
        """Raises SyncError, when it is told."""
        self._count(current, self.status.get("desiredReplicas", 0), statuses)
        self._tell(WARNING, "FailedComputeMetricsReplicas", text)
        raise SyncError(f"failed to compute desired number of replicas: {text}")

    def _count(self, current: int, desired: int, statuses: list[Object] | None) -> None:
        self.status["currentReplicas"] = current
        self.status["desiredReplicas"] = desired
        self.status.pop("currentMetrics", None)
        if statuses:
            self.status["currentMetrics"] = statuses

    def _set(self, kind: str, told: Told) -> None:
        """A condition, in its place; its time is that of the last turn of its status."""
        new = {
            "type": kind,
            "status": "True" if told.holds else "False",
            "lastTransitionTime": format_time(self.now_s),
            "reason": told.reason,
            "message": told.message,
        }
        conditions = [*(self.status.get("conditions") or ())]
        for position, item in enumerate(conditions):
            if item["type"] == kind:
                if item["status"] == new["status"] and item.get("lastTransitionTime"):
                    new["lastTransitionTime"] = item["lastTransitionTime"]
                conditions[position] = new
                break
        else:
            conditions.append(new)
        self.status["conditions"] = conditions

    def _tell(self, kind: str, reason: str, text: str) -> None:
        self.controller.recorder.event(self.found, kind, reason, text)


def _tolerance(spec: Object) -> Tolerance:
    behavior = spec.get("behavior") or {}
    down, up = (
        (behavior.get(direction) or {}).get("tolerance") for direction in ("scaleDown", "scaleUp")
    )
    return Tolerance(
        TOLERANCE if down is None else nanos(down) / NANO,
        TOLERANCE if up is None else nanos(up) / NANO,
    )
