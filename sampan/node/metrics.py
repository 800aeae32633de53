"""The agent's /metrics and /metrics/probes, with kubelet's names where it has the same figure."""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sampan.version import GIT_VERSION

from .exposition import Family, Row, histogram_lines, lines_of
from .manifests import is_static
from .tally import Tally

if TYPE_CHECKING:
    from .agent import Agent

STARTED_AT = time.time()


def metrics_text(agent: Agent) -> str:
    """Prometheus text format."""
    tally = agent.parts.tally
    lines: list[str] = []
    for family in (
        *_about(agent),
        *_pods(agent),
        *_volumes(agent),
        *_counted(agent, tally),
        *_process(),
    ):
        lines += lines_of(family)
    lines += histogram_lines(
        "kubelet_pod_start_duration_seconds",
        "[ALPHA] Duration in seconds from kubelet seeing a pod for the first time to the pod "
        "starting to run",
        [({}, tally.starts)],
    )
    lines += histogram_lines(
        "kubelet_runtime_operations_duration_seconds",
        "[ALPHA] Duration in seconds of runtime operations. Broken down by operation type.",
        [({"operation_type": name}, found) for name, found in sorted(tally.operations.items())],
    )
    names = ("volume_plugin", "operation_name", "status")
    lines += histogram_lines(
        "storage_operation_duration_seconds",
        "[ALPHA] Storage operation duration",
        [
            ({**dict(zip(names, key, strict=True)), "migrated": "false"}, found)
            for key, found in sorted(tally.storage.items())
        ],
    )
    return "\n".join(lines) + "\n"


def probes_text(tally: Tally) -> str:
    """/metrics/probes."""
    names = ("probe_type", "result", "container", "pod", "namespace", "pod_uid")
    rows: list[Row] = [
        (dict(zip(names, key, strict=True)), count) for key, count in sorted(tally.probes.items())
    ]
    text = "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by "
    family: Family = ("prober_probe_total", "counter", f"{text}result.", rows)
    return "\n".join(lines_of(family)) + "\n"


def _about(agent: Agent) -> Iterator[Family]:
    build: dict[str, str] = {"git_version": GIT_VERSION, "major": "1", "minor": "36"}
    text = "[BETA] A metric with a constant '1' value labeled by version"
    yield "kubernetes_build_info", "gauge", text, [(build, 1)]
    text = "[ALPHA] The node's name. The count is always 1."
    yield "kubelet_node_name", "gauge", text, [({"node": agent.config.name}, 1)]


def _pods(agent: Agent) -> Iterator[Family]:
    states = Counter(item.state.value for item in agent.runtime.list())
    workers = list(agent.workers.values())
    active = Counter(bool(is_static(item.state.pod)) for item in workers if not item.state.stopped)
    desired = Counter(bool(is_static(item.state.pod)) for item in workers)
    running = sum(
        any(runs and runs[-1].state == "running" for runs in item.state.attempts.values())
        for item in workers
    )
    text = "[BETA] Number of pods that have a running pod sandbox"
    yield "kubelet_running_pods", "gauge", text, [({}, running)]
    text = "[BETA] Number of containers currently running"
    rows: list[Row] = [({"container_state": name}, count) for name, count in sorted(states.items())]
    yield "kubelet_running_containers", "gauge", text, rows
    for name, counts, text in (
        ("active_pods", active, "[ALPHA] The number of pods the kubelet considers active and which "
         "are being considered when admitting new pods. static is true if the pod is not from the "
         "apiserver."),
        ("desired_pods", desired, "[ALPHA] The number of pods the kubelet is being instructed to "
         "run. static is true if the pod is not from the apiserver."),
    ):  # fmt: skip
        kinds: list[Row] = [
            ({"static": "true" if static else ""}, counts[static]) for static in (False, True)
        ]
        yield f"kubelet_{name}", "gauge", text, kinds


def _volumes(agent: Agent) -> Iterator[Family]:
    """Those of pods that are to run, and of those whose volumes are there."""
    counts: Counter[tuple[str, str]] = Counter()
    for worker in agent.workers.values():
        plugins = worker.sandbox.plugins().values()
        if not worker.state.stopped:
            counts.update((name, "desired_state_of_world") for name in plugins)
        if worker.sandbox.ready:
            counts.update((name, "actual_state_of_world") for name in plugins)
    rows: list[Row] = [
        ({"plugin_name": name, "state": state}, count)
        for (name, state), count in sorted(counts.items())
    ]
    text = "[ALPHA] Number of volumes in Volume Manager"
    yield "volume_manager_total_volumes", "gauge", text, rows


def _counted(agent: Agent, tally: Tally) -> Iterator[Family]:
    text = "[ALPHA] Cumulative number of pods started"
    yield "kubelet_started_pods_total", "counter", text, [({}, tally.pods)]
    text = "[ALPHA] Cumulative number of errors when starting pods"
    yield "kubelet_started_pods_errors_total", "counter", text, [({}, tally.failed_pods)]
    text = "[ALPHA] Cumulative number of containers started"
    rows: list[Row] = [
        ({"container_type": kind}, n) for kind, n in sorted(tally.containers.items())
    ]
    yield "kubelet_started_containers_total", "counter", text, rows
    text = "[ALPHA] Cumulative number of errors when starting containers"
    rows = [
        ({"container_type": kind, "code": code}, n)
        for (kind, code), n in sorted(tally.failed.items())
    ]
    yield "kubelet_started_containers_errors_total", "counter", text, rows
    text = "[ALPHA] Cumulative number of pod evictions by eviction signal"
    rows = [({"eviction_signal": name}, n) for name, n in sorted(agent.evictor.evictions.items())]
    yield "kubelet_evictions", "counter", text, rows
    text = "[ALPHA] Cumulative number of runtime operations by operation type."
    rows = [
        ({"operation_type": name}, sum(found.counts))
        for name, found in sorted(tally.operations.items())
    ]
    yield "kubelet_runtime_operations_total", "counter", text, rows
    text = "[ALPHA] Cumulative number of runtime operation errors by operation type."
    rows = [({"operation_type": name}, n) for name, n in sorted(tally.errors.items())]
    yield "kubelet_runtime_operations_errors_total", "counter", text, rows
    text = "Statuses written to the API"
    sent = agent.parts.reports.sent
    yield "sampan_node_status_writes_total", "counter", text, [({}, sent)]
    text = "Events lost as the queue was full"
    dropped = agent.recorder.dropped
    yield "sampan_node_events_dropped_total", "counter", text, [({}, dropped)]


def _process() -> Iterator[Family]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    figures = (
        ("cpu_seconds_total", "counter", usage.ru_utime + usage.ru_stime,
         "Total user and system CPU time spent in seconds."),
        ("resident_memory_bytes", "gauge", _resident_bytes(), "Resident memory size in bytes."),
        ("open_fds", "gauge", len(os.listdir("/proc/self/fd")), "Number of open file descriptors."),
        ("start_time_seconds", "gauge", round(STARTED_AT, 2),
         "Start time of the process since unix epoch in seconds."),
    )  # fmt: skip
    for name, kind, value, text in figures:
        yield f"process_{name}", kind, text, [({}, value)]


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
