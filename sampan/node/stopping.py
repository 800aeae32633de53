"""Stopping one container of a pod: hook, its turn, signal, grace, SIGKILL."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from sampan.runtime.interface import RuntimeFailure, State

from .hooks import PRE_STOP_FAILED, hook_of, run_hook
from .looks import Target
from .state import EXITED

if TYPE_CHECKING:
    from .worker import PodWorker

log = logging.getLogger("sampan.node.stopping")

# How often a kill is repeated when a container does not go (a process in uninterruptible sleep).
KILL_AGAIN_S = 10.0


async def stop_container(
    worker: PodWorker,
    name: str,
    why: str,
    grace: Callable[[], float],
    turn: Callable[[], bool] = lambda: True,
    *,
    hook: bool = True,
) -> None:
    """Returns once it has exited. `grace()` is asked again whenever the pod changes; the signal
    waits until it is this container's `turn()`, or its grace is used up. `hook` false leaves out
    the preStop hook."""
    run = worker.state.last(name)
    if run is None or run.state == EXITED or not run.id:
        return
    clock = worker.parts.clock
    container = worker.containers[name]
    worker.narrator.container(container, "Normal", "Killing", why)
    began = clock.now()
    waited = False
    action = hook_of(container, "preStop")
    if action and hook:
        waited = True
        await _pre_stop(worker, container, action, lambda: began + grace())
    if not turn():
        waited = True
        await _await(
            worker, run.id, lambda: turn() or worker.has_exited(name, run.id),
            lambda: began + grace(),
        )  # fmt: skip
    # After a wait at least a moment is left (upstream: two seconds).
    least = clock.now() + min(2.0, grace()) if waited else 0.0
    since = clock.monotonic()
    await _signal(worker, name, lambda: max(began + grace(), least))
    worker.parts.tally.operation("stop_container", clock.monotonic() - since)


async def _pre_stop(
    worker: PodWorker,
    container: Mapping[str, Any],
    hook: Mapping[str, Any],
    until: Callable[[], float],
) -> None:
    """The hook, for as long as its container runs and the grace lasts."""
    name = container["name"]
    run = worker.state.last(name)
    assert run is not None
    target = Target(container, run.id, worker.sandbox.ip)
    parts = worker.parts
    task = asyncio.ensure_future(run_hook(parts.runtime, parts.clock, target, hook))
    task.add_done_callback(lambda _: worker.pulse.beat())
    try:
        gone = partial(worker.has_exited, name, run.id)
        await _await(worker, run.id, lambda: task.done() or gone(), until)
        if not gone() and not (task.done() and task.result().good):
            worker.narrator.container(container, "Warning", *PRE_STOP_FAILED)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _signal(worker: PodWorker, name: str, until: Callable[[], float]) -> None:
    """Its stop signal, and SIGKILL once the time is up."""
    run = worker.state.last(name)
    assert run is not None
    clock, runtime = worker.parts.clock, worker.parts.runtime
    gone = partial(worker.has_exited, name, run.id)
    number = _stop_signal(worker, name)
    while not gone():
        try:
            await runtime.kill(run.id, number)
        except RuntimeFailure as error:
            log.warning("container %s: %s", run.id, error)
        if number != signal.SIGKILL:
            await _await(worker, run.id, gone, until)
            number = signal.SIGKILL
            continue
        again = clock.now() + KILL_AGAIN_S
        await _await(worker, run.id, gone, lambda: again)  # noqa: B023


async def _await(
    worker: PodWorker, run_id: str, done: Callable[[], bool], until: Callable[[], float]
) -> None:
    """Until it is done, or the time that `until` says (asked anew at every change)."""
    while True:
        seen = worker.pulse.count
        _look_again(worker, run_id)
        if done():
            return
        left = until() - worker.parts.clock.now()
        if left <= 0:
            return
        if worker.pulse.count == seen:
            await worker.pulse.wait(left)


def _look_again(worker: PodWorker, run_id: str) -> None:
    """An exit that came before anybody listened is seen here."""
    now = worker.parts.runtime.get(run_id)
    if now is not None and now.state == State.EXITED:
        for runs in worker.state.attempts.values():
            if any(run.id == run_id and run.state != EXITED for run in runs):
                worker.exited(now)


def _stop_signal(worker: PodWorker, name: str) -> int:
    """The container's own stopSignal, the image's, or SIGTERM."""
    container = worker.containers[name]
    text = (container.get("lifecycle") or {}).get("stopSignal") or ""
    if not text:
        image = worker.parts.images.find(container.get("image", ""))
        text = image.stop_signal if image is not None else ""
    if text.isdigit():
        return int(text)
    if text:
        found = getattr(signal, text if text.startswith("SIG") else f"SIG{text}", None)
        if isinstance(found, signal.Signals):
            return int(found)
    return int(signal.SIGTERM)
