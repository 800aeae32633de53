"""The table: for each kind the functions that look for causes, the most telling first. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from . import (
    autoscalers,
    budgets,
    claims,
    containers,
    ingresses,
    machines,
    pods,
    policies,
    schedules,
    scheduling,
    services,
    spaces,
    starting,
    strangers,
    workloads,
)
from .facts import Facts, Finding

Finder = Callable[[Facts], Iterator[Finding]]

WORKLOAD: tuple[Finder, ...] = (
    spaces.kept,
    workloads.paused,
    workloads.scaled_to_nothing,
    workloads.refused,
    workloads.progress,
    workloads.ordered,
    workloads.eligible,
    workloads.behind,
    workloads.counts,
)
FINDERS: dict[str, tuple[Finder, ...]] = {
    "Pod": (
        pods.leaving,
        pods.disrupted,
        pods.ended,
        pods.silent_node,
        scheduling.gated,
        scheduling.no_node,
        scheduling.undecided,
        scheduling.unscheduled,
        starting.sandbox,
        starting.image,
        starting.configuration,
        containers.crashing,
        containers.probes,
        containers.waiting_for_init,
        containers.not_ready,
        pods.starting,
        pods.well,
        policies.isolated,
    ),
    "Deployment": WORKLOAD,
    "ReplicaSet": WORKLOAD,
    "ReplicationController": WORKLOAD,
    "StatefulSet": WORKLOAD,
    "DaemonSet": WORKLOAD,
    "Job": (spaces.kept, workloads.refused, workloads.job),
    "CronJob": (
        spaces.kept,
        schedules.suspended,
        schedules.unreadable,
        workloads.refused,
        schedules.busy,
        schedules.missed,
        schedules.last_run,
        schedules.times,
    ),
    "HorizontalPodAutoscaler": (
        spaces.kept,
        autoscalers.unable,
        autoscalers.inactive,
        autoscalers.limited,
        autoscalers.steady,
    ),
    "PodDisruptionBudget": (
        spaces.kept,
        budgets.matches_nothing,
        budgets.failed,
        budgets.overlapping,
        budgets.shut,
        budgets.open_,
    ),
    "Ingress": (
        spaces.kept,
        ingresses.unclaimed,
        ingresses.backends,
        ingresses.certificates,
        ingresses.addressed,
    ),
    "NetworkPolicy": (spaces.kept, policies.meant),
    "Node": (
        spaces.kept,
        machines.silent,
        machines.pressed,
        machines.cordoned,
        machines.ready,
        machines.tainted,
    ),
    "Namespace": (spaces.emptying, spaces.kept, spaces.active, spaces.used_up),
    "PersistentVolumeClaim": (claims.leaving, claims.bound, claims.unbound),
    "Service": (
        spaces.kept,
        services.no_selector,
        services.matches_nothing,
        services.none_ready,
        services.ports,
        services.balancer,
        services.answers,
        policies.isolated,
    ),
}
STRANGER: tuple[Finder, ...] = (
    spaces.kept,
    strangers.conditions,
    strangers.warned,
    strangers.well,
)
"""Of kinds that are not in the table."""
NOTHING = Finding("unknown", "Nothing that is stored says that anything is wrong.", broken=False)


def findings_of(facts: Facts) -> list[Finding]:
    """All that is found of one object; what is broken first, and good news only without it."""
    found = [item for finder in FINDERS.get(facts.kind, STRANGER) for item in finder(facts)]
    notes = [item for item in found if item.note]
    broken = [item for item in found if item.broken]
    good = [item for item in found if not item.broken and not item.note]
    return [*(broken or good[:1] or [NOTHING]), *notes]


def chain_of(facts: Facts) -> list[str]:
    """Who made it, up to who decides how many there are."""
    out = []
    for owner in facts.owners:
        name = f"{owner['kind']} {owner['metadata']['name']}"
        spec = owner.get("spec") or {}
        if owner["kind"] == "HorizontalPodAutoscaler":
            least, most = spec.get("minReplicas", 1), spec.get("maxReplicas")
            wanted = (owner.get("status") or {}).get("desiredReplicas")
            wants = f"wants {wanted}" if wanted else "cannot tell how many"
            out.append(f"{name} ({least} to {most} replicas, {wants})")
        elif isinstance(spec.get("replicas"), int):
            out.append(f"{name} ({spec['replicas']} replicas)")
        else:
            out.append(name)
    return out


def parts_of(facts: Facts) -> list[Facts]:
    """The parts that have more to say than the object itself."""
    known = {item.cause for item in findings_of(facts)}
    return [
        part
        for part in facts.parts
        if part.kind == "Pod" or not {item.cause for item in findings_of(part)} <= known
    ]


def grouped(parts: list[Facts]) -> list[tuple[list[Facts], list[Finding]]]:
    """Parts with the same causes are told once, by the one that comes first."""
    found: dict[tuple[str, ...], tuple[list[Facts], list[Finding]]] = {}
    for part in parts:
        findings = findings_of(part)
        key = tuple(item.cause for item in findings)
        found.setdefault(key, ([], findings))[0].append(part)
    # Those with something broken first.
    return sorted(found.values(), key=lambda item: not any(one.broken for one in item[1]))
