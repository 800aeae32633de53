"""What a write costs as the cluster fills: CPU per create, patch and status patch of a Pod, and per
create of a ConfigMap, with 1,000 to 50,000 objects stored; docs/growth.svg shows it.

In process, over the real SQLite store, so that the figure is the server's own work: CPU time of
this process over `SAMPLE` writes at each size, best of `ROUNDS`. Other work on the machine does not
count.

    python -m bench.growth [size ...]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson

from sampan.daemon.child import settle_memory
from sampan.store.sqlite import SqliteStore
from tests.kit.cluster import ADMIN, Cluster, api_cluster, request_of

from .plot import Line, plot

SIZES = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
SAMPLE = 200
ROUNDS = 8
TOGETHER = 64
"""Creates under way at once while the cluster is filled."""
NAMESPACE = "/api/v1/namespaces/default"
MERGE_PATCH = "application/merge-patch+json"
STATUS_PATCH = "application/strategic-merge-patch+json"
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "growth.svg"

Write = Callable[[int], Awaitable[None]]


def pod(number: int) -> dict[str, Any]:
    return {
        "metadata": {"name": f"p{number}", "labels": {"app": f"a{number % 100}"}},
        "spec": {"containers": [{"name": "main", "image": "registry.example/app:1"}]},
    }


def config(number: int) -> dict[str, Any]:
    return {"metadata": {"name": f"c{number}"}, "data": {"key": "value " * 20}}


class Loaded:
    """A server and how many pods it has."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.pods = 0
        self.others = 0

    async def ask(self, method: str, path: str, body: Any, kind: str = "application/json") -> None:
        raw = orjson.dumps(body)
        answer = await self.cluster.server.handle(request_of(method, path, raw, ADMIN, kind, ""))
        assert answer.status < 300, answer

    async def create_pod(self, _: int) -> None:
        self.pods += 1
        await self.ask("POST", f"{NAMESPACE}/pods", pod(self.pods))

    async def create_config(self, _: int) -> None:
        self.others += 1
        await self.ask("POST", f"{NAMESPACE}/configmaps", config(self.others))

    async def patch(self, number: int) -> None:
        name = 1 + number * 37 % self.pods
        body = {"metadata": {"annotations": {"turn": f"{number}-{time.monotonic()}"}}}
        await self.ask("PATCH", f"{NAMESPACE}/pods/p{name}", body, MERGE_PATCH)

    async def status(self, number: int) -> None:
        name = 1 + number * 41 % self.pods
        condition = {"type": "Ready", "status": "True", "reason": f"{time.monotonic()}"}
        body = {"status": {"conditions": [condition]}}
        await self.ask("PATCH", f"{NAMESPACE}/pods/p{name}/status", body, STATUS_PATCH)

    async def fill(self, size: int) -> None:
        while self.pods < size:
            count = min(TOGETHER, size - self.pods)
            await asyncio.gather(*(self.create_pod(0) for _ in range(count)))


async def cost_us(write: Write) -> float:
    """CPU per write, in microseconds, with the collector set as in the server's own process."""
    best = float("inf")
    for _ in range(ROUNDS):
        settle_memory()
        began = time.process_time()
        for number in range(SAMPLE):
            await write(number)
        best = min(best, (time.process_time() - began) / SAMPLE)
    return round(best * 1e6, 1)


async def measure(sizes: tuple[int, ...] = SIZES) -> dict[str, list[tuple[int, float]]]:
    """Per kind of write its cost at each size."""
    out: dict[str, list[tuple[int, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="sampan-growth-") as folder:
        store = SqliteStore.open(Path(folder) / "state.db")
        async with api_cluster(store=store) as cluster:
            loaded = Loaded(cluster)
            account = {"metadata": {"name": "default"}}
            await loaded.ask("POST", f"{NAMESPACE}/serviceaccounts", account)
            for size in sizes:
                await loaded.fill(size)
                for name, write in (
                    ("create Pod", loaded.create_pod),
                    ("create ConfigMap", loaded.create_config),
                    ("merge-patch Pod", loaded.patch),
                    ("patch Pod status", loaded.status),
                ):
                    out.setdefault(name, []).append((size, await cost_us(write)))
                    print(name, size, out[name][-1][1], "us", flush=True)
        await store.close()
    return out


def run(sizes: tuple[int, ...] = SIZES) -> dict[str, float]:
    """Measure, draw docs/growth.svg, and give how much dearer each write is at the largest size
    than at the smallest, as a figure for the page."""
    costs = asyncio.run(measure(sizes))
    lines = [Line(name, points) for name, points in costs.items()]
    PICTURE.write_text(plot(lines, "Pods stored", "CPU per write, microseconds"))
    ratios = [points[-1][1] / points[0][1] for points in costs.values()]
    return {"growth": round(max(ratios), 2)}


if __name__ == "__main__":
    print(run(tuple(map(int, sys.argv[1:])) or SIZES))
