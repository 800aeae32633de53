"""Simulated nodes beside a cluster's own: begun, changed and ended by the text in DATA/simulate.

They run in the control process, on the in-process transport: a status they post is neither encoded
nor carried. SIGHUP has the text read again. A cluster without the file loads nothing of them.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import TYPE_CHECKING

from sampan.aio.clock import Clock
from sampan.aio.tasks import Supervisor
from sampan.api.principals import AUTHENTICATED, MASTERS
from sampan.client.api import Client
from sampan.client.informer import Informers
from sampan.paths import ClusterPaths
from sampan.server.app import Server
from sampan.server.exchange import User

from .child import Child

if TYPE_CHECKING:
    from sampan.api.simulation import Simulation
    from sampan.node.simulation.nodes import SimulatedNodes

log = logging.getLogger("sampan.simulation")

SIMULATOR = User("system:node-simulator", (MASTERS, AUTHENTICATED))


class Keeper:
    """Runs what the file says; `run` until cancelled."""

    def __init__(self, child: Child, server: Server, informers: Informers, clock: Clock) -> None:
        self._child = child
        self._paths: ClusterPaths = child.paths
        self._server = server
        self._informers = informers
        self._clock = clock
        self._changed = asyncio.Event()
        self._done = 0
        """How often a text has been carried out, for who waits for the next one."""
        self._supervisor = Supervisor(clock, child.task_failed)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._changed.set)
        try:
            while True:
                if self._paths.simulation.exists():
                    await self._apply()
                await self._changed.wait()
                self._changed.clear()
        finally:
            await self._supervisor.stop()

    async def _apply(self) -> None:
        from sampan.api.simulation import parse

        try:
            wanted = parse(self._paths.simulation.read_text())
        except (OSError, ValueError) as error:
            log.error("nothing is simulated: %s: %s", self._paths.simulation, error)
            return
        await self._supervisor.stop()
        nodes = self._nodes(wanted)
        await self._withdraw(nodes, set(wanted.names))
        nodes.start(self._supervisor)
        await nodes.presence.registered.wait()
        self._done += 1
        self._child.say(simulations=self._done)

    def _nodes(self, wanted: Simulation) -> SimulatedNodes:
        from sampan.node.simulation.chances import Chances, number_of
        from sampan.node.simulation.nodes import SimulatedNodes
        from sampan.node.simulation.shape import CAPACITY, LARGE_CIDR, Shape
        from sampan.server.usage import summarize_by

        capacity = {**CAPACITY, "cpu": wanted.cpu, "memory": wanted.memory, "pods": wanted.pods}
        # Their pods' addresses are never those of the cluster's own network.
        shape = Shape(wanted.names, LARGE_CIDR, capacity, zones=wanted.zones)
        client = Client(self._server.local_transport(SIMULATOR))
        nodes = SimulatedNodes(client, self._informers, self._clock, shape, Chances(wanted))
        nodes.presence.lease_s = wanted.lease
        nodes.presence.silent |= {n for n in shape.names if number_of("lost", n) < wanted.lost}
        summarize_by(self._server, nodes.summary)
        return nodes

    async def _withdraw(self, nodes: SimulatedNodes, wanted: set[str]) -> None:
        """Take away the nodes of an earlier text."""
        from sampan.api.resources import resource
        from sampan.node.simulation.shape import is_simulated

        known = self._informers.informer(resource("nodes"))
        await known.synced()
        gone = [item["metadata"]["name"] for item in known.list() if is_simulated(item)]
        await nodes.presence.withdraw(name for name in gone if name not in wanted)
