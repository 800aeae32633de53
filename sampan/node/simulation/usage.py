"""What simulated nodes say that their pods use: the part of /stats/summary that is asked for."""

from __future__ import annotations

from collections.abc import Iterable

from sampan.api.errors import Object
from sampan.api.times import format_time
from sampan.wire.quantity import nanos, whole

from .outcome import Script

WINDOW_S = 15.0
"""What the rates are over, as if measured like metrics-server does."""


def summary(pods: Iterable[Object], script: Script, now_s: float) -> Object:
    """Of one node, from those of its pods whose containers run now."""
    time = format_time(now_s)
    said = [found for pod in pods if (found := _pod(pod, script, time))["containers"]]
    used = [item for pod in said for item in pod["containers"]]
    cpu = sum(item["cpu"]["usageNanoCores"] for item in used)
    memory = sum(item["memory"]["workingSetBytes"] for item in used)
    return {"node": {"windowSeconds": WINDOW_S, **_figures(time, cpu, memory)}, "pods": said}


def _pod(pod: Object, script: Script, time: str) -> Object:
    meta, rows = pod["metadata"], []
    running = {
        item["name"]
        for item in (pod.get("status") or {}).get("containerStatuses") or ()
        if "running" in (item.get("state") or {})
    }
    for container in pod["spec"]["containers"]:
        if container["name"] in running:
            outcome = script.outcome(pod, container)
            figures = _figures(time, nanos(outcome.cpu), whole(outcome.memory))
            rows.append({"name": container["name"], **figures})
    reference = {"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]}
    return {"podRef": reference, "containers": rows, "cpu": {"time": time}}


def _figures(time: str, nano_cores: int, size_bytes: int) -> Object:
    return {
        "cpu": {"time": time, "usageNanoCores": nano_cores},
        "memory": {"time": time, "workingSetBytes": size_bytes},
    }
