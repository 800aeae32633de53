"""What a pod needs next: a pure function of what is known and the time.

`decide` reads a `PodState` and says which containers to start and which to kill, how the restart
back-offs change and when to look again. The rules are kubelet's (pkg/kubelet/kuberuntime
computePodActions, client-go flowcontrol.Backoff).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from sampan.api.kinds.core.podspec.status import may_restart

from .allocation import WHOLE_POD, changed_resources, needs_restart
from .hooks import hook_of
from .state import (
    EXITED,
    RUNNING,
    Crash,
    PodState,
    Waiting,
    any_regular_started,
    can_restart,
    is_sidecar,
    restarts_all,
)

# kubelet's MaxContainerBackOff and its initial value; a container that ran twice the
# longest delay starts over.
CRASH_INITIAL_S = 10.0
CRASH_CAP_S = 300.0
CRASH_RESET_S = 2 * CRASH_CAP_S

CRASH_LOOP = "CrashLoopBackOff"
DEADLINE = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")


class Kill(Struct, frozen=True):
    """Stop one container; the pod's policy decides whether it comes back."""

    name: str
    why: str
    """The event's message."""
    probe: str = ""
    """The probe that wants it, which may have a grace period of its own."""
    again: bool = True
    """It is started again even where its exit code and the policy would leave it."""
    hasty: bool = False
    """Without hook and grace."""


class Plan(Struct):
    """What to do now. Everything in it may be done at once."""

    start: list[str] = field(default_factory=list)
    kill: list[Kill] = field(default_factory=list)
    resize: list[str] = field(default_factory=list)
    """Running containers to be given the limits they were promised."""
    crashes: dict[str, Crash] = field(default_factory=dict)
    """Back-offs that change because their container is started again."""
    waiting: dict[str, Waiting] = field(default_factory=dict)
    """Containers that have to wait for their back-off."""
    wake_at: float = 0
    """When to decide again even if nothing happens; 0 is never."""
    rewind: bool = False
    """Once nothing is being done: the pod starts from its first init container."""
    done: bool = False
    """Nothing will ever be started again: stop what still runs and release the pod."""
    failure: tuple[str, str] | None = None

    def wake(self, at: float) -> None:
        if at and (not self.wake_at or at < self.wake_at):
            self.wake_at = at


def decide(state: PodState, now: float) -> Plan:
    """The next step of a pod that is meant to run."""
    plan = Plan()
    if (state.pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        plan.done = True
        return plan
    deadline = state.spec.get("activeDeadlineSeconds")
    if deadline is not None and state.started_at:
        end = state.started_at + float(deadline)
        if now >= end and not is_finished(state):
            plan.failure = DEADLINE
            plan.done = True
            return plan
        plan.wake(end)
    if not state.failure and is_rewinding(state):
        _end_all(state, plan)
        return plan
    if state.failure or is_finished(state):
        plan.done = True
        plan.wake_at = 0
        return plan
    if _init(state, now, plan):
        _regular(state, now, plan)
    # After its containers: what bounds them may not become less than they still have.
    _resize_pod(state, now, plan)
    if state.sandbox:
        for container in state.spec.get("ephemeralContainers") or ():
            # They are added to a pod that runs, and run once.
            _consider(state, container, "Never", now, plan)
    return plan


def is_rewinding(state: PodState) -> bool:
    """A container has exited in a way that restarts all, and they have not been yet."""
    for container in every_container(state):
        last = state.last(container["name"])
        if (
            last is not None
            and last.state == EXITED
            and container["name"] not in state.fresh
            and restarts_all(container, last.exit_code)
        ):
            return True
    return False


def every_container(state: PodState) -> list[Mapping[str, Any]]:
    """But those added for debugging."""
    return [*(state.spec.get("initContainers") or ()), *state.spec["containers"]]


def _end_all(state: PodState, plan: Plan) -> None:
    """Everything is ended quickly, then all starts from the beginning."""
    for container in every_container(state):
        name = container["name"]
        last = state.last(name)
        if last is not None and last.state != EXITED:
            why = f"Container {name} will be restarted with all containers of its pod"
            plan.kill.append(Kill(name, why, hasty=True))
    plan.rewind = not plan.kill


def is_finished(state: PodState) -> bool:
    """No container will run again: all have exited and the restart policies leave them so."""
    if state.again:
        return False
    if not any_regular_started(state):
        for container in state.spec.get("initContainers") or ():
            last = state.last(container["name"])
            if last is None or is_sidecar(container) or not last.exit_code:
                continue
            if _has_given_up(state, container):
                return True
    return all(_has_given_up(state, container) for container in state.spec["containers"])


def _has_given_up(state: PodState, container: Mapping[str, Any]) -> bool:
    """It has exited, and its policy and rules leave it so."""
    last = state.last(container["name"])
    return (
        last is not None
        and last.state == EXITED
        and not may_restart(container, state.policy, last.exit_code)
    )


def _init(state: PodState, now: float, plan: Plan) -> bool:
    """Advance the init containers, one after the other; true when the others may start."""
    initialised = any_regular_started(state)
    for container in state.spec.get("initContainers") or ():
        name = container["name"]
        last = state.last(name)
        if is_sidecar(container):
            _consider(state, container, "Always", now, plan)
            running = last is not None and last.state != EXITED and name not in state.hooking
            if not initialised and not (running and state.health_of(name).started):
                return False
            continue
        done = last is not None and last.state == EXITED and last.exit_code == 0
        if initialised or (done and name not in state.fresh):
            continue
        # A failed one is tried again whatever the policy but Never, which is_finished saw.
        _consider(state, container, "OnFailure", now, plan)
        return False
    return True


def _regular(state: PodState, now: float, plan: Plan) -> None:
    """All at once; but one with a postStart hook keeps those behind it from starting until the
    hook has ended, which many rely on to have a proxy before its users."""
    blocked = False
    for container in state.spec["containers"]:
        name = container["name"]
        _consider(state, container, state.policy, now, plan)
        starts = bool(plan.start) and plan.start[-1] == name
        if blocked and starts:
            plan.start.pop()
            plan.crashes.pop(name, None)
        elif name in state.hooking or (starts and hook_of(container, "postStart")):
            blocked = True


def _consider(
    state: PodState, container: Mapping[str, Any], policy: str, now: float, plan: Plan
) -> None:
    """Start, restart, kill or leave one container."""
    name = container["name"]
    last = state.last(name)
    held = state.waiting.get(name)
    if last is not None and last.state != EXITED:
        condemned = state.health_of(name).condemned
        if last.image and last.image != container.get("image"):
            why = f"Container {name} definition changed, will be restarted"
            plan.kill.append(Kill(name, why))
        elif condemned:
            again = can_restart(container, state.policy)
            why = f"Container {name} failed {condemned} probe{', will be restarted' * again}"
            plan.kill.append(Kill(name, why, condemned, again=again))
        elif last.state == RUNNING:
            _resize(state, container, now, plan)
        return
    if last is not None:
        if not may_restart(container, policy, last.exit_code) and name not in state.again:
            return
        crash = state.crashes.get(name)
        until = _back_off_end(crash, min(_ended_at(state, name), now))
        if held is not None and held.reason == CRASH_LOOP:
            # What was decided when it ended holds: the clock may have been set since.
            until = held.retry_at
        if now < until:
            assert crash is not None
            plan.waiting[name] = Waiting(CRASH_LOOP, _crash_text(state, name, crash), until)
            plan.wake(until)
            return
    if (
        held is not None
        and held.reason != CRASH_LOOP
        and (now < held.retry_at or not held.retry_at)
    ):
        plan.wake(held.retry_at)
        return
    if last is not None:
        plan.crashes[name] = _lengthened(state, name, last.finished_at, now)
    plan.start.append(name)


def _resize(state: PodState, container: Mapping[str, Any], now: float, plan: Plan) -> None:
    """Bring a running container to what it was promised, in place or by a restart."""
    name = container["name"]
    has, promised = state.actuated.get(name), state.allocated.get(name)
    if has is None or promised is None:
        return
    changed = changed_resources(promised, has)
    if not changed:
        return
    if needs_restart(container, changed):
        plan.kill.append(Kill(name, f"Container {name} resize requires restart"))
    elif now < state.resizing.retry_at:
        plan.wake(state.resizing.retry_at)
    else:
        plan.resize.append(name)


def _resize_pod(state: PodState, now: float, plan: Plan) -> None:
    """Limits of the pod's own cgroup, which is there once a container is."""
    promised = state.allocated.get(WHOLE_POD)
    if promised is None or not any(
        runs[-1].state == RUNNING for runs in state.attempts.values() if runs
    ):
        return
    if not changed_resources(promised, state.actuated.get(WHOLE_POD, {})):
        return
    if now < state.resizing.retry_at:
        plan.wake(state.resizing.retry_at)
    else:
        plan.resize.append(WHOLE_POD)


def _ended_at(state: PodState, name: str) -> float:
    """From when the back-off counts: one that we killed has not crashed, so it is its forerunner's
    end that counts, as kubelet has it, which kills and starts in one go."""
    runs = state.attempts[name]
    if name in state.again:
        return runs[-2].finished_at if len(runs) > 1 else 0
    return runs[-1].finished_at


def _back_off_end(crash: Crash | None, exited_at: float) -> float:
    if crash is None or exited_at - crash.updated_at > CRASH_RESET_S:
        return 0
    return exited_at + crash.delay_s


def _lengthened(state: PodState, name: str, exited_at: float, now: float) -> Crash:
    """The first restart is immediate and arms ten seconds for the next, then it doubles."""
    crash, cap_s = state.crashes.get(name), state.crash_cap_s
    if crash is None or exited_at - crash.updated_at > CRASH_RESET_S:
        return Crash(min(CRASH_INITIAL_S, cap_s), now)
    return Crash(min(crash.delay_s * 2, cap_s), now)


def _crash_text(state: PodState, name: str, crash: Crash) -> str:
    meta = state.pod["metadata"]
    return (
        f"back-off {go_duration(crash.delay_s)} restarting failed container={name} "
        f"pod={meta['name']}_{meta['namespace']}({meta['uid']})"
    )


def go_duration(seconds: float) -> str:
    """To the millisecond, the way Go prints it: 871ms, 10s, 1m20.5s, 1h0m0s."""
    milliseconds = int(seconds * 1000)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
