"""/metrics/resources: what pods ask for and may have, as kube-scheduler tells it there.

Pods that have ended are left out. Amounts are those the scheduler counts: of the pod as a whole
where it says so, else of its containers, with its overhead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from sampan.api.errors import Object
from sampan.api.kinds.core.podspec.resources import total_limits, total_requests
from sampan.api.resources import resource
from sampan.wire.quantity import add, nanos

if TYPE_CHECKING:
    from .app import Server

ENDED = ("Succeeded", "Failed")
BYTES = ("memory", "storage", "ephemeral-storage")
METRICS = (
    (
        "kube_pod_resource_limit",
        "Resources limit for workloads on the cluster, broken down by pod.",
        total_limits,
        "limits",
    ),
    (
        "kube_pod_resource_request",
        "Resources requested by workloads on the cluster, broken down by pod.",
        total_requests,
        "requests",
    ),
)


def exposition(server: Server) -> bytes:
    """Prometheus text. Proportional to the pods there are: for scrapers, not for a hot path."""
    records = server.store.range(resource("pods").storage).records
    return ("\n".join(lines(server.cache.peek(record) for record in records)) + "\n").encode()


def lines(pods: Iterator[Object]) -> Iterator[str]:
    listed = [pod for pod in pods if (pod.get("status") or {}).get("phase") not in ENDED]
    for name, text, total, field in METRICS:
        yield f"# HELP {name} [STABLE] {text}"
        yield f"# TYPE {name} gauge"
        for pod in listed:
            spec, labels = pod["spec"], _labels(pod)
            amounts = total(spec) | ((spec.get("resources") or {}).get(field) or {})
            for wanted, amount in _with_overhead(amounts, spec.get("overhead") or {}, field):
                unit = _unit(wanted)
                value = nanos(amount) / 1e9
                yield f'{name}{{{labels},resource="{wanted}",unit="{unit}"}} {value:.12g}'


def _with_overhead(
    amounts: Mapping[str, str], overhead: Mapping[str, str], field: str
) -> Iterator[tuple[str, str]]:
    """Limits grow by it only where there are some (PodLimits)."""
    for name in sorted({*amounts, *(overhead if field == "requests" else ())}):
        amount = amounts.get(name, "0")
        yield name, add(amount, overhead[name]) if name in overhead else amount


def _labels(pod: Object) -> str:
    meta, spec = pod["metadata"], pod["spec"]
    pairs = {
        "namespace": meta["namespace"],
        "pod": meta["name"],
        "node": spec.get("nodeName") or "",
        "scheduler": spec.get("schedulerName") or "",
        "priority": "" if spec.get("priority") is None else spec["priority"],
    }
    return ",".join(f'{key}="{value}"' for key, value in pairs.items())


def _unit(resource: str) -> str:
    if resource == "cpu":
        return "cores"
    if resource in BYTES or resource.startswith("hugepages-"):
        return "bytes"
    return "integer" if resource == "pods" or "attachable-volumes-" in resource else ""
