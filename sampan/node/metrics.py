"""The agent's /metrics and /metrics/probes, with kubelet's names where it has the same figure."""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sampan.version import GIT_VERSION
from sampan.wire.exposition import Buckets
from sampan.wire.pem import read_blocks

from .exposition import Family, Row, histogram_lines, lines_of
from .manifests import is_static
from .tally import Tally
from .timings import OPERATION, TIMINGS

if TYPE_CHECKING:
    from .agent import Agent
    from .worker import PodWorker

CONFIGS = (
    ("desired", "true"), ("desired", ""), ("orphan", "true"), ("orphan", ""),
    ("runtime_only", "unknown"),
)  # fmt: skip
STARTED_AT = time.time()


def metrics_text(agent: Agent) -> str:
    """Prometheus text format."""
    tally = agent.parts.tally
    lines: list[str] = []
    for family in (
        *_about(agent),
        *_pods(agent),
        *_working(agent),
        *_volumes(agent),
        *_counted(agent, tally),
        *_spoken(tally),
        *_certificates(agent),
        *_process(),
    ):
        lines += lines_of(family)
    for name, timing in TIMINGS.items():
        series = tally.timings.get(name, {} if timing.labels else {(): Buckets(timing.bounds)})
        lines += histogram_lines(
            name,
            f"[ALPHA] {timing.text}",
            [
                (dict(zip(timing.labels, values, strict=True)), found)
                for values, found in sorted(series.items())
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


def _working(agent: Agent) -> Iterator[Family]:
    """Pods by how far their lives are, and whether somebody still wants them."""
    wanted = agent.static.wanted
    counts: Counter[tuple[str, str, str]] = Counter()
    for uid, worker in tuple(agent.workers.items()):
        static = is_static(worker.state.pod)
        orphan = uid not in wanted if static else worker.gone
        config, kind = "orphan" if orphan else "desired", "true" if static else ""
        counts[_stage(worker), config, kind] += 1
    # What a former agent ran, and nobody knows of.
    counts["terminating", "runtime_only", "unknown"] = agent.orphans
    rows = _rows(
        ("lifecycle", "config", "static"),
        Counter(
            {
                (stage, config, kind): counts[stage, config, kind]
                for config, kind in CONFIGS
                for stage in ("sync", "terminating", "terminated")
            }
        ),
    )
    text = "[ALPHA] Number of pods the kubelet is actually running, broken down by lifecycle phase"
    yield "kubelet_working_pods", "gauge", text, rows
    text = "[ALPHA] The number of mirror pods the kubelet will try to create (one per admitted "
    yield "kubelet_mirror_pods", "gauge", f"{text}static pod)", [({}, len(wanted))]
    text = "[ALPHA] Current number of ephemeral containers in pods managed by this kubelet."
    count = sum(
        len(worker.state.spec.get("ephemeralContainers") or ()) for worker in agent.workers.values()
    )
    yield "kubelet_managed_ephemeral_containers", "gauge", text, [({}, count)]


def _stage(worker: PodWorker) -> str:
    """In kubelet's words (PodWorkerState)."""
    if worker.state.stopped:
        return "terminated"
    return "terminating" if worker.ends or worker.state.failure else "sync"


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
    text = "[ALPHA] Cumulative number of pod preemptions by preemption resource"
    rows = [({"preemption_signal": name}, n) for name, n in sorted(tally.preemptions.items())]
    yield "kubelet_preemptions", "counter", text, rows
    text = "[ALPHA] Cumulative number of runtime operations by operation type."
    rows = [
        ({"operation_type": name}, sum(found.counts))
        for (name,), found in sorted(tally.timings.get(OPERATION, {}).items())
    ]
    yield "kubelet_runtime_operations_total", "counter", text, rows
    text = "[ALPHA] Cumulative number of runtime operation errors by operation type."
    rows = [({"operation_type": name}, n) for name, n in sorted(tally.errors.items())]
    yield "kubelet_runtime_operations_errors_total", "counter", text, rows
    text = "[ALPHA] Cumulative number of the run_podsandbox operation errors by "
    rows = [({"runtime_handler": name}, n) for name, n in sorted(tally.failed_sandboxes.items())]
    yield (
        "kubelet_run_podsandbox_errors_total", "counter", f"{text}RuntimeClass.Handler.", rows
    )  # fmt: skip
    text = "[ALPHA] Cumulative number pod admission rejections by the Kubelet."
    rows = [({"reason": name}, n) for name, n in sorted(tally.rejected.items())]
    yield "kubelet_admission_rejections_total", "counter", text, rows
    text = "[ALPHA] Total number of images garbage collected by the kubelet, whether through disk "
    rows = [({"reason": name}, n) for name, n in sorted(agent.collector.removed.items())]
    yield (
        "kubelet_image_garbage_collected_total", "counter", f"{text}usage or image age.", rows
    )  # fmt: skip
    text = "Statuses written to the API"
    sent = agent.parts.reports.sent
    yield "sampan_node_status_writes_total", "counter", text, [({}, sent)]
    text = "Events lost as the queue was full"
    dropped = agent.recorder.dropped
    yield "sampan_node_events_dropped_total", "counter", text, [({}, dropped)]


def _spoken(tally: Tally) -> Iterator[Family]:
    """Of the agent's server, and with the API's."""
    names = ("method", "path", "server_type", "long_running")
    text = "[ALPHA] Number of the http requests received since the server started"
    yield "kubelet_http_requests_total", "counter", text, _rows(names, tally.answers)
    text = "[ALPHA] Number of the inflight http requests"
    yield "kubelet_http_inflight_requests", "gauge", text, _rows(names, tally.answering)
    text = "[ALPHA] Number of HTTP requests, partitioned by status code, method, and host."
    rows = _rows(("code", "method", "host"), tally.requests)
    yield "rest_client_requests_total", "counter", text, rows


def _rows(names: Sequence[str], counts: Counter[Any]) -> list[Row]:
    return [
        (dict(zip(names, key, strict=True)), count) for key, count in sorted(counts.items())
    ]  # fmt: skip


def _certificates(agent: Agent) -> Iterator[Family]:
    """How long the node's two certificates last: +Inf where a file says nothing, as upstream."""
    now, failed = agent.clock.now(), agent.parts.tally.renewals_failed
    for use, path in (("client", agent.client_cert), ("server", agent.config.cert)):
        text = f"[ALPHA] Gauge of the TTL (time-to-live) of the Kubelet's {use} certificate."
        rows: list[Row] = [({}, expiry_of(path) - now)]
        yield f"kubelet_certificate_manager_{use}_ttl_seconds", "gauge", text, rows
    text = "[ALPHA] Counter of certificate renewal errors."
    count = failed["client"]
    name = "kubelet_certificate_manager_client_expiration_renew_errors"
    yield name, "counter", text, [({}, count)]
    count = failed["server"]
    yield "kubelet_server_expiration_renew_errors", "counter", text, [({}, count)]


def expiry_of(path: Path) -> float:
    """When the certificate of a file ends, in seconds since the epoch."""
    from sampan.wire.certificate import read_subject

    try:
        block = next(read_blocks(path.read_text()))
        return read_subject(block.data).expires_s
    except (OSError, StopIteration, ValueError):
        return inf


def _process() -> Iterator[Family]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    figures = (
        ("cpu_seconds_total", "counter", usage.ru_utime + usage.ru_stime,
         "Total user and system CPU time spent in seconds."),
        ("resident_memory_bytes", "gauge", _memory_bytes(1), "Resident memory size in bytes."),
        ("virtual_memory_bytes", "gauge", _memory_bytes(0), "Virtual memory size in bytes."),
        ("max_fds", "gauge", resource.getrlimit(resource.RLIMIT_NOFILE)[0],
         "Maximum number of open file descriptors."),
        ("open_fds", "gauge", len(os.listdir("/proc/self/fd")), "Number of open file descriptors."),
        ("start_time_seconds", "gauge", round(STARTED_AT, 2),
         "Start time of the process since unix epoch in seconds."),
    )  # fmt: skip
    for name, kind, value, text in figures:
        yield f"process_{name}", kind, text, [({}, value)]


def _memory_bytes(field: int) -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[field]) * resource.getpagesize()
