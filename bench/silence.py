"""A node falls silent and comes back: how soon its pods are out of services, and in again.

Two nodes on one machine; the agent of the second is halted, which looks to everybody else as a cut
wire does. Time counts from the event that tells a client of the node's condition, and ends when the
kernel of the first node has no way to the pod left, or has one again.

    python -m bench.silence
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from contextlib import aclosing
from typing import Any

from sampan.api.resources import resource
from sampan.client.api import Client

from .cluster import NAME, Cluster, boot, load_web
from .simulated import ask

IMAGE = "bench-web:1.0"
LOOK_S = 0.005
PATIENCE_S = 120.0
LABELS = {"app": "silent"}


async def condition(client: Client, plural: str, name: str, *statuses: str) -> Any:
    """The node or pod, once it says so of being ready."""
    kind, namespace = resource(plural), "default" if plural == "pods" else ""
    query = {"fieldSelector": f"metadata.name={name}"}
    async with aclosing(client.watch(kind, namespace, query)) as events:  # type: ignore[type-var]
        async for event in events:
            said = event.object.get("status", {}).get("conditions") or ()
            if any(item["type"] == "Ready" and item["status"] in statuses for item in said):
                return event.object
    raise RuntimeError(f"{name} is not {statuses}")


def routed(address: str) -> bool:
    """Has the first node's kernel a way to the pod, by a service?"""
    command = ["nft", "list", "table", "ip", f"sampan-{NAME}"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return f" : {address} . " in listed


async def until(address: str, there: bool) -> float:
    """When the kernel has it so."""
    end = time.perf_counter() + PATIENCE_S
    while routed(address) is not there:
        if time.perf_counter() > end:
            raise RuntimeError(f"{address} is {'not ' * there}in the rules")
        await asyncio.sleep(LOOK_S)
    return time.perf_counter()


async def fall_silent(client: Client, cluster: Cluster) -> dict[str, float]:
    (silent,) = {item["name"] for item in cluster.status()["nodes"] if item["name"].endswith("-2")}
    container = {"name": "web", "image": IMAGE}
    pod = {
        "metadata": {"name": "web", "labels": LABELS},
        "spec": {"containers": [container], "nodeName": silent},
    }
    await client.create(resource("pods"), pod, "default")
    service = {"metadata": {"name": "web"}, "spec": {"selector": LABELS, "ports": [{"port": 80}]}}
    await client.create(resource("services"), service, "default")
    address = (await condition(client, "pods", "web", "True"))["status"]["podIP"]
    await until(address, there=True)
    agent = int(cluster.status()["parts"]["node-2"]["pid"])
    os.kill(agent, signal.SIGSTOP)
    try:
        await condition(client, "nodes", silent, "Unknown", "False")
        marked = time.perf_counter()
        gone = await until(address, there=False)
    finally:
        os.kill(agent, signal.SIGCONT)
    await condition(client, "nodes", silent, "True")
    ready = time.perf_counter()
    back = await until(address, there=True)
    return {"silent out": round(gone - marked, 2), "silent back": round(back - ready, 2)}


def run() -> dict[str, float]:
    """Seconds from the node's condition to the kernel's rules."""
    cluster = boot(nodes=2)
    try:
        load_web(cluster, IMAGE)
        return dict(asyncio.run(ask(cluster, lambda client: fall_silent(client, cluster))))
    finally:
        cluster.down()


if __name__ == "__main__":
    print(run())
