"""/metrics/cadvisor: what containers, pods and the machine use, with cadvisor's names and labels.

A row per container, a row per pod's cgroup (an empty `container`), one of all (`id="/"`), network
rows per pod. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sampan.linux.blockio import Transfers

from .exposition import Family, Row, lines_of
from .footprint import Footprint
from .stats import ContainerUsage, PodUsage, Reading
from .usage import Store

Labels = Mapping[str, str]

# (name, type, help, figure of a cgroup's usage)
OF_GROUPS: tuple[tuple[str, str, str, Callable[[Any], float]], ...] = (
    ("memory_usage_bytes", "gauge", "Current memory usage in bytes, including all memory "
     "regardless of when it was accessed", lambda usage: usage.memory_bytes),
    ("memory_working_set_bytes", "gauge", "Current working set in bytes.",
     lambda usage: usage.working_set_bytes),
    ("memory_rss", "gauge", "Size of RSS in bytes.", lambda usage: usage.rss_bytes),
    ("memory_cache", "gauge", "Number of bytes of page cache memory.",
     lambda usage: usage.cache_bytes),
    ("memory_mapped_file", "gauge", "Size of memory mapped files in bytes.",
     lambda usage: usage.mapped_bytes),
    ("memory_swap", "gauge", "Container swap usage in bytes.", lambda usage: usage.swap_bytes),
    ("oom_events_total", "counter", "Count of out of memory events observed for the container",
     lambda usage: usage.oom_kills),
    ("cpu_user_seconds_total", "counter", "Cumulative user cpu time consumed in seconds.",
     lambda usage: usage.processor.user_ns / 1e9),
    ("cpu_system_seconds_total", "counter", "Cumulative system cpu time consumed in seconds.",
     lambda usage: usage.processor.system_ns / 1e9),
    ("spec_cpu_period", "gauge", "CPU period of the container.",
     lambda usage: usage.processor.period_us),
    ("spec_cpu_shares", "gauge", "CPU share of the container.",
     lambda usage: usage.processor.shares),
    ("spec_memory_limit_bytes", "gauge", "Memory limit for the container.",
     lambda usage: usage.memory_limit_bytes),
    ("processes", "gauge", "Number of processes running inside the container.",
     lambda usage: usage.pids),
)  # fmt: skip
OF_ROOT = ("memory_usage_bytes", "memory_working_set_bytes", "memory_rss")
"""What is told of the machine's own cgroup too, by which adapters know how busy a node is."""
ROOT = {"container": "", "id": "/", "image": "", "name": "", "namespace": "", "pod": ""}
# Only of those that have a quota, as cadvisor's.
OF_LIMITED: tuple[tuple[str, str, str, Callable[[Any], float]], ...] = (
    ("spec_cpu_quota", "gauge", "CPU quota of the container.", lambda cpu: cpu.quota_us),
    ("cpu_cfs_periods_total", "counter", "Number of elapsed enforcement period intervals.",
     lambda cpu: cpu.periods),
    ("cpu_cfs_throttled_periods_total", "counter", "Number of throttled period intervals.",
     lambda cpu: cpu.throttled_periods),
    ("cpu_cfs_throttled_seconds_total", "counter", "Total time duration the container has been "
     "throttled.", lambda cpu: cpu.throttled_ns / 1e9),
)  # fmt: skip
# (name, help, field of Traffic)
OF_NETWORK = (
    ("receive_bytes", "Cumulative count of bytes received", "received_bytes"),
    ("receive_packets", "Cumulative count of packets received", "received_packets"),
    ("receive_errors", "Cumulative count of errors encountered while receiving", "received_errors"),
    ("receive_packets_dropped", "Cumulative count of packets dropped while receiving",
     "received_dropped"),
    ("transmit_bytes", "Cumulative count of bytes transmitted", "sent_bytes"),
    ("transmit_packets", "Cumulative count of packets transmitted", "sent_packets"),
    ("transmit_errors", "Cumulative count of errors encountered while transmitting", "sent_errors"),
    ("transmit_packets_dropped", "Cumulative count of packets dropped while transmitting",
     "sent_dropped"),
)  # fmt: skip


# (name, help, figure of Transfers, direction)
OF_DEVICES = (
    ("reads_bytes", "Cumulative count of bytes read", "bytes", "Read"),
    ("reads", "Cumulative count of reads completed", "count", "Read"),
    ("writes_bytes", "Cumulative count of bytes written", "bytes", "Write"),
    ("writes", "Cumulative count of writes completed", "count", "Write"),
)


def cadvisor_text(
    reading: Reading,
    cpus: int,
    stores: Mapping[str, Store] | None = None,
    moved: Mapping[str, Transfers] | None = None,
) -> str:
    """`moved` is what containers have read and written, by id."""
    at = int(reading.at * 1000)
    lines: list[str] = []
    for family in (
        *_groups(reading),
        *_disks(reading, stores or {}),
        *_devices(reading, moved or {}),
        *_network(reading),
        *_machine(reading, cpus),
    ):
        lines += lines_of(family, at)
    return "\n".join(lines) + "\n"


def _groups(reading: Reading) -> Iterator[Family]:
    rows = list(_rows(reading))
    whole = reading.node
    cpu: list[Row] = [({**ROOT, "cpu": "total"}, whole.cpu_ns / 1e9)]
    cpu += [({**labels, "cpu": "total"}, usage.cpu_ns / 1e9) for labels, usage, _ in rows]
    text = "Cumulative cpu time consumed in seconds."
    yield "container_cpu_usage_seconds_total", "counter", text, cpu
    for name, kind, text, figure in OF_GROUPS:
        found: list[Row] = [(ROOT, figure(whole))] if name in OF_ROOT else []
        found += [(labels, figure(use)) for labels, use, _ in rows]
        yield f"container_{name}", kind, text, found
    limited = [(labels, use.processor) for labels, use, _ in rows if use.processor.quota_us]
    for name, kind, text, figure in OF_LIMITED:
        yield f"container_{name}", kind, text, [(labels, figure(cpu)) for labels, cpu in limited]
    text = "Start time of the container since unix epoch in seconds."
    yield "container_start_time_seconds", "gauge", text, [(it, started) for it, _, started in rows]
    text = "Last time a container was seen by the exporter"
    yield "container_last_seen", "gauge", text, [(labels, int(reading.at)) for labels, *_ in rows]


def _rows(reading: Reading) -> Iterator[tuple[Labels, Any, float]]:
    """(labels, usage, start) of every container and of every pod's cgroup."""
    for pod in reading.pods:
        labels = _pod_labels(pod)
        yield labels, pod.usage, pod.started_at
        for item in pod.containers:
            own = {"container": item.name, "image": item.image, "name": item.id}
            place = f"{labels['id']}/{item.id}"
            yield {**labels, **own, "id": place}, item.usage, item.started_at


def _pod_labels(pod: PodUsage) -> dict[str, str]:
    """Of its cgroup."""
    return {
        "container": "", "id": f"/{pod.cgroup}", "image": "", "name": "",
        "namespace": pod.namespace, "pod": pod.name,
    }  # fmt: skip


def _disks(reading: Reading, stores: Mapping[str, Store]) -> Iterator[Family]:
    used: list[Row] = []
    inodes: list[Row] = []
    for pod in reading.pods:
        store = stores.get(pod.uid)
        for item in pod.containers if store is not None else ():
            assert store is not None
            root = store.roots.get(item.name, Footprint())
            labels = _device_labels(pod, item, "")
            used.append((labels, root.size_bytes))
            inodes.append((labels, root.inodes))
    text = "Number of bytes that are consumed by the container on this filesystem."
    yield "container_fs_usage_bytes", "gauge", text, used
    yield "container_fs_inodes_total", "gauge", "Number of Inodes", inodes


def _device_labels(pod: PodUsage, item: ContainerUsage, device: str) -> dict[str, str]:
    return _pod_labels(pod) | {
        "container": item.name, "image": item.image, "name": item.id, "device": device,
        "id": f"/{pod.cgroup}/{item.id}",
    }  # fmt: skip


def _devices(reading: Reading, moved: Mapping[str, Transfers]) -> Iterator[Family]:
    for name, text, figure, direction in OF_DEVICES:
        rows: list[Row] = [
            (_device_labels(pod, item, device), float(value))
            for pod in reading.pods
            for item in pod.containers
            if item.id in moved
            for (device, way), value in getattr(moved[item.id], figure).items()
            if way == direction
        ]
        yield f"container_fs_{name}_total", "counter", text, rows


def _network(reading: Reading) -> Iterator[Family]:
    rows = [
        ({**_pod_labels(pod), "interface": "eth0"}, pod.traffic)
        for pod in reading.pods
        if pod.traffic is not None
    ]
    for name, text, field in OF_NETWORK:
        values: list[Row] = [(labels, getattr(traffic, field)) for labels, traffic in rows]
        yield f"container_network_{name}_total", "counter", text, values


def _machine(reading: Reading, cpus: int) -> Iterator[Family]:
    text = "Number of logical CPU cores."
    yield "machine_cpu_cores", "gauge", text, [({}, float(cpus))]
    text = "Amount of memory installed on the machine."
    memory = float(reading.node.memory_limit_bytes)
    yield "machine_memory_bytes", "gauge", text, [({}, memory)]
    trouble = "1 if there was an error while getting container metrics, 0 otherwise"
    yield "container_scrape_error", "gauge", trouble, [({}, 0.0)]
