"""Stopping one container of a pod: hook, signal, grace, SIGKILL."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from sampan.runtime.interface import RuntimeFailure, State

from .looks import Target, look
from .state import EXITED

if TYPE_CHECKING:
    from .worker import PodWorker

log = logging.getLogger("sampan.node.stopping")

# How often a kill is repeated when a container does not go (a process in uninterruptible sleep).
KILL_AGAIN_S = 10.0


async def stop_container(
    worker: PodWorker, name: str, why: str, grace: Callable[[], float]
) -> None:
    """Returns once it has exited. `grace()` is asked again whenever the pod changes."""
    run = worker.state.last(name)
    if run is None or run.state == EXITED or not run.id:
        return
    clock, runtime = worker.parts.clock, worker.parts.runtime
    container = worker.containers[name]
    worker.narrator.container(container, "Normal", "Killing", why)
    began = clock.now()
    hook = (container.get("lifecycle") or {}).get("preStop")
    if hook:
        if "sleep" in hook:
            seconds = min(float(hook["sleep"].get("seconds") or 0), grace())
            await _await_exit(worker, name, run.id, lambda: began + seconds)
        else:
            target = Target(container, run.id, worker.sandbox.ip)
            result = await look(runtime, target, hook, grace())
            if not result.good:
                worker.narrator.container(
                    container, "Warning", "FailedPreStopHook", f"PreStopHook failed: {result.text}"
                )
    number = _stop_signal(worker, name)
    while not worker.has_exited(name, run.id):
        try:
            await runtime.kill(run.id, number)
        except RuntimeFailure as error:
            log.warning("container %s: %s", run.id, error)
        if number != signal.SIGKILL:
            # After a hook at least a moment is left (upstream: two seconds).
            least = clock.now() + min(2.0, grace()) if hook else 0.0
            await _await_exit(worker, name, run.id, lambda: max(began + grace(), least))  # noqa: B023
            number = signal.SIGKILL
            continue
        again = clock.now() + KILL_AGAIN_S
        await _await_exit(worker, name, run.id, lambda: again)  # noqa: B023


async def _await_exit(
    worker: PodWorker, name: str, run_id: str, until: Callable[[], float]
) -> None:
    """Until it has exited, or the time that `until` says (asked anew at every change)."""
    while True:
        seen = worker.pulse.count
        _look_again(worker, run_id)
        if worker.has_exited(name, run_id):
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
