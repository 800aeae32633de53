"""The scheduler killed after every single write, under a clock that jumps: always the same end.

A cluster of its own for each place: two nodes are full of unimportant pods when important ones, and
pods with device claims, come. The scheduler dies right after its n-th write was made and before it
learns that it was; a new one takes over from nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from sampan.aio.clock import Clock
from sampan.aio.tasks import Supervisor
from sampan.api.errors import Conflict, Object
from sampan.client.api import Client
from sampan.client.informer import Informers
from sampan.client.interface import Transport, WatchEvent
from sampan.scheduler.run import Scheduler
from sampan.testing.cluster import SCHEDULER, Cluster, Options
from tests.kit.mortal import Mortal

from .test_devices import device, made, offered, wanted
from .test_scheduling import pod

NAME = "mine"
PROFILES = {
    "apiVersion": "kubescheduler.config.k8s.io/v1",
    "kind": "KubeSchedulerConfiguration",
    "profiles": [{"schedulerName": NAME}],
}
CAPACITY = {"cpu": "4", "memory": "8Gi", "pods": "20"}
STRIDE = 4
"""CI takes each fourth of the writes."""
TURNS = 400


class Jumping:
    """A machine whose wall clock is set again and again; what passes is as it should be."""

    def __init__(self, inner: Clock, seed: int) -> None:
        self._inner = inner
        self._dice = random.Random(seed)

    def now(self) -> float:
        return self._inner.now() + self._dice.choice((-1e6, 0.0, 1e6))

    def monotonic(self) -> float:
        return self._inner.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class Life:
    """One scheduler from its start to its end."""

    def __init__(self, cluster: Cluster, transport: Transport, seed: int = 0) -> None:
        self._supervisor = Supervisor(cluster.clock)
        client = Client(transport)
        informers = Informers(client, self._supervisor, cluster.clock)
        self.scheduler = Scheduler(client, informers, Jumping(cluster.clock, seed), PROFILES)
        self._supervisor.start("scheduler", self.scheduler.run)

    async def end(self) -> None:
        await self._supervisor.stop()


def mine(name: str, cpu: str, **spec: Any) -> Object:
    return pod(name, cpu, schedulerName=NAME, **spec)


def with_device(name: str, claim: str) -> Object:
    found = mine(name, "100m")
    found["spec"]["resourceClaims"] = [{"name": "gpu", "resourceClaimName": claim}]
    return found


async def prepare(cluster: Cluster) -> None:
    """Nodes full of pods that may be sent away."""
    for name, value in (("low", 10), ("high", 1000)):
        kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass"}
        await cluster.create({**kind, "metadata": {"name": name}, "value": value})
    await offered(cluster, node_0=[device("g0", "8Gi"), device("g1", "8Gi")])
    first = Life(cluster, cluster.server.local_transport(SCHEDULER))
    for number in range(4):
        await cluster.create(mine(f"low{number}", "1900m", priorityClassName="low"))
    await cluster.advance(1)
    await first.end()


async def load(cluster: Cluster) -> None:
    """What the scheduler that dies is to decide."""
    for number in range(2):
        await made(cluster, f"claim{number}", wanted())
        await cluster.create(with_device(f"device{number}", f"claim{number}"))
    for number in range(2):
        await cluster.create(mine(f"high{number}", "3500m", priorityClassName="high"))


async def run(after: int) -> tuple[int, dict[str, Any]]:
    """(writes that were made until the death, the end)."""
    options = Options(nodes=2, virtual_time=True, capacity=CAPACITY)
    async with await Cluster.start(options) as cluster:
        await prepare(cluster)
        mortal = Mortal(cluster.server.local_transport(SCHEDULER), after)
        life = Life(cluster, mortal, after)
        await load(cluster)
        for _ in range(TURNS):
            if mortal.dead.is_set():
                break
            await asyncio.sleep(0)
        await cluster.advance(20)
        await life.end()
        successor = Life(cluster, cluster.server.local_transport(SCHEDULER), after + 1)
        await cluster.advance(60)
        end = await end_of(cluster)
        await successor.end()
        return after - mortal.left, end


async def end_of(cluster: Cluster) -> dict[str, Any]:
    pods = {item["metadata"]["name"]: item for item in await cluster.list("pods")}
    claims = await cluster.list("resourceclaims")
    taken = [
        (item["metadata"]["name"], result["device"])
        for item in claims
        for result in item["status"]["allocation"]["devices"]["results"]
    ]
    reserved = {
        item["metadata"]["name"]: [one["name"] for one in item["status"]["reservedFor"]]
        for item in claims
    }
    high = {pods[name]["spec"].get("nodeName") for name in ("high0", "high1")}
    devices = {pods[name]["spec"].get("nodeName") for name in ("device0", "device1")}
    return {
        "pods": sorted(pods),
        "high": high,
        "devices": devices,
        "taken": len({found for _, found in taken}),
        "reserved": reserved,
    }


GOAL = {
    # Who was in the way is gone, and nobody else is.
    "pods": ["device0", "device1", "high0", "high1"],
    "high": {"node-0", "node-1"},
    "devices": {"node-0"},
    "taken": 2,
    "reserved": {"claim0": ["device0"], "claim1": ["device1"]},
}


async def test_a_scheduler_may_die_after_any_write() -> None:
    writes, end = await run(10_000)
    assert end == GOAL
    assert writes >= 12, "bindings, claims, nominations, victims"
    for after in range(1, writes + 1, STRIDE):
        _, end = await run(after)
        assert end == GOAL, after


Send = Callable[[], Awaitable[Object]]
Binding = Callable[[Cluster, Object, Send], Awaitable[Object]]
"""What becomes of a binding, whose body and sending are given."""


class Tampered(Mortal):
    """The first binding goes another way; all else goes through."""

    def __init__(self, cluster: Cluster, binding: Binding) -> None:
        self._cluster, self._binding = cluster, binding
        self.watched: list[str] = []
        super().__init__(cluster.server.local_transport(SCHEDULER), 10_000)

    def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[WatchEvent]:
        self.watched.append(path.rpartition("/")[2])
        return self.inner.watch(path, query)

    async def request(self, method: str, path: str, **more: Any) -> Object:
        send = partial(self.inner.request, method, path, **more)
        if path.endswith("/binding") and not self.dead.is_set():
            self.dead.set()
            return await self._binding(self._cluster, more["body"], send)
        return await send()


@asynccontextmanager
async def tampered(nodes: int, binding: Binding) -> AsyncIterator[tuple[Cluster, Tampered]]:
    """A cluster, and the transport of its scheduler."""
    options = Options(nodes=nodes, virtual_time=True, capacity=CAPACITY)
    async with await Cluster.start(options) as cluster:
        transport = Tampered(cluster, binding)
        life = Life(cluster, transport)
        yield cluster, transport
        await life.end()


async def test_a_node_may_go_while_pods_are_bound_to_it() -> None:
    """Pods that were bound to a node that is no more are its loss; the others go elsewhere."""

    async def mean(cluster: Cluster, body: Object, send: Send) -> Object:
        await cluster.delete("node", body["target"]["name"])
        return await send()

    async with tampered(2, mean) as (cluster, _):
        for number in range(6):
            await cluster.create(mine(f"p{number}", "500m"))
        await cluster.advance(5)
        (left,) = [item["metadata"]["name"] for item in await cluster.list("nodes")]
        homes = [item["spec"].get("nodeName") for item in await cluster.list("pods")]
        assert homes.count(left) >= 3
        assert None not in homes
        # The room on the node that stayed is counted rightly: it takes as many as it can.
        for number in range(8):
            await cluster.create(mine(f"q{number}", "500m"))
        await cluster.advance(15)
        homes = [item["spec"].get("nodeName") for item in await cluster.list("pods")]
        assert homes.count(left) == 8


@pytest.mark.parametrize("fault", [ConnectionResetError(), Conflict("another bound it")])
async def test_a_pod_that_was_bound_although_binding_it_failed_is_counted(fault: Any) -> None:
    lost = asyncio.Event()

    async def late(cluster: Cluster, body: Object, send: Send) -> Object:
        await send()
        await lost.wait()
        raise fault

    async with tampered(1, late) as (cluster, transport):
        await cluster.create(mine("first", "3"))
        await cluster.advance(2)
        assert (await cluster.get("pod", "first"))["status"]["phase"] == "Running"
        lost.set()
        await cluster.settle()
        await cluster.create(mine("second", "3"))
        await cluster.advance(15)
        assert "nodeName" not in (await cluster.get("pod", "second"))["spec"]
        assert "pods" in transport.watched
        assert "resourceclaims" not in transport.watched, "where no pod has any, nothing is watched"


async def test_a_pod_whose_binding_fails_in_whatever_way_is_tried_again() -> None:
    async def odd(cluster: Cluster, body: Object, send: Send) -> Object:
        raise KeyError("nobody thought of this")

    async with tampered(1, odd) as (cluster, _):
        await cluster.create(mine("p", "3"))
        await cluster.advance(5)
        assert (await cluster.get("pod", "p"))["status"]["phase"] == "Running"
