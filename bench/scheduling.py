"""Scheduling alone: pods that are stored already, 5000 nodes, one scheduler.

In process, over the real SQLite store on disk, with the server's whole path (authorization,
admission, journal, watches) and no controllers: what upstream's scheduler_perf measures. Wall time
counts, as the goals do; the CPU of the process is told beside it.

    python -m bench.scheduling [plain spread affinity]
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from sampan.aio.clock import SystemClock
from sampan.aio.tasks import Supervisor
from sampan.api.resources import resource
from sampan.client.api import Client
from sampan.client.informer import Informers
from sampan.daemon.child import SWITCH_S, settle_memory
from sampan.node.simulation.shape import Shape, node_object, shares_of
from sampan.scheduler.run import Scheduler
from sampan.server.exchange import User
from sampan.store.sqlite import SqliteStore
from tests.kit.cluster import api_cluster

NODES = 5_000
PODS = {"plain": 10_000, "spread": 5_000, "affinity": 5_000}
AT_ONCE = 64
SCHEDULER = User("system:kube-scheduler", ("system:masters", "system:authenticated"))
MASTER = User("kubernetes-admin", ("system:masters", "system:authenticated"))
ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
LABELS = {"app": "bench"}
SELECTOR = {"matchLabels": LABELS}
SPECS: dict[str, dict[str, Any]] = {
    "plain": {},
    "spread": {
        "topologySpreadConstraints": [
            {
                "maxSkew": 5,
                "topologyKey": ZONE,
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": SELECTOR,
            }
        ]
    },
    "affinity": {
        "affinity": {
            "podAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {"labelSelector": SELECTOR, "topologyKey": ZONE}
                ]
            }
        }
    },
}


def pod(kind: str, number: int) -> dict[str, Any]:
    container = {
        "name": "pause",
        "image": "registry.k8s.io/pause:3.10",
        "resources": {"requests": {"cpu": "100m", "memory": "500Mi"}},
    }
    return {
        "metadata": {"name": f"{kind}-{number}", "namespace": "default", "labels": LABELS},
        "spec": {"containers": [container], **SPECS[kind]},
    }


async def alone(kind: str, nodes: int = NODES) -> dict[str, float]:
    """Pods per second from the scheduler's start until the last pod is bound."""
    pods = PODS[kind]
    shape = Shape([f"node-{number}" for number in range(nodes)], zones=10)
    with tempfile.TemporaryDirectory(prefix="sampan-bench-") as folder:
        store = SqliteStore.open(Path(folder) / "state.db")
        async with api_cluster(store=store) as cluster:
            local = Client(cluster.server.local_transport(MASTER))
            account = {"metadata": {"name": "default", "namespace": "default"}}
            await local.create(resource("serviceaccounts"), account, "default")
            shares = [*shares_of(shape).values()]
            bodies = (node_object(n, shares[n], shape, time.time()) for n in range(nodes))
            await each(local, "nodes", "", bodies)
            # No controller is here to take away the taint of a node that is new.
            await asyncio.gather(*(untaint(local, name) for name in shape.names))
            await each(local, "pods", "default", (pod(kind, number) for number in range(pods)))
            clock = SystemClock()
            supervisor = Supervisor(clock)
            client = Client(cluster.server.local_transport(SCHEDULER))
            informers = Informers(local, supervisor, clock)
            watching = Bound(informers, pods)
            scheduler = Scheduler(client, informers, clock)
            await asyncio.gather(*(item.synced() for item in informers.all()))
            settle_memory()
            began, cpu = time.perf_counter(), time.process_time()
            supervisor.start("scheduler", scheduler.run)
            await watching.all.wait()
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
            await supervisor.stop()
        await store.close()
    return {f"schedule {kind}": round(pods / seconds), f"cpu {kind}": round(cpu / pods * 1e6)}


async def each(client: Client, plural: str, namespace: str, bodies: Any) -> None:
    todo = iter(bodies)

    async def work() -> None:
        for body in todo:
            await client.create(resource(plural), body, namespace)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def untaint(client: Client, name: str) -> None:
    await client.patch(resource("nodes"), name, {"spec": {"taints": None}})


class Bound:
    """Counts pods that have a node."""

    def __init__(self, informers: Informers, count: int) -> None:
        self.all = asyncio.Event()
        self._left = count
        informers.informer(resource("pods")).on_change(self._on_pod)

    def _on_pod(self, old: Any, new: Any) -> None:
        if new and new["spec"].get("nodeName") and old and not old["spec"].get("nodeName"):
            self._left -= 1
            if not self._left:
                self.all.set()


def run() -> dict[str, float]:
    """All figures of this page."""
    values: dict[str, float] = {}
    sys.setswitchinterval(SWITCH_S)
    for kind in PODS:
        values |= uvloop.run(alone(kind))
        print(json.dumps(values), flush=True)
    return values


def main(arguments: list[str]) -> None:
    sys.setswitchinterval(SWITCH_S)
    for kind in arguments or PODS:
        print(json.dumps(uvloop.run(alone(kind))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
