"""What ownership costs a write: CPU of create, patch and status patch, with and without it.

In process, over a store in memory, so that nothing but the server's own work is measured. CPU time
of this process, the best of several rounds: other work on the machine does not count.

    python -m bench.tracking [writes]
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import orjson

from sampan.server import writing
from sampan.server.exchange import Request, User
from tests.kit.cluster import ADMIN, Cluster, api_cluster

ROUNDS = 9
KUBELET = User("kubelet", ("system:masters",))
NAMESPACE = "/api/v1/namespaces/default"
STATUS_PATCH = "application/strategic-merge-patch+json"
MERGE_PATCH = "application/merge-patch+json"


def pod(number: int) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": "registry.example/app:1",
        "env": [{"name": f"V{index}", "value": str(index)} for index in range(6)],
        "ports": [{"containerPort": 80}],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
        "readinessProbe": {"httpGet": {"path": "/", "port": 80}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"p{number}", "labels": {"app": "a", "n": str(number)}},
        "spec": {"containers": [container], "volumes": [{"name": "data", "emptyDir": {}}]},
    }


def status(turn: int) -> dict[str, Any]:
    conditions = [
        {"type": kind, "status": "True" if turn % 2 else "False", "lastProbeTime": None}
        for kind in ("Initialized", "Ready", "ContainersReady")
    ]
    return {"status": {"phase": "Running", "conditions": conditions}}


def config(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"c{number}"},
        "data": {f"key{index}": f"value {index}" for index in range(8)},
    }


async def send(
    cluster: Cluster, method: str, path: str, body: Any, media: str = "application/json"
) -> None:
    path, _, query = path.partition("?")
    words = {"fieldManager": [query.partition("=")[2]]} if query else {}
    headers = {"content-type": media, "user-agent": "bench/1"}
    user = KUBELET if path.endswith("/status") else ADMIN
    request = Request(method, path, words, headers, orjson.dumps(body), user)
    answer = await cluster.server.handle(request)
    assert getattr(answer, "status", 500) < 300, answer


Step = Callable[[Cluster, int], Awaitable[None]]


async def create_config(cluster: Cluster, number: int) -> None:
    await send(cluster, "POST", f"{NAMESPACE}/configmaps", config(number))


async def create_pod(cluster: Cluster, number: int) -> None:
    await send(cluster, "POST", f"{NAMESPACE}/pods", pod(number))


async def patch_pod(cluster: Cluster, number: int) -> None:
    body = {"metadata": {"annotations": {"turn": f"{time.monotonic()}"}}}
    await send(cluster, "PATCH", f"{NAMESPACE}/pods/p{number}", body, MERGE_PATCH)


async def patch_status(cluster: Cluster, number: int) -> None:
    turn = time.monotonic_ns()
    await send(
        cluster, "PATCH", f"{NAMESPACE}/pods/p{number}/status", status(turn // 7), STATUS_PATCH
    )


async def apply_config(cluster: Cluster, number: int) -> None:
    body = config(number)
    body["data"]["turn"] = str(time.monotonic())
    await send(
        cluster,
        "PATCH",
        f"{NAMESPACE}/configmaps/c{number}?fieldManager=bench",
        body,
        "application/apply-patch+yaml",
    )


STEPS: tuple[tuple[str, Step], ...] = (
    ("create ConfigMap", create_config),
    ("create Pod", create_pod),
    ("merge-patch Pod", patch_pod),
    ("status patch Pod", patch_status),
    ("apply ConfigMap", apply_config),
)


@contextmanager
def untracked() -> Iterator[None]:
    """The same writes with nothing recorded (applies cannot do without)."""
    with mock.patch.multiple(
        writing, record_created=lambda *_: None, record_updated=lambda *_: None
    ):
        yield


async def timed(cluster: Cluster, step: Step, first: int, writes: int) -> float:
    began = time.process_time()
    for number in range(first, first + writes):
        await step(cluster, number)
    return (time.process_time() - began) / writes * 1e6


async def measure(writes: int) -> dict[str, tuple[float, float]]:
    """Microseconds of CPU per write by step, with and without ownership, measured in turns."""
    found: dict[str, tuple[float, float]] = {}
    async with api_cluster() as one, api_cluster() as other:
        for cluster in (one, other):
            account = {"metadata": {"name": "default"}}
            await send(cluster, "POST", f"{NAMESPACE}/serviceaccounts", account)
        for name, step in STEPS:
            best = plain = float("inf")
            for turn in range(ROUNDS):
                first = turn * writes if name.startswith("create") else 0
                best = min(best, await timed(one, step, first, writes))
                with untracked():
                    plain = min(plain, await timed(other, step, first, writes))
            found[name] = (best, plain)
    return found


def run(writes: int = 200) -> dict[str, float]:
    """The largest share of a write's CPU that goes to tracking, in percent."""
    gc.freeze()
    found = asyncio.run(measure(writes))
    show(found)
    shares = [1 - plain / best for name, (best, plain) in found.items() if "apply" not in name]
    return {"tracking": round(100 * max(shares), 1)}


def show(found: dict[str, tuple[float, float]]) -> None:
    print(f"{'CPU per write':<20} {'tracked':>9} {'untracked':>10} {'share':>7}")
    for name, (best, plain) in found.items():
        share = f"{1 - plain / best:.0%}" if name != "apply ConfigMap" else "-"
        print(f"{name:<20} {best:>6.0f} us {plain:>7.0f} us {share:>7}")


if __name__ == "__main__":
    run(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
