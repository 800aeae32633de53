"""Thousands of simulated nodes: their addresses, and the even stream of their Leases."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from sampan.api.errors import NotFound
from sampan.api.simulation import parse
from sampan.client.api import Client
from sampan.node.simulation.chances import draw
from sampan.node.simulation.presence import Presence
from sampan.node.simulation.shape import Addresses, Shape, node_object, shares_of
from sampan.testing.clock import VirtualClock, settle

NAMES = tuple(f"node-{number}" for number in range(1000))


def test_every_node_has_a_share_of_its_own_also_beyond_256() -> None:
    shares = shares_of(Shape(NAMES))
    assert len(set(shares.values())) == 1000
    assert shares["node-999"] == "100.67.231.0/24"
    assert shares_of(Shape(NAMES[:256]))["node-255"] == "10.244.255.0/24"
    with pytest.raises(ValueError, match="16384"):
        shares_of(Shape([str(number) for number in range(16_385)]))


def test_addresses_of_a_share_are_given_once_and_the_longest_free_again() -> None:
    addresses = Addresses("10.244.1.0/29")
    taken = [addresses.take() for _ in range(6)]
    assert taken == ["10.244.1.2", "10.244.1.3", "10.244.1.4", "10.244.1.5", "10.244.1.6", ""]
    addresses.give_back("10.244.1.4")
    addresses.give_back("10.244.1.2")
    assert [addresses.take(), addresses.take(), addresses.take()] == [
        "10.244.1.4",
        "10.244.1.2",
        "",
    ]


def test_nodes_stand_in_zones_in_turn() -> None:
    shape = Shape(NAMES, zones=3)
    zones = [node_object(n, "", shape, 0)["metadata"]["labels"] for n in range(4)]
    assert [item["topology.kubernetes.io/zone"] for item in zones] == [
        "zone-0", "zone-1", "zone-2", "zone-0",
    ]  # fmt: skip


class Transport:
    """Notes when each Lease is written; the first write of each finds none."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.leases: dict[str, list[float]] = {}
        self.posts = 0

    async def request(self, method: str, path: str, **more: Any) -> Any:
        if "/leases" not in path:
            self.posts += method == "PATCH"
            return {}
        name = path.rpartition("/")[2] if method == "PATCH" else more["body"]["metadata"]["name"]
        if method == "PATCH" and name not in self.leases:
            raise NotFound(name)
        self.leases.setdefault(name, []).append(self.clock.monotonic())
        return {}


async def test_leases_are_spread_over_their_time_and_none_is_late() -> None:
    clock = VirtualClock(1_000_000.0)
    transport, shape = Transport(clock), Shape(NAMES)
    presence = Presence(Client(transport), clock, shape, shares_of(shape))  # type: ignore[arg-type]
    presence.silent.add("node-7")
    await presence.register()
    task = asyncio.create_task(presence.keep())
    await settle()
    await clock.advance(321.0)
    task.cancel()
    assert "node-7" not in transport.leases
    assert len(transport.leases) == 999
    for times in transport.leases.values():
        assert 32 <= len(times) <= 33
        assert max(b - a for a, b in pairwise(times)) < 10.01
    busiest = Counter(round(t, 2) for times in transport.leases.values() for t in times)
    assert max(busiest.values()) == 50
    # Each posted its status once in these five minutes, too.
    assert transport.posts == 999


def test_what_becomes_of_a_pod_is_drawn_once_and_as_often_as_said() -> None:
    simulation = parse("start=1s-3s,fail=10%,pull=5%")
    pods = [{"metadata": {"uid": f"u{number}"}} for number in range(4000)]
    drawn = [draw(simulation, pod, {"name": "c", "image": "web"}) for pod in pods]
    assert drawn == [draw(simulation, pod, {"name": "c", "image": "web"}) for pod in pods]
    assert 340 < sum(item.exit_code for item in drawn) < 460
    assert 150 < sum(item.waiting == "ImagePullBackOff" for item in drawn) < 250
    assert all(1 <= item.start_s <= 3 for item in drawn)
    assert len({item.start_s for item in drawn}) > 3000


async def test_a_node_that_was_taken_for_dead_says_that_it_is_not() -> None:
    clock, shape = VirtualClock(1_000_000.0), Shape(NAMES[:1])
    dead = node_object(0, "", shape, 0)
    for item in dead["status"]["conditions"]:
        item["status"] = "Unknown"
    posts: list[Any] = []

    class Server(Transport):
        async def request(self, method: str, path: str, **more: Any) -> Any:
            if path.endswith("/status"):
                posts.append(more["body"]["status"]["conditions"])
            return await super().request(method, path, **more)

    transport = Server(clock)
    client = Client(transport)  # type: ignore[arg-type]
    presence = Presence(client, clock, shape, shares_of(shape), lambda name: dead)
    task = asyncio.create_task(presence.keep())
    await settle()
    assert [item["status"] for item in posts[0]] == ["False", "False", "False", "True"]
    task.cancel()
    presence.close()
