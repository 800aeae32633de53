"""Controllers whose view of the cluster is tampered with (as Sieve does: Sun et al., OSDI 2022).

Three ways, each at a place that a seed draws:
- crash: they die after a write, before they learn that it was made, and are started anew; up to
  three times, and each time they may begin with a list from the past;
- missed: from some event of a resource on they are told nothing, and later list it anew, so that
  what came and went between was never seen;
- stale: the same events come, but later.

Everybody else (server, scheduler, simulated nodes) is healthy. Time is virtual.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sampan.aio.tasks import Supervisor
from sampan.api.errors import Expired, Object
from sampan.api.resources import resource
from sampan.client.api import Client
from sampan.client.informer import Informers
from sampan.client.interface import Transport, WatchEvent
from sampan.controllers.runtime.controller import Options as ControllerOptions
from sampan.controllers.runtime.run import Running, run_controllers
from sampan.testing import files
from sampan.testing.clock import VirtualClock
from sampan.testing.cluster import CONTROLLERS, Cluster, Options

from .mortal import Mortal

QUIET_TURNS = 30
"""Turns of the loop without a write or work, after which nothing more is on its way."""
STILL_TURNS = 2_000
"""The same while a reconcile is under way: what it waits for then is time (the server gives a
namespace some to get its service account), which does not pass by itself."""
MOST_TURNS = 50_000
"""More are a loop that never ends; a step takes a few thousand."""
PATTERNS = ("crash", "missed", "stale")
# Not the controllers' work: what is said of it, and other components' heartbeats.
ASIDE = ("/events", "/leases", "/nodes")


@dataclass(slots=True)
class Plan:
    """What goes wrong, and where. The default is nothing."""

    pattern: str = ""
    crashes: list[int] = field(default_factory=list)
    """After how many writes of each life it ends."""
    past: bool = False
    """Each life but the first begins with what was there when the one before it did."""
    path: str = ""
    """The collection whose events do not come."""
    after: int = 0
    """How many of them come before that."""

    @classmethod
    def drawn(cls, seed: int, writes: int, events: Mapping[str, int]) -> Plan:
        """The plan of a seed, for a run that makes so many writes and sees so many events."""
        dice = random.Random(seed)
        pattern = PATTERNS[seed % len(PATTERNS)]
        if pattern == "crash":
            lives = dice.randint(1, 3)
            crashes = [dice.randint(1, writes // lives) for _ in range(lives)]
            return cls(pattern, crashes, past=dice.random() < 0.5)
        path = dice.choice(sorted(path for path in events if not path.endswith(ASIDE)))
        return cls(pattern, path=path, after=dice.randint(0, events[path] - 1))


class Tampered(Mortal):
    """The transport of one life of the controllers."""

    aside = ASIDE

    def __init__(self, inner: Transport, plan: Plan, crash: int = 0, past: str = "") -> None:
        super().__init__(inner, crash)
        self.plan = plan
        self.past = past
        """The revision that lists show, "" for the present."""
        self.healed = asyncio.Event()
        self.events: Counter[str] = Counter()

    async def read(self, path: str, more: dict[str, Any]) -> Object:
        cached = "/namespaces/" not in path and not path.endswith(ASIDE)
        if self.past and not self.healed.is_set() and cached:
            return await self._list(path, more)
        return await super().read(path, more)

    async def _list(self, path: str, more: dict[str, Any]) -> Object:
        """What a cache's collection was. A single object, and what is listed of one namespace, is
        read as it is: such reads go to the quorum."""
        present = await self.inner.request("GET", path, **more)
        if "items" not in present:
            return present
        old = {"resourceVersion": self.past, "resourceVersionMatch": "Exact"}
        query = {**(more.get("query") or {}), **old}
        return await self.inner.request("GET", path, query=query)

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[WatchEvent]:
        if self.past and not self.healed.is_set() and not path.endswith(ASIDE):
            # The past is believed until the world is healed.
            await self.healed.wait()
        stream = self.inner.watch(path, query)
        try:
            async for event in stream:
                held = path == self.plan.path and self.events[path] >= self.plan.after
                if event.type != "BOOKMARK":
                    self.events[path] += 1
                if held and not self.healed.is_set():
                    await self.healed.wait()
                    if self.plan.pattern == "missed":
                        raise Expired("too old resource version")
                yield event
        finally:
            await stream.aclose()  # type: ignore[attr-defined]


@dataclass(slots=True)
class Life:
    """Controllers from their start to their death."""

    transport: Tampered
    supervisor: Supervisor
    running: Running

    async def end(self) -> None:
        await self.running.stop()
        await self.supervisor.stop()


class World:
    """A cluster whose controllers are tampered with by a plan."""

    def __init__(self, cluster: Cluster, plan: Plan) -> None:
        assert isinstance(cluster.clock, VirtualClock)
        self.cluster = cluster
        self.clock = cluster.clock
        self.plan = plan
        self.lives: list[Life] = []
        self.began = ""
        """The revision at which the present life was started."""
        self.healed = False
        self.seen: Counter[str] = Counter()
        """Events by collection that came before all was well."""
        self._supervisor = Supervisor(cluster.clock)
        informers = Informers(cluster.client, self._supervisor, cluster.clock)
        self.pods = informers.informer(resource("pods"))
        """As they are."""

    @classmethod
    async def start(cls, plan: Plan, nodes: int) -> World:
        cluster = await Cluster.start(Options(nodes=nodes, virtual_time=True))
        await cluster.settle()
        # Its own controllers make room for those that are tampered with.
        assert cluster._running is not None
        await cluster._running.stop()
        world = cls(cluster, plan)
        await world._live()
        await world.settle()
        return world

    @property
    def life(self) -> Life:
        return self.lives[-1]

    async def _live(self) -> None:
        number = len(self.lives)
        crash = self.plan.crashes[number] if number < len(self.plan.crashes) else 0
        past = self.began if self.plan.past and number else ""
        self.began = str(self.cluster.store.revision)
        inner = self.cluster.server.local_transport(CONTROLLERS)
        transport = Tampered(inner, self.plan, crash, past)
        if self.healed:
            transport.healed.set()
        client, supervisor = Client(transport), Supervisor(self.clock)
        informers = Informers(client, supervisor, self.clock)
        options = ControllerOptions(root_ca="ca", pod_cidr=files.POD_CIDR)
        running = await run_controllers(client, informers, supervisor, self.clock, options)
        self.lives.append(Life(transport, supervisor, running))

    async def settle(self) -> None:
        """Until nothing more happens at this moment; controllers that died are started anew."""
        quiet, turns, progress = 0, 0, self._progress()
        while quiet < (QUIET_TURNS if self.life.running.idle else STILL_TURNS):
            await asyncio.sleep(0)
            turns += 1
            assert turns < MOST_TURNS, "work without end"
            if self.life.transport.dead.is_set():
                await self.life.end()
                await self._live()
            before, progress = progress, self._progress()
            quiet = quiet + 1 if progress == before else 0

    def _progress(self) -> tuple[int, ...]:
        """What has been done so far: it is another after every step."""
        queues = [controller.queue for controller in self.life.running.controllers]
        added = sum(queue.metrics.adds for queue in queues)
        waiting = sum(len(queue) for queue in queues)
        return self.cluster.store.revision, len(self.lives), added, waiting

    async def advance(self, seconds: float) -> None:
        await self.settle()
        await self.clock.advance(seconds)
        await self.settle()

    async def heal(self) -> None:
        """From now on everything is told."""
        self.healed = True
        self.seen = Counter(self.life.transport.events)
        for life in self.lives:
            life.transport.healed.set()
        await self.settle()

    async def close(self) -> None:
        await self.life.end()
        await self._supervisor.stop()
        await self.cluster.close()
