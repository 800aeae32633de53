"""Usage as clients read it: /stats/summary (JSON) and /metrics/resource. Pure.

Names and units are kubelet's (pkg/kubelet/apis/stats/v1alpha1, pkg/kubelet/metrics/collectors).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sampan.api.errors import Object
from sampan.api.times import format_time
from sampan.linux.cgroups import Usage

from .claimstats import ClaimDisk
from .exposition import Family, lines_of
from .facts import Disk
from .footprint import NOTHING, Footprint
from .stats import Measured, PodUsage, Reading, Traffic
from .usage import Store


def summary(
    measured: Measured,
    node: str,
    stores: Mapping[str, Store] | None = None,
    claims: Iterable[ClaimDisk] = (),
    *,
    short: bool = False,
) -> Object:
    """The Summary; `short` has processors and memory only (only_cpu_and_memory=true), else there
    is what each pod has stored, by uid, and how full the volumes behind its claims are.

    `windowSeconds` is ours: what the rates are over.
    """
    reading, cores = measured.reading, measured.nano_cores
    time = format_time(reading.at)
    head: Object = {
        "nodeName": node,
        "windowSeconds": round(measured.window_s, 3),
        "startTime": format_time(reading.booted_at),
        "cpu": _cpu(reading.node, cores.get(""), time),
        "memory": _memory(reading.node, time) | {"availableBytes": reading.available_bytes},
    }
    if not short:
        disk = _disk(reading.disk, time)
        rlimit = {"time": time, "maxpid": reading.processes_max, "curproc": reading.processes}
        runtime = {"imageFs": disk, "containerFs": disk}
        head |= {"fs": disk, "runtime": runtime, "rlimit": rlimit}
    found = stores or {}
    pods = [_pod(pod, measured, None if short else found.get(pod.uid)) for pod in reading.pods]
    by_uid = {item["podRef"]["uid"]: item for item in pods}
    for each in claims:
        if each.uid in by_uid:
            reference = {"name": each.claim, "namespace": each.namespace}
            row = {"name": each.volume, "pvcRef": reference, **_disk(each.disk, time)}
            by_uid[each.uid].setdefault("volume", []).append(row)
    return {"node": head, "pods": pods}


def _pod(pod: PodUsage, measured: Measured, store: Store | None) -> Object:
    time = format_time(measured.reading.at)
    cores = measured.nano_cores
    disk = measured.reading.disk
    containers = []
    for item in pod.containers:
        row: Object = {
            "name": item.name,
            "startTime": format_time(item.started_at),
            "cpu": _cpu(item.usage, cores.get(item.id), time),
            "memory": _memory(item.usage, time),
        }
        if store is not None:
            row["rootfs"] = _stored(disk, store.roots.get(item.name, NOTHING), time)
            row["logs"] = _stored(disk, store.logs.get(item.name, NOTHING), time)
        containers.append(row)
    out: Object = {
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "startTime": format_time(pod.started_at),
        "containers": containers,
        "cpu": _cpu(pod.usage, cores.get(pod.uid), time),
        "memory": _memory(pod.usage, time),
    }
    if store is not None:
        out |= _rest_of_pod(pod, store, disk, time)
    return out


def _rest_of_pod(pod: PodUsage, store: Store, disk: Disk, time: str) -> Object:
    total = NOTHING
    for part in (store.roots, store.logs, store.volumes):
        for each in part.values():
            total = total.plus(each)
    out: Object = {
        "process_stats": {"process_count": pod.usage.pids},
        "ephemeral-storage": _stored(disk, total, time),
    }
    if store.volumes:
        out["volume"] = [
            {"name": name} | _stored(disk, each, time) for name, each in store.volumes.items()
        ]
    if pod.traffic is not None:
        eth0 = _traffic(pod.traffic)
        out["network"] = {"time": time, **eth0, "interfaces": [eth0]}
    return out


def _traffic(found: Traffic) -> Object:
    return {
        "name": "eth0",
        "rxBytes": found.received_bytes,
        "rxErrors": found.received_errors,
        "txBytes": found.sent_bytes,
        "txErrors": found.sent_errors,
    }


def _stored(disk: Disk, used: Footprint, time: str) -> Object:
    """What something takes of a disk, beside what the disk has."""
    return _disk(disk, time) | {"usedBytes": used.size_bytes, "inodesUsed": used.inodes}


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
    stable = ((name, kind, f"[STABLE] {text}", rows) for name, kind, text, rows in families)
    lines = [line for family in stable for line in lines_of(family, at)]
    trouble = "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise"
    error: Family = ("resource_scrape_error", "gauge", trouble, [({}, 0.0)])
    return "\n".join([*lines, *lines_of(error)]) + "\n"
