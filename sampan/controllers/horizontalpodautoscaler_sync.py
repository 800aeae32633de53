"""One look of the controller at one horizontal pod autoscaler (autoscaling/v2).

What it comes to is a status; what it did on the way is the write of a Scale. Every end that is no
success is a SyncError, after a condition and an event, in upstream's words.
"""

from __future__ import annotations

from typing import NamedTuple, NoReturn

from msgspec import Struct

from sampan.aio.clock import Clock
from sampan.api.errors import BadRequest, Conflict, Object, StatusError
from sampan.api.selectors import Selector, parse_labels
from sampan.api.times import format_time
from sampan.client.events import NORMAL, WARNING, EventRecorder
from sampan.client.informer import Informer
from sampan.wire.quantity import nanos

from .horizontalpodautoscaler_limits import Asked, History, Told, begin, limit, note_change
from .horizontalpodautoscaler_metrics import MetricsReader
from .horizontalpodautoscaler_replicas import TOLERANCE, Scaled, Tolerance
from .horizontalpodautoscaler_sources import UNKNOWN, Proposal, SourceError, Target, propose
from .horizontalpodautoscaler_tally import INTERNAL, NOBODY, NOTHING, SPEC, Tally, action_of
from .runtime.labels import selected
from .runtime.queue import Request
from .runtime.scales import NoKindError, Scales, replicas_of

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

    def __init__(self, text: str, fault: str = INTERNAL) -> None:
        super().__init__(text)
        self.fault = fault
        """Whose it was, for the metrics."""


class Measured(NamedTuple):
    """What the metrics together ask for."""

    replicas: int
    metric: str
    statuses: list[Object]


class Tools(Struct, frozen=True):
    """What all syncs share."""

    clock: Clock
    recorder: EventRecorder
    scales: Scales
    reader: MetricsReader
    pods: Informer
    tally: Tally
    histories: dict[Request, History]
    """What was recommended and done for each autoscaler."""
    selectors: dict[Request, Selector]
    """Of the targets, as they were last seen: no two autoscalers may have the same pods."""

    def forget(self, request: Request) -> None:
        self.histories.pop(request, None)
        self.selectors.pop(request, None)


class Sync:
    """One look at one autoscaler; `status` is what it comes to."""

    def __init__(self, tools: Tools, request: Request, found: Object) -> None:
        self.tools = tools
        self.request = request
        self.found = found
        self.spec: Object = found["spec"]
        self.status: Object = dict(found.get("status") or {})
        self.now_s = tools.clock.now()
        self.moment_s = tools.clock.monotonic()
        """Of what is remembered: a clock that is set must not stretch a window."""
        self.action = NOTHING
        """What was done with the target."""

    async def run(self) -> None:
        """Raises SyncError, and Conflict where the target was changed meanwhile."""
        reference = self.spec["scaleTargetRef"]
        try:
            target = self.tools.scales.resource(
                reference.get("apiVersion") or "", reference["kind"]
            )
            scale = await self.tools.scales.get(target, self.request.namespace, reference["name"])
        except (NoKindError, StatusError, OSError) as error:
            self._tell(WARNING, "FailedGetScale", str(error))
            why = f"the HPA controller was unable to get the target's current scale: {error}"
            self._set(ABLE, Told(False, "FailedGetScale", why))
            fault = SPEC if isinstance(error, NoKindError) else INTERNAL
            raise SyncError(f"failed to query scale subresource: {error}", fault) from None
        self._set(ABLE, FOUND)
        current = replicas_of(scale)
        history = self.tools.histories.setdefault(self.request, History())
        begin(history, current, self.moment_s)
        desired, reason, measured = await self._decide(scale, history)
        rescaled = desired != current
        if rescaled:
            try:
                await self.tools.scales.update(target, scale, desired)
            except Conflict:
                raise
            except (StatusError, OSError) as error:
                text = f"New size: {desired}; reason: {reason}; error: {error}"
                self._tell(WARNING, "FailedRescale", text)
                why = f"the HPA controller was unable to update the target scale: {error}"
                self._set(ABLE, Told(False, "FailedUpdateScale", why))
                self._count(current, self.status.get("desiredReplicas", 0), None)
                raise SyncError(f"failed to rescale: {error}") from None
            self.action = action_of(current, desired)
            why = f"the HPA controller was able to update the target scale to {desired}"
            self._set(ABLE, Told(True, "SucceededRescale", why))
            self._tell(NORMAL, "SuccessfulRescale", f"New size: {desired}; reason: {reason}")
            note_change(history, self.spec.get("behavior"), desired - current, self.moment_s)
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
        limited = limit(asked, self.spec.get("behavior"), history, self.moment_s)
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
                proposal = await self._propose(target, metric)
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

    async def _propose(self, target: Target, metric: Object) -> Proposal:
        """What one metric asks for, counted. Raises SourceError."""
        tools, kind = self.tools, metric.get("type") or ""
        began = tools.clock.monotonic()
        try:
            proposal = await propose(target, metric)
        except SourceError as error:
            fault = SPEC if error.reason == UNKNOWN else INTERNAL
            tools.tally.note_metric(NOTHING, fault, kind, tools.clock.monotonic() - began)
            raise
        action = action_of(target.scaled.replicas, proposal.replicas)
        tools.tally.note_metric(action, NOBODY, kind, tools.clock.monotonic() - began)
        return proposal

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
        self.tools.selectors[self.request] = selector
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
        return Target(self.request.namespace, selector, scaled, self.tools.reader)

    def _pods(self, selector: Selector) -> list[Object]:
        equal = dict(selector.equals)
        pods, namespace = self.tools.pods, self.request.namespace
        listed = selected(pods, namespace, equal) if equal else pods.list(namespace)
        return [pod for pod in listed if selector.matches(pod["metadata"].get("labels") or {})]

    def _others(self, pods: list[Object]) -> list[Request]:
        """Autoscalers that have one of these pods too."""
        return [
            request
            for request, selector in self.tools.selectors.items()
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
        self.tools.recorder.event(self.found, kind, reason, text)


def _tolerance(spec: Object) -> Tolerance:
    behavior = spec.get("behavior") or {}
    down, up = (
        (behavior.get(direction) or {}).get("tolerance") for direction in ("scaleDown", "scaleUp")
    )
    return Tolerance(
        TOLERANCE if down is None else nanos(down) / NANO,
        TOLERANCE if up is None else nanos(up) / NANO,
    )
