"""One simulated pod: time and a script in, its status and the next moment of interest out.

The agent's `machine` decides, as for real pods; the containers it wants started or stopped exist
only in the `PodState`. No I/O, no clock: `step` is told what time it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sampan.api.errors import Object

from ..machine import Plan, decide
from ..state import EXITED, RUNNING, Attempt, Crash, Health, PodState, Waiting, is_sidecar
from ..status import pod_status
from .outcome import Outcome, Script

TERMINATED_EXIT = 143
"""A container ended by SIGTERM: 128 + 15."""
DEFAULT_GRACE_S = 30.0
ROUNDS = 1_000
"""Most things that may happen at one moment; a container that exits at once for ever is then
left until the next look instead of hanging the loop."""
AGAIN_S = 1.0


class Step(Struct, frozen=True):
    """What a look at a pod found."""

    status: Object
    wake_at: float
    """When to look again; 0: only when something changes."""
    gone: bool
    """Everything has stopped: the pod's object may go."""


class SimulatedPod:
    """Made when a pod is first seen on a simulated node."""

    def __init__(self, pod: Object, ip: str, now: float) -> None:
        status = pod.get("status") or {}
        self.state = PodState(pod, ip=ip, sandbox=True, known=status, started_at=now)
        self._starting: dict[str, float] = {}
        self._stopping_at: float | None = None
        self._adopt(status)

    def _adopt(self, status: Object) -> None:
        """Go on from what an earlier simulation reported."""
        for field in ("initContainerStatuses", "containerStatuses"):
            for item in status.get(field) or ():
                running = item["state"].get("running")
                if running is not None:
                    run = Attempt(
                        item["containerID"].rpartition("/")[2],
                        item["restartCount"],
                        RUNNING,
                        image=item["image"],
                        started_at=self.state.started_at,
                    )
                    self.state.attempts[item["name"]] = [run]
        if status.get("phase") in ("Succeeded", "Failed"):
            self.state.stopped = True

    def step(self, pod: Object, script: Script, now: float) -> Step:
        """Bring the pod to `now`."""
        state = self.state
        state.pod = pod
        if pod["metadata"].get("deletionTimestamp"):
            return self._stop(script, now)
        wake_at = 0.0
        for _ in range(ROUNDS):
            moved = self._advance(script, now)
            plan = decide(state, now)
            moved |= self._carry_out(plan, script, now)
            wake_at = self._next(plan, script, now)
            if not moved:
                break
        else:
            wake_at = now + AGAIN_S
        return self._seen(now, wake_at, gone=False)

    def _seen(self, now: float, wake_at: float, *, gone: bool) -> Step:
        status = self.state.known = pod_status(self.state, now, "127.0.0.1")
        return Step(status, wake_at, gone)

    # Time passes

    def _advance(self, script: Script, now: float) -> bool:
        """Containers that have started, ended or become ready by now. Did any?"""
        state, moved = self.state, False
        for name, due in tuple(self._starting.items()):
            if due <= now:
                del self._starting[name]
                self._run(name, due)
                moved = True
        for container in _containers(state.pod):
            name = container["name"]
            last = state.last(name)
            if last is None or last.state != RUNNING:
                continue
            outcome = script.outcome(state.pod, container)
            end = self._end_of(container, last, outcome)
            if end is not None and end <= now:
                self._exit(name, last, outcome, end)
                moved = True
            else:
                state.health[name] = _health(last, outcome, now)
        return moved

    def _end_of(self, container: Mapping[str, Any], run: Attempt, outcome: Outcome) -> float | None:
        run_s = outcome.run_s
        if run_s is None and not is_sidecar(container):
            init = container not in self.state.spec["containers"]
            run_s = 0.0 if init or self.state.policy != "Always" else None
        return None if run_s is None else run.started_at + run_s

    def _run(self, name: str, at: float) -> None:
        runs = self.state.attempts.setdefault(name, [])
        count = runs[-1].restart_count + 1 if runs else 0
        image = next(
            (item.get("image", "") for item in _containers(self.state.pod) if item["name"] == name),
            "",
        )
        runs.append(
            Attempt(
                _digest(f"{self.state.uid}/{name}/{count}"),
                count,
                RUNNING,
                image=image,
                image_ref=image,
                image_id=f"sha256:{_digest(image)}",
                started_at=at,
            )
        )
        del runs[:-2]

    def _exit(self, name: str, run: Attempt, outcome: Outcome, at: float) -> None:
        self.state.attempts[name][-1] = replace(
            run,
            state=EXITED,
            finished_at=at,
            exit_code=outcome.exit_code,
            reason=outcome.reason,
            message=outcome.message,
        )
        self.state.health.pop(name, None)

    # What the machine wants

    def _carry_out(self, plan: Plan, script: Script, now: float) -> bool:
        state, moved = self.state, False
        if plan.failure:
            state.failure = plan.failure
        state.waiting.update(plan.waiting)
        by_name = {item["name"]: item for item in _containers(state.pod)}
        for name in plan.start:
            if name in self._starting:
                continue
            outcome = script.outcome(state.pod, by_name[name])
            if outcome.waiting:
                held = Waiting(outcome.waiting, outcome.message)
                moved |= state.waiting.get(name) != held
                state.waiting[name] = held
                continue
            if name in plan.crashes:
                state.crashes[name] = _bounded(plan.crashes[name], outcome)
            state.waiting.pop(name, None)
            self._starting[name] = now + outcome.start_s
            moved = True
        for kill in plan.kill:
            last = state.last(kill.name)
            if last is not None and last.state == RUNNING:
                self._exit(kill.name, last, Outcome(exit_code=TERMINATED_EXIT), now)
                moved = True
        if plan.done and not state.stopped:
            self._end_all(now)
            state.stopped = moved = True
        return moved

    def _next(self, plan: Plan, script: Script, now: float) -> float:
        for due in self._starting.values():
            plan.wake(due)
        for container in _containers(self.state.pod):
            last = self.state.last(container["name"])
            if last is None or last.state != RUNNING:
                continue
            outcome = script.outcome(self.state.pod, container)
            end = self._end_of(container, last, outcome)
            ready = None if outcome.ready_s is None else last.started_at + outcome.ready_s
            for moment in (end, ready):
                if moment is not None and moment > now:
                    plan.wake(moment)
        return plan.wake_at

    def rescript(self, script: Script) -> None:
        """The script has changed: what was held back may start now."""
        for container in _containers(self.state.pod):
            name = container["name"]
            outcome = script.outcome(self.state.pod, container)
            held = self.state.waiting.get(name)
            if held is not None and not held.retry_at and held.reason != outcome.waiting:
                del self.state.waiting[name]
            crash = self.state.crashes.get(name)
            if crash is not None:
                self.state.crashes[name] = _bounded(crash, outcome)

    # The end

    def _stop(self, script: Script, now: float) -> Step:
        state = self.state
        state.terminating = True
        self._starting.clear()
        if self._stopping_at is None:
            seconds = max(
                (
                    script.outcome(state.pod, item).stop_s
                    for item in _containers(state.pod)
                    if (last := state.last(item["name"])) is not None and last.state == RUNNING
                ),
                default=0.0,
            )
            self._stopping_at = now + seconds
        grace = state.pod["metadata"].get("deletionGracePeriodSeconds")
        limit = DEFAULT_GRACE_S if grace is None else float(grace)
        end = min(self._stopping_at, now + limit)
        if now < end:
            self._stopping_at = end
            return self._seen(now, end, gone=False)
        self._end_all(now)
        state.stopped = True
        return self._seen(now, 0.0, gone=True)

    def _end_all(self, now: float) -> None:
        for name, runs in self.state.attempts.items():
            if runs and runs[-1].state == RUNNING:
                self._exit(name, runs[-1], Outcome(exit_code=TERMINATED_EXIT), now)


def _containers(pod: Object) -> list[Object]:
    spec = pod["spec"]
    return [
        *(spec.get("initContainers") or ()),
        *spec["containers"],
        *(spec.get("ephemeralContainers") or ()),
    ]


def _health(run: Attempt, outcome: Outcome, now: float) -> Health:
    ready_s = outcome.ready_s
    return Health(started=True, ready=ready_s is not None and now >= run.started_at + ready_s)


def _bounded(crash: Crash, outcome: Outcome) -> Crash:
    if outcome.back_off_s is None:
        return crash
    return replace(crash, delay_s=min(crash.delay_s, outcome.back_off_s))


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
