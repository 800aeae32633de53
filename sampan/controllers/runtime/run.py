"""Starts every controller of `CONTROLLERS`.

Tasks: per controller one that waits for its caches and keeps its timer, and its workers while
there is work; per recorder one. All controllers share one informer per resource.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from sampan.aio.clock import Clock
from sampan.aio.tasks import Supervisor
from sampan.client.api import Client
from sampan.client.informer import Informers

from .controller import Context, Controller, Options
from .metrics import exposition


class Running(Struct, frozen=True):
    """The controllers under way. Their supervised tasks end with the supervisor."""

    controllers: Sequence[Controller]

    @property
    def idle(self) -> bool:
        """No controller has anything to do at this moment."""
        return all(controller.queue.idle for controller in self.controllers)

    def metrics(self) -> str:
        """Prometheus text, for the process's /metrics."""
        queues = exposition(controller.queue.read() for controller in self.controllers)
        return queues + "".join(controller.exposition() for controller in self.controllers)

    async def stop(self) -> None:
        """End the reconciles that are under way (before the supervisor's `stop`)."""
        for controller in self.controllers:
            await controller.queue.stop()


async def run_controllers(
    client: Client,
    informers: Informers,
    supervisor: Supervisor,
    clock: Clock,
    options: Options | None = None,
) -> Running:
    """Start all controllers and come back at once; they begin when their caches are filled."""
    from sampan.controllers import CONTROLLERS

    context = Context(client, informers, supervisor, clock, options or Options())
    controllers = [make(context) for make in CONTROLLERS]
    for controller in controllers:
        supervisor.start(f"controller {controller.name}", controller.run)
    return Running(controllers)
