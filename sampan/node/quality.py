"""Quality of service: class, OOM score, cgroup values. Pure; the numbers are kubelet's.

pkg/kubelet/qos/policy.go, pkg/kubelet/cm/helpers_linux.go, pkg/apis/core/v1/helper/qos.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sampan.api.kinds.core.podspec.quality import BEST_EFFORT, BURSTABLE, GUARANTEED, qos_class
from sampan.runtime.interface import Resources
from sampan.wire.quantity import milli, whole

__all__ = [
    "BEST_EFFORT",
    "BURSTABLE",
    "GUARANTEED",
    "cgroup_parent",
    "cgroup_resources",
    "oom_score_adj",
    "pod_resources",
    "qos_class",
]

MIN_SHARES, MAX_SHARES = 2, 262_144
PERIOD_US = 100_000
MIN_QUOTA_US = 1_000
GUARANTEED_OOM, BEST_EFFORT_OOM = -997, 1000


def cgroup_parent(pod: Mapping[str, Any]) -> str:
    """Where a pod's containers hang, relative to the cluster's cgroup root."""
    folder = {BURSTABLE: "burstable/", BEST_EFFORT: "besteffort/"}.get(qos_class(pod["spec"]), "")
    return f"kubepods/{folder}pod{pod['metadata']['uid']}"


def oom_score_adj(spec: Mapping[str, Any], container: Mapping[str, Any], memory_bytes: int) -> int:
    """The more of the node's memory a container asks for, the later it is killed."""
    quality = qos_class(spec)
    if quality == GUARANTEED:
        return GUARANTEED_OOM
    if quality == BEST_EFFORT:
        return BEST_EFFORT_OOM
    requests = (container.get("resources") or {}).get("requests") or {}
    asked = whole(requests["memory"]) if "memory" in requests else 0
    score = 1000 - 1000 * asked // max(memory_bytes, 1)
    # Burstable containers stay between the guaranteed ones and the best-effort ones.
    return max(1000 + GUARANTEED_OOM, min(score, BEST_EFFORT_OOM - 1))


def cgroup_resources(
    spec: Mapping[str, Any], container: Mapping[str, Any], memory_bytes: int
) -> Resources:
    """The container's cgroup values; a missing request takes the limit's place."""
    resources = container.get("resources") or {}
    limits = resources.get("limits") or {}
    requests = resources.get("requests") or {}
    cpu_limit = _milli(limits, "cpu")
    cpu = cpu_limit if "cpu" not in requests and cpu_limit else _milli(requests, "cpu")
    return Resources(
        cpu_shares=shares(cpu),
        cpu_quota_us=quota(cpu_limit),
        cpu_period_us=PERIOD_US,
        memory_limit_bytes=whole(limits["memory"]) if "memory" in limits else 0,
        oom_score_adj=oom_score_adj(spec, container, memory_bytes),
    )


def pod_resources(spec: Mapping[str, Any]) -> Resources:
    """The values of the pod's own cgroup, of a pod that has resources of its own (KEP-2837)."""
    own = spec.get("resources") or {}
    limits, requests = own.get("limits") or {}, own.get("requests") or {}
    cpu_limit = _milli(limits, "cpu")
    return Resources(
        cpu_shares=shares(_milli(requests, "cpu") if "cpu" in requests else cpu_limit),
        cpu_quota_us=quota(cpu_limit),
        cpu_period_us=PERIOD_US,
        memory_limit_bytes=whole(limits["memory"]) if "memory" in limits else 0,
    )


def shares(milli_cpu: int) -> int:
    """cgroup v1 cpu.shares of a request."""
    return max(MIN_SHARES, min(milli_cpu * 1024 // 1000, MAX_SHARES))


def quota(milli_cpu: int) -> int:
    """CFS quota of a limit, per period; 0 is none."""
    return max(milli_cpu * PERIOD_US // 1000, MIN_QUOTA_US) if milli_cpu else 0


def _milli(quantities: Mapping[str, Any], name: str) -> int:
    return milli(quantities[name]) if name in quantities else 0
