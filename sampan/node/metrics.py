"""The agent's /metrics, with kubelet's names where it has the same figure."""

from __future__ import annotations

import os
import resource
import time
from typing import TYPE_CHECKING

from sampan.version import GIT_VERSION

if TYPE_CHECKING:
    from .agent import Agent

STARTED_AT = time.time()


def metrics_text(agent: Agent) -> str:
    """Prometheus text format."""
    running = sum(1 for item in agent.parts.runtime.list() if item.state.value == "running")
    usage = resource.getrusage(resource.RUSAGE_SELF)
    rows = (
        ("kubelet_running_pods", "gauge", len(agent.workers)),
        ("kubelet_running_containers", "gauge", running),
        ("sampan_node_status_writes_total", "counter", agent.parts.reports.sent),
        ("sampan_node_events_dropped_total", "counter", agent.recorder.dropped),
        ("process_cpu_seconds_total", "counter", usage.ru_utime + usage.ru_stime),
        ("process_resident_memory_bytes", "gauge", _resident_bytes()),
        ("process_open_fds", "gauge", len(os.listdir("/proc/self/fd"))),
        ("process_start_time_seconds", "gauge", round(STARTED_AT, 2)),
    )
    lines = [
        "# TYPE kubernetes_build_info gauge",
        f'kubernetes_build_info{{git_version="{GIT_VERSION}"}} 1',
        "# TYPE kubelet_node_name gauge",
        f'kubelet_node_name{{node="{agent.config.name}"}} 1',
    ]
    lines.append("# TYPE kubelet_image_garbage_collected_total counter")
    for reason, count in sorted(agent.collector.removed.items()):
        lines.append(f'kubelet_image_garbage_collected_total{{reason="{reason}"}} {count}')
    for name, kind, value in rows:
        lines += [
            f"# TYPE {name} {kind}",
            f"{name} {value:g}" if value < 1e6 else f"{name} {value}",
        ]
    return "\n".join(lines) + "\n"


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
