"""Usage as clients read it: /stats/summary (JSON), /metrics/resource and /metrics/cadvisor. Pure.

Names and units are kubelet's (pkg/kubelet/apis/stats/v1alpha1, pkg/kubelet/metrics/collectors).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sampan.api.errors import Object
from sampan.linux.cgroups import Usage

from .stats import Disk, Measured, PodUsage, Reading
from .status import rfc3339


def summary(measured: Measured, node: str, *, short: bool = False) -> Object:
    """The Summary; `short` has processors and memory only (only_cpu_and_memory=true).

    `windowSeconds` is ours: what the rates are over.
    """
    reading, cores = measured.reading, measured.nano_cores
    time = rfc3339(reading.at)
    head: Object = {
        "nodeName": node,
        "windowSeconds": round(measured.window_s, 3),
        "startTime": rfc3339(reading.booted_at),
        "cpu": _cpu(reading.node, cores.get(""), time),
        "memory": _memory(reading.node, time) | {"availableBytes": reading.available_bytes},
    }
    if not short:
        disk = _disk(reading.disk, time)
        rlimit = {"time": time, "maxpid": reading.processes_max, "curproc": reading.processes}
        head |= {"fs": disk, "runtime": {"imageFs": disk}, "rlimit": rlimit}
    return {"node": head, "pods": [_pod(pod, measured, short) for pod in reading.pods]}


def _pod(pod: PodUsage, measured: Measured, short: bool) -> Object:
    time = rfc3339(measured.reading.at)
    cores = measured.nano_cores
    disk = measured.reading.disk
    containers = []
    for item in pod.containers:
        row: Object = {
            "name": item.name,
            "startTime": rfc3339(item.started_at),
            "cpu": _cpu(item.usage, cores.get(item.id), time),
            "memory": _memory(item.usage, time),
        }
        if not short:
            row["logs"] = _disk(disk, time) | {"usedBytes": item.log_bytes}
        containers.append(row)
    out: Object = {
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "startTime": rfc3339(pod.started_at),
        "containers": containers,
        "cpu": _cpu(pod.usage, cores.get(pod.uid), time),
        "memory": _memory(pod.usage, time),
    }
    if not short:
        out["process_stats"] = {"process_count": pod.usage.pids}
    return out


def _cpu(usage: Usage, nano_cores: int | None, time: str) -> Object:
    out: Object = {"time": time, "usageCoreNanoSeconds": usage.cpu_ns}
    if nano_cores is not None:
        out["usageNanoCores"] = nano_cores
    return out


def _memory(usage: Usage, time: str) -> Object:
    out: Object = {
        "time": time,
        "usageBytes": usage.memory_bytes,
        "workingSetBytes": usage.working_set_bytes,
        "rssBytes": usage.rss_bytes,
    }
    if usage.memory_limit_bytes:
        left = usage.memory_limit_bytes - usage.working_set_bytes
        out["availableBytes"] = max(0, left)
    return out


def _disk(disk: Disk, time: str) -> Object:
    return {
        "time": time,
        "availableBytes": disk.available_bytes,
        "capacityBytes": disk.capacity_bytes,
        "usedBytes": disk.capacity_bytes - disk.available_bytes,
        "inodesFree": disk.inodes_free,
        "inodes": disk.inodes,
        "inodesUsed": disk.inodes - disk.inodes_free,
    }


# Prometheus


Row = tuple[dict[str, str], float]
Family = tuple[str, str, str, Iterable[Row]]
"""Name, type, help, and the values with their labels."""


def resource_text(reading: Reading) -> str:
    """/metrics/resource, with the time of the reading at every value."""
    at = int(reading.at * 1000)
    of_pods = [({"namespace": pod.namespace, "pod": pod.name}, pod) for pod in reading.pods]
    of_containers = [
        ({"container": item.name, **labels}, item)
        for labels, pod in of_pods
        for item in pod.containers
    ]
    cpu, memory = "cpu_usage_seconds_total", "memory_working_set_bytes"
    families: list[Family] = [
        (f"container_{cpu}", "counter", "Cumulative cpu time consumed by the container in "
         "core-seconds", ((labels, item.usage.cpu_ns / 1e9) for labels, item in of_containers)),
        (f"container_{memory}", "gauge", "Current working set of the container in bytes",
         ((labels, item.usage.working_set_bytes) for labels, item in of_containers)),
        ("container_start_time_seconds", "gauge", "Start time of the container since unix epoch "
         "in seconds", ((labels, item.started_at) for labels, item in of_containers)),
        (f"node_{cpu}", "counter", "Cumulative cpu time consumed by the node in core-seconds",
         [({}, reading.node.cpu_ns / 1e9)]),
        (f"node_{memory}", "gauge", "Current working set of the node in bytes",
         [({}, reading.node.working_set_bytes)]),
        (f"pod_{cpu}", "counter", "Cumulative cpu time consumed by the pod in core-seconds",
         ((labels, pod.usage.cpu_ns / 1e9) for labels, pod in of_pods)),
        (f"pod_{memory}", "gauge", "Current working set of the pod in bytes",
         ((labels, pod.usage.working_set_bytes) for labels, pod in of_pods)),
    ]  # fmt: skip
    lines = [line for family in families for line in _family(family, at)]
    trouble = "1 if there was an error while getting container metrics, 0 otherwise"
    error: Family = ("resource_scrape_error", "gauge", trouble, [({}, 0.0)])
    return "\n".join([*lines, *_family(error, None)]) + "\n"


def cadvisor_text(reading: Reading, cpus: int) -> str:
    """/metrics/cadvisor: the figures dashboards ask for most, with cadvisor's labels."""
    at = int(reading.at * 1000)
    rows = [
        ({"container": item.name, "id": item.id, "image": item.image, "name": item.id,
          "namespace": pod.namespace, "pod": pod.name}, item)
        for pod in reading.pods for item in pod.containers
    ]  # fmt: skip
    figures: list[tuple[str, str, str, Any]] = [
        ("cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.",
         lambda item: item.usage.cpu_ns / 1e9),
        ("memory_usage_bytes", "gauge", "Current memory usage in bytes, including all memory "
         "regardless of when it was accessed", lambda item: item.usage.memory_bytes),
        ("memory_working_set_bytes", "gauge", "Current working set in bytes.",
         lambda item: item.usage.working_set_bytes),
        ("memory_rss", "gauge", "Size of RSS in bytes.", lambda item: item.usage.rss_bytes),
        ("spec_memory_limit_bytes", "gauge", "Memory limit for the container.",
         lambda item: item.usage.memory_limit_bytes),
        ("processes", "gauge", "Number of processes running inside the container.",
         lambda item: item.usage.pids),
        ("start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds.",
         lambda item: item.started_at),
    ]  # fmt: skip
    lines: list[str] = []
    for name, kind, text, figure in figures:
        family = (
            f"container_{name}",
            kind,
            text,
            [(labels, figure(item)) for labels, item in rows],
        )
        lines += _family(family, at)
    machine: tuple[Family, ...] = (
        ("machine_cpu_cores", "gauge", "Number of logical CPU cores.", [({}, float(cpus))]),
        ("machine_memory_bytes", "gauge", "Amount of memory installed on the machine.",
         [({}, float(reading.node.memory_limit_bytes))]),
    )  # fmt: skip
    for each in machine:
        lines += _family(each, at)
    return "\n".join(lines) + "\n"


def _family(family: Family, at: int | None) -> Iterator[str]:
    name, kind, text, rows = family
    yield f"# HELP {name} [STABLE] {text}" if at is not None else f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for labels, value in rows:
        inside = ",".join(f'{key}="{_escaped(item)}"' for key, item in sorted(labels.items()))
        shown = f"{value:.9g}" if value < 1e6 else repr(float(value))
        where = f"{name}{{{inside}}}" if inside else name
        yield f"{where} {shown} {at}" if at is not None else f"{where} {shown}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
