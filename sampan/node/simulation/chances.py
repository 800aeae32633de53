"""What becomes of the pods of `sampan up --simulate`: by chance, but always the same for one pod.

A pod's number comes from its uid, so that nothing is remembered per pod and a simulation that is
started again goes on as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

from sampan.api.errors import Object
from sampan.api.simulation import Simulation, Span

from .outcome import RUNS, Outcome, Script

CRASH_S = 1.0
"""How long a container that fails runs each time."""


class Chances(Script):
    """A script whose outcome, where no rule speaks of a pod, is drawn."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__()
        self._simulation = simulation

    def outcome(self, pod: Object, container: Mapping[str, Any]) -> Outcome:
        found = super().outcome(pod, container)
        return found if found is not RUNS else draw(self._simulation, pod, container)


def draw(simulation: Simulation, pod: Object, container: Mapping[str, Any]) -> Outcome:
    """The outcome of one container of a pod."""
    uid = pod["metadata"]["uid"]
    image = container.get("image", "")
    crashes = number_of("fail", uid) < simulation.fail
    unpulled = number_of("pull", uid) < simulation.pull
    return Outcome(
        start_s=_within(simulation.start, "start", uid),
        ready_s=_within(simulation.ready, "ready", uid),
        stop_s=_within(simulation.stop, "stop", uid),
        run_s=CRASH_S if crashes else None,
        exit_code=1 if crashes else 0,
        waiting="ImagePullBackOff" if unpulled else "",
        message=f'Back-off pulling image "{image}"' if unpulled else "",
    )


def number_of(what: str, uid: str) -> float:
    """From 0 to 1, evenly over uids, and for each `what` another."""
    return crc32(f"{what} {uid}".encode()) / 2**32


def _within(span: Span, what: str, uid: str) -> float:
    wide = span.most_s - span.least_s
    return span.least_s + wide * number_of(what, uid) if wide else span.least_s
