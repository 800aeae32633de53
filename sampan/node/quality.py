"""Quality of service: class, OOM score, cgroup values. Pure; the numbers are kubelet's.

pkg/kubelet/qos/policy.go, pkg/kubelet/cm/helpers_linux.go, pkg/apis/core/v1/helper/qos.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, structs

from sampan.api.kinds.core.podspec.quality import BEST_EFFORT, BURSTABLE, GUARANTEED, qos_class
from sampan.api.kinds.core.podspec.resources import total_limits, total_requests
from sampan.runtime.interface import Resources
from sampan.wire.quantity import milli, whole

__all__ = [
    "BEST_EFFORT",
    "BURSTABLE",
    "GUARANTEED",
    "Bounds",
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


class Bounds(Struct, frozen=True):
    """What the node says of every pod's cgroups."""

    memory_bytes: int
    """Of the node."""
    pod_pids: int = 0
    """Processes of one pod; 0 is no limit."""
    hugepages: tuple[str, ...] = ()
    """Sizes the node has some of, as resources name them ("2Mi")."""


def cgroup_resources(
    spec: Mapping[str, Any], container: Mapping[str, Any], bounds: Bounds
) -> Resources:
    """The container's cgroup values; a missing request takes the limit's place. One without limits
    has its pod's, which programs look for in their own cgroup (getCPULimit, KEP-2837)."""
    resources = container.get("resources") or {}
    limits = {**inherited_limits(spec), **(resources.get("limits") or {})}
    requests = resources.get("requests") or {}
    cpu_limit = _milli(limits, "cpu")
    cpu = cpu_limit if "cpu" not in requests and cpu_limit else _milli(requests, "cpu")
    return Resources(
        cpu_shares=shares(cpu),
        cpu_quota_us=quota(cpu_limit),
        cpu_period_us=PERIOD_US,
        memory_limit_bytes=whole(limits["memory"]) if "memory" in limits else 0,
        oom_score_adj=oom_score_adj(spec, container, bounds.memory_bytes),
        hugepages=_hugepages(limits, bounds),
    )


def inherited_limits(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What a container has that says nothing of its own."""
    own = (spec.get("resources") or {}).get("limits") or {}
    return {name: own[name] for name in ("cpu", "memory") if name in own}


def pod_resources(spec: Mapping[str, Any], bounds: Bounds) -> Resources:
    """The values of the pod's own cgroup (ResourceConfigForPod): its own resources (KEP-2837), or
    the sums of its containers', which bound it when each of them has a limit; and its overhead."""
    own, over = spec.get("resources") or {}, spec.get("overhead") or {}
    requests = total_requests(dict(spec)) | (own.get("requests") or {})
    limits = total_limits(dict(spec)) | (own.get("limits") or {})
    containers = (*spec["containers"], *(spec.get("initContainers") or ()))
    bounded = {
        name
        for name in ("cpu", "memory")
        if name in (own.get("limits") or {})
        or all(name in ((item.get("resources") or {}).get("limits") or ()) for item in containers)
    }
    asked = requests.get("cpu", limits.get("cpu") if "cpu" in bounded else None)
    extra = _milli(over, "cpu")
    cpu = (milli(asked) if asked is not None else 0) + extra
    most = _milli(limits, "cpu") + extra if "cpu" in bounded else 0
    memory = whole(limits["memory"]) if "memory" in bounded else 0
    return Resources(
        cpu_shares=shares(cpu),
        cpu_quota_us=quota(most),
        cpu_period_us=PERIOD_US,
        memory_limit_bytes=memory and memory + whole(over.get("memory", "0")),
        pids_limit=bounds.pod_pids,
        hugepages=_hugepages(limits, bounds),
    )


def larger(one: Resources, other: Resources) -> Resources:
    """Room for both; no limit is the largest."""

    def most(left: int, right: int) -> int:
        return max(left, right) if left and right else 0

    return structs.replace(
        one,
        cpu_shares=max(one.cpu_shares, other.cpu_shares),
        cpu_quota_us=most(one.cpu_quota_us, other.cpu_quota_us),
        memory_limit_bytes=most(one.memory_limit_bytes, other.memory_limit_bytes),
    )


def _hugepages(limits: Mapping[str, Any], bounds: Bounds) -> tuple[tuple[str, int], ...]:
    """Of every size the node has: who asked for none gets none."""
    return tuple(
        (f"{size.removesuffix('i')}B", whole(limits.get(f"hugepages-{size}", "0")))
        for size in bounds.hugepages
    )


def shares(milli_cpu: int) -> int:
    """cgroup v1 cpu.shares of a request."""
    return max(MIN_SHARES, min(milli_cpu * 1024 // 1000, MAX_SHARES))


def quota(milli_cpu: int) -> int:
    """CFS quota of a limit, per period; 0 is none."""
    return max(milli_cpu * PERIOD_US // 1000, MIN_QUOTA_US) if milli_cpu else 0


def _milli(quantities: Mapping[str, Any], name: str) -> int:
    return milli(quantities[name]) if name in quantities else 0
