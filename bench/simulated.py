"""Simulated nodes: how fast a large Deployment comes and goes, and what 5000 nodes with
50,000 pods take when nothing happens.

Processes of their own, spoken to by HTTP, as a user does.

    python -m bench.simulated [rollout large]
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from itertools import count
from statistics import median
from typing import Any

from sampan.api.resources import resource
from sampan.client.api import Client
from sampan.client.http import HttpTransport

from .cluster import Cluster, boot, sampan
from .scheduling import NODES, pod

REPLICAS = 1_000
LARGE_PODS = 50_000
REST_S = 30
WRITERS, WRITE_S = 16, 5
RUNS = 3
"""Of the writes, whose median counts: a shared machine is half as fast in one minute as in the
next."""
LOOK_S = 0.02
DEPLOYMENTS = resource("deployments", "apps")


@contextmanager
def simulated(text: str) -> Iterator[Cluster]:
    """A cluster with simulated nodes, and a node of its own that takes no pods."""
    cluster = boot()
    try:
        sampan("simulate", "--data", str(cluster.data), text)
        (own,) = (item["name"] for item in cluster.status()["nodes"] if "sim-" not in item["name"])
        asyncio.run(ask(cluster, lambda client: cordon(client, own)))
        yield cluster
    finally:
        cluster.down()


async def ask(cluster: Cluster, work: Callable[[Client], Awaitable[Any]]) -> Any:
    """Do this by HTTP, as the cluster's administrator."""
    ca = cluster.data / "pki" / "ca.crt"
    transport = HttpTransport(cluster.url, ca=ca, token=cluster.token)
    try:
        return await work(Client(transport))
    finally:
        await transport.close()


async def cordon(client: Client, name: str) -> None:
    await client.patch(resource("nodes"), name, {"spec": {"unschedulable": True}})


def deployment(name: str, replicas: int) -> dict[str, Any]:
    template = pod("plain", 0)
    template["metadata"] = {"labels": {"app": name}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"metadata": {"name": name}, "spec": spec}


async def until(client: Client, name: str, ready: int) -> None:
    """Until the Deployment says so of its pods."""
    query = {"fieldSelector": f"metadata.name={name}"}
    listed = await client.list(DEPLOYMENTS, "default", query)
    found, version = listed["items"][0], listed["metadata"]["resourceVersion"]
    events = client.watch(DEPLOYMENTS, "default", {**query, "resourceVersion": version})
    async with aclosing(events) as stream:  # type: ignore[type-var]
        while not reached(found, ready):
            found = (await anext(stream)).object


def reached(found: Any, ready: int) -> bool:
    status, seen = found["status"], found["status"].get("observedGeneration")
    counts = status.get("readyReplicas", 0), status.get("replicas", 0)
    return seen == found["metadata"]["generation"] and counts == (ready, ready)


async def roll(client: Client) -> dict[str, float]:
    """A Deployment comes, and goes down to nothing."""
    began = time.perf_counter()
    await client.create(DEPLOYMENTS, deployment("large", REPLICAS), "default")
    await until(client, "large", REPLICAS)
    up = time.perf_counter()
    await client.patch(DEPLOYMENTS, "large", {"spec": {"replicas": 0}}, "default")
    await until(client, "large", 0)
    await emptied(client)
    down = time.perf_counter()
    return {"deployment up": round(up - began, 2), "deployment down": round(down - up, 2)}


async def emptied(client: Client) -> None:
    """Until there is no pod."""
    pods = resource("pods")
    listed = await client.list(pods, "default", {"limit": "1"})
    while listed["items"]:
        await asyncio.sleep(LOOK_S)
        listed = await client.list(pods, "default", {"limit": "1"})


def rollout() -> dict[str, float]:
    with simulated("nodes=500") as cluster:
        return asyncio.run(ask(cluster, roll))


async def write(client: Client) -> float:
    """ConfigMaps created per second, by 16 at once."""
    names, made = count(), 0
    end = time.perf_counter() + WRITE_S

    async def work() -> None:
        nonlocal made
        while time.perf_counter() < end:
            meta = {"generateName": f"c{next(names)}-"}
            body = {"metadata": meta, "data": {"key": "value"}}
            await client.create(resource("configmaps"), body, "default")
            made += 1

    await asyncio.gather(*(work() for _ in range(WRITERS)))
    return made / WRITE_S


async def fill(client: Client) -> None:
    """Deployments until all pods are there."""
    for number in range(LARGE_PODS // REPLICAS):
        await client.create(DEPLOYMENTS, deployment(f"d{number}", REPLICAS), "default")
    for number in range(LARGE_PODS // REPLICAS):
        await until(client, f"d{number}", REPLICAS)


def large() -> dict[str, float]:
    """Memory, idle CPU and writes with many nodes and pods, against an empty cluster's writes."""
    empty = boot()
    try:
        before = median(asyncio.run(ask(empty, write)) for _ in range(RUNS))
    finally:
        empty.down()
    with simulated(f"nodes={NODES}") as cluster:
        nodes_alone = rested(cluster)
        began = time.perf_counter()
        asyncio.run(ask(cluster, fill))
        seconds = time.perf_counter() - began
        full = rested(cluster)
        after = median(asyncio.run(ask(cluster, write)) for _ in range(RUNS))
    return {
        "large memory, nodes": nodes_alone[0],
        "large cpu, nodes": nodes_alone[1],
        "large pods ready": round(seconds, 1),
        "large memory": full[0],
        "large cpu": full[1],
        "large writes": round(after),
        "empty writes": round(before),
        "large writes, share": round(after / before, 2),
    }


def rested(cluster: Cluster) -> tuple[float, float]:
    """(MB resident, % of a core) when nothing happens but Leases."""
    time.sleep(REST_S)
    before = cluster.cpu_s()
    time.sleep(REST_S)
    cpu = 100 * (cluster.cpu_s() - before) / REST_S
    return round(cluster.resident_bytes() / 1e6), round(cpu, 1)


PARTS: dict[str, Callable[[], dict[str, float]]] = {"rollout": rollout, "large": large}


def run() -> dict[str, float]:
    """All figures of this page."""
    values: dict[str, float] = {}
    for part in PARTS.values():
        values |= part()
        print(json.dumps(values), flush=True)
    return values


def main(arguments: list[str]) -> None:
    for name in arguments or PARTS:
        print(json.dumps(PARTS[name]()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
