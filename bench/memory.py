"""Memory per stored pod: `python -m bench.memory [--pods 50000]` prints one line of JSON.

A process like the control part (API server over SQLite, all controllers, scheduler) is filled with
bound pods of about 1.7 KB in JSON; what its resident memory grows by is divided by their number.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from sampan.aio.clock import SystemClock
from sampan.aio.tasks import Supervisor
from sampan.api.errors import AlreadyExists
from sampan.api.resources import resource
from sampan.client.api import Client
from sampan.client.informer import Informers
from sampan.controllers.runtime.run import run_controllers
from sampan.daemon.child import settle_memory
from sampan.scheduler.run import Scheduler
from sampan.server.app import Server
from sampan.store.sqlite import SqliteStore
from tests.kit.cluster import ADMIN, server_config

PODS, NODES, NAMESPACES = resource("pods"), resource("nodes"), resource("namespaces")
PER_NAMESPACE, PER_NODE = 2_500, 100
AT_ONCE = 64
Object = dict[str, Any]


def resident_bytes() -> int:
    """What the process holds, after garbage is gone and free pages are back with the kernel."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("no VmRSS in /proc/self/status")


@asynccontextmanager
async def control(path: Path) -> AsyncIterator[tuple[Server, Client]]:
    """The control part in this process, without its sockets."""
    store = SqliteStore.open(path)
    clock, supervisor = SystemClock(), Supervisor()
    server = Server(store, server_config(), clock)
    await server.start()
    client = Client(server.local_transport(ADMIN))
    informers = Informers(client, supervisor, clock)
    running = await run_controllers(client, informers, supervisor, clock)
    scheduler = Scheduler(client, informers, clock)
    supervisor.start("scheduler", scheduler.run)
    await informers.synced()
    settle_memory()
    try:
        yield server, client
    finally:
        await running.stop()
        await supervisor.stop()
        await server.close()
        await store.close()


def pod(number: int) -> Object:
    """As the load tools make them, bound, so that only the server and caches have work."""
    container = {
        "name": "c",
        "image": "nginx:1.25",
        "ports": [{"containerPort": 80}],
        "env": [{"name": "A", "value": "b"}],
        "resources": {
            "requests": {"cpu": "10m", "memory": "16Mi"},
            "limits": {"memory": "128Mi"},
        },
        "livenessProbe": {"httpGet": {"path": "/", "port": 80}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    spec = {
        "nodeName": f"node-{number // PER_NODE}",
        "containers": [container],
        "volumes": [{"name": "data", "emptyDir": {}}],
        "tolerations": [{"operator": "Exists"}],
        "automountServiceAccountToken": False,
    }
    labels = {"app": f"app-{number // 50}", "tier": "web"}
    metadata = {"name": f"pod-{number}", "labels": labels, "namespace": namespace(number)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def namespace(number: int) -> str:
    return f"bench-{number // PER_NAMESPACE}"


async def fill(client: Client, count: int) -> None:
    for name in sorted({namespace(number) for number in range(count)}):
        body = {"metadata": {"name": name}}
        await client.create(NAMESPACES, body)
        account = {"metadata": {"name": "default"}}
        with suppress(AlreadyExists):  # its controller may have been first
            await client.create(resource("serviceaccounts"), account, name)
    for number in range(0, count, PER_NODE):
        await client.create(NODES, {"metadata": {"name": f"node-{number // PER_NODE}"}})
    for start in range(0, count, AT_ONCE):
        pods = map(pod, range(start, min(start + AT_ONCE, count)))
        await asyncio.gather(
            *(client.create(PODS, body, body["metadata"]["namespace"]) for body in pods)
        )


async def measure(count: int) -> Object:
    with tempfile.TemporaryDirectory(prefix="sampan-memory-") as folder:
        async with control(Path(folder) / "state.db") as (server, client):
            before = resident_bytes()
            await fill(client, count)
            await asyncio.sleep(2)
            peak = resident_bytes()
            await server.store.compact(server.store.revision)
            settled = resident_bytes()
            record = server.store.range(PODS.storage, limit=1).records[0]
            return {
                "figure": "memory per stored pod",
                "pods": count,
                "json_bytes": len(record.value),
                "bytes": round((peak - before) / count),
                "bytes_without_history": round((settled - before) / count),
                "resident_mb": round(peak / 1e6, 1),
            }


def run(count: int = 50_000) -> dict[str, float]:
    """Kilobytes per stored pod, in a process of its own."""
    command = [sys.executable, "-m", "bench.memory", "--pods", str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    print(done.stdout.decode(), end="", flush=True)
    return {"stored pod": round(json.loads(done.stdout)["bytes"] / 1e3, 2)}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench.memory", description=__doc__)
    parser.add_argument("--pods", type=int, default=50_000)
    options = parser.parse_args(arguments)
    print(json.dumps(asyncio.run(measure(options.pods))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
