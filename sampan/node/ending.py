"""In which order a pod's containers are stopped, and how long each may take.

Grace periods are functions: they may shrink while one waits, when the pod is deleted, or deleted
again with less. A pod whose object has gone was removed by force: its containers get the least.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from .deletion import delete_object
from .probes import FIELDS
from .state import EXITED, is_sidecar
from .stopping import stop_container

if TYPE_CHECKING:
    from .worker import PodWorker

GRACE_DEFAULT_S = 30.0
# A container always gets a moment between SIGTERM and SIGKILL.
GRACE_MIN_S = 1.0


async def remove_written(worker: PodWorker) -> None:
    """Roots and volumes of a pod that is over. Raises Failure and OSError."""
    runtime = worker.parts.runtime
    for runs in tuple(worker.state.attempts.values()):
        for run in runs:
            if run.id and runtime.get(run.id) is not None:
                await runtime.delete(run.id)
    await worker.parts.volumes.remove(worker.state.uid)


def grace_of_spec(worker: PodWorker) -> float:
    """terminationGracePeriodSeconds."""
    seconds = worker.state.spec.get("terminationGracePeriodSeconds")
    return max(GRACE_MIN_S, float(GRACE_DEFAULT_S if seconds is None else seconds))


def grace_of_deletion(worker: PodWorker) -> float:
    """As the pod was deleted with."""
    seconds = worker.state.pod["metadata"].get("deletionGracePeriodSeconds")
    if worker.gone or seconds is None:
        return GRACE_MIN_S
    return max(GRACE_MIN_S, float(seconds))


def grace_of_finish(worker: PodWorker) -> float:
    """Of a pod that ends by itself, and may be deleted while it does."""
    seconds = grace_of_spec(worker)
    if worker.grace_limit_s is not None:
        seconds = max(GRACE_MIN_S, min(seconds, worker.grace_limit_s))
    return min(seconds, grace_of_deletion(worker)) if worker.ends else seconds


def grace_of_restart(
    worker: PodWorker, name: str, probe: str = "", *, hasty: bool = False
) -> Callable[[], float]:
    """Of a container that is killed while its pod lives on: that of the probe which failed, if it
    has one of its own, or the pod's; the least when it is `hasty`."""
    field = FIELDS.get(probe, "")
    own = (worker.containers[name].get(field) or {}).get("terminationGracePeriodSeconds")

    def grace() -> float:
        if hasty:
            return GRACE_MIN_S
        if own is None or worker.ends:
            return grace_of_finish(worker)
        return max(GRACE_MIN_S, float(own))

    return grace


async def stop_containers(worker: PodWorker, grace: Callable[[], float]) -> None:
    """Regular containers together; sidecars after them, last one first (KEP-753). Hooks run at
    once for all: a sidecar's signal, not its hook, waits for those it serves."""
    for prober in worker.probers.values():
        prober.wind_down()
    inits = worker.state.spec.get("initContainers") or ()
    sidecars = [item["name"] for item in inits if is_sidecar(item)]
    others = [name for name in worker.containers if name not in sidecars]
    stops = [stop_container(worker, name, _why(name), grace) for name in others]
    for index, name in enumerate(sidecars):
        turn = partial(_have_exited, worker, [*others, *sidecars[index + 1 :]])
        stops.append(stop_container(worker, name, _why(name), grace, turn))
    await asyncio.gather(*stops)


def _why(name: str) -> str:
    return f"Stopping container {name}"


def _have_exited(worker: PodWorker, names: Iterable[str]) -> bool:
    runs = (worker.state.last(name) for name in names)
    return all(run is None or run.state == EXITED or not run.id for run in runs)


async def end_object(worker: PodWorker) -> None:
    """Take the pod's object away, if the API knows the pod."""
    parts, pod = worker.parts, worker.state.pod
    if uid := parts.reports.uid_of(pod["metadata"]["uid"]):
        await delete_object(parts.client, parts.clock, pod, uid, lambda: worker.gone)
