"""Reads asked for by wrk, which takes an answer in a fraction of the load tool's time.

The load tool is Python: large lists are as fast as it can take them (`bench.ceiling`). Here the
server is what is measured. The same pods as the load tool makes, over TLS, with a token and RBAC.

    python -m bench.reads
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess

from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.client.api import Client

from .cluster import Cluster, boot
from .memory import pod as like_pod
from .simulated import ask

PODS = 3_300
MARKED = 2
"""Pods that the label picks."""
WRITERS = 16
SECONDS = 5
PATH = "/api/v1/namespaces/reads/pods"
ASKED = {
    "wrk get": (f"{PATH}/p1000", 16),
    "wrk list": (f"{PATH}?limit=500", 4),
    "wrk label": (f"{PATH}?labelSelector=x%3D7", 4),
}
"""Path and connections, as the load tool's."""


def pod(number: int) -> Object:
    labels = {"app": "nginx", "tier": "web", "x": "7" if number < MARKED else str(number)}
    return {**like_pod(number), "metadata": {"name": f"p{number}", "labels": labels}}


async def fill(client: Client) -> None:
    await client.create(resource("namespaces"), {"metadata": {"name": "reads"}})
    numbers = iter(range(PODS))

    async def work() -> None:
        for number in numbers:
            await client.create(resource("pods"), pod(number), "reads")

    await asyncio.gather(*(work() for _ in range(WRITERS)))


def asked(cluster: Cluster, path: str, connections: int) -> float:
    """Answers per second. Raises RuntimeError when one is no 200."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}"]
    command += ["-H", f"Authorization: Bearer {cluster.token}", cluster.url + path]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(said)
    found = re.search(r"Requests/sec:\s*([\d.]+)", said)
    assert found is not None
    return round(float(found[1]), 1)


def run() -> dict[str, float]:
    """All figures of this page."""
    cluster = boot()
    try:
        asyncio.run(ask(cluster, fill))
        return {name: asked(cluster, *how) for name, how in ASKED.items()}
    finally:
        cluster.down()


if __name__ == "__main__":
    print(json.dumps(run()))
