"""Validation of a pod's status (ValidatePodStatusUpdate)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .... import fields
from ....errors import Cause, Object
from ...addresses import check_ip, dual_stack
from ...formats import check_subdomain
from .containerstatus import check_container_statuses
from .validate import check_conditions

STILL = "may not be transitioned to non-terminated state"
KNOWN_CONDITIONS = frozenset({
    "PodScheduled", "Ready", "Initialized", "ContainersReady", "PodReadyToStartContainers",
    "DisruptionTarget", "PodResizePending", "PodResizeInProgress",
})  # fmt: skip


def keep_observed(new: Object, old: Object) -> None:
    """A writer of /status that knows of no observedGeneration takes none away (KEP-5067)."""
    status, before = new.get("status") or {}, old.get("status") or {}
    if before.get("observedGeneration") and not status.get("observedGeneration"):
        status = new["status"] = {**status, "observedGeneration": before["observedGeneration"]}
    conditions: Sequence[Object] = status.get("conditions") or ()
    if all(item.get("observedGeneration") for item in conditions):
        return
    # A type may stand there more than once: they go by their order.
    known: dict[Any, list[int]] = {}
    for item in before.get("conditions") or ():
        known.setdefault(item.get("type"), []).append(item.get("observedGeneration") or 0)
    kept = []
    for item in conditions:
        queue = known.get(item.get("type"))
        seen = queue.pop(0) if queue else 0
        missing = seen and not item.get("observedGeneration")
        kept.append({**item, "observedGeneration": seen} if missing else item)
    new["status"] = {**status, "conditions": kept}


def check_status(new: Object, old: Object, out: list[Cause]) -> None:
    """`new` and `old` are pods that differ in status."""
    status, before = new.get("status") or {}, old.get("status") or {}
    conditions = status.get("conditions") or ()
    if any(item.get("type") not in KNOWN_CONDITIONS for item in conditions):
        check_conditions(conditions, "metadata.conditions", out)
    nominated = status.get("nominatedNodeName")
    if nominated and nominated != before.get("nominatedNodeName"):
        check_subdomain(nominated, "status.nominatedNodeName", out)
    quality = status.get("qosClass")
    if before.get("qosClass") and quality != before["qosClass"]:
        out.append(fields.immutable("status.qosClass", quality or ""))
    spec = old.get("spec") or {}
    policy = spec.get("restartPolicy") or "Always"
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    if any(map(_restarts_all, containers)):
        # One container's exit may start any other anew.
        policy = "Always"
    for name, rule, owners in (
        ("containerStatuses", policy, spec.get("containers")),
        ("initContainerStatuses", policy, spec.get("initContainers")),
        ("ephemeralContainerStatuses", "Never", ()),
    ):
        if rule != "Always" and before.get(name):
            states = (status.get(name) or (), before[name])
            _check_transitions(states, f"status.{name}", rule, owners or (), out)
    _check_claims(status, spec, out)
    check_container_statuses(status, spec, out)
    for name in ("podIPs", "hostIPs"):
        if status.get(name) and status[name] != before.get(name):
            _check_addresses(status, name, out)


def _check_transitions(
    states: tuple[Sequence[Object], Sequence[Object]],
    path: str,
    rule: str,
    containers: Sequence[Object],
    out: list[Cause],
) -> None:
    """A container that may not restart stays terminated. `states`: new and old; `rule`: the pod's
    restart policy."""
    found = {item.get("name"): item.get("state") or {} for item in states[0]}
    owners = {item.get("name"): item for item in containers}
    for position, item in enumerate(states[1]):
        ended = (item.get("state") or {}).get("terminated")
        if ended is None:
            continue
        code = ended.get("exitCode") or 0
        if may_restart(owners.get(item.get("name")) or {}, rule, code):
            continue
        state = found.get(item.get("name"))
        if state is not None and state.get("terminated") is None:
            out.append(fields.forbidden(f"{path}[{position}].state", STILL))


def may_restart(container: Mapping[str, Any], rule: str, code: int) -> bool:
    """May a container that ended so run again? Its own policy counts before the pod's, and its
    rules before its policy (KEP-5307)."""
    for item in container.get("restartPolicyRules") or ():
        codes = item.get("exitCodes") or {}
        if (code in (codes.get("values") or ())) == (codes.get("operator") == "In"):
            return True
    policy = container.get("restartPolicy") or rule
    return policy == "Always" or (policy == "OnFailure" and code != 0)


def _restarts_all(container: Object) -> bool:
    rules = container.get("restartPolicyRules") or ()
    return any(item.get("action") == "RestartAllContainers" for item in rules)


def _check_claims(status: Object, spec: Object, out: list[Cause]) -> None:
    known = {item.get("name") for item in spec.get("resourceClaims") or ()}
    seen: set[str] = set()
    for position, item in enumerate(status.get("resourceClaimStatuses") or ()):
        path, name = f"status.resourceClaimStatuses[{position}].name", item.get("name") or ""
        if name not in known:
            why = "must match the name of an entry in `spec.resourceClaims`"
            out.append(fields.invalid(path, name, why))
        if name in seen:
            out.append(fields.duplicate(path, name))
        seen.add(name)
        if item.get("resourceClaimName") is not None:
            check_subdomain(item["resourceClaimName"], path, out)


def _check_addresses(status: Object, name: str, out: list[Cause]) -> None:
    path = f"status.{name}"
    entries = status[name]
    addresses = [item.get("ip") or "" for item in entries]
    if name == "hostIPs" and addresses[0] != (status.get("hostIP") or ""):
        why = "must be equal to `hostIP`"
        out.append(fields.invalid(f"{path}[0].ip", addresses[0], why))
    for position, address in enumerate(addresses):
        check_ip(address, f"{path}[{position}]", out)
    if len(addresses) > 1:
        if len(addresses) > 2 or not dual_stack(addresses):
            why = "may specify no more than one IP for each IP family"
            out.append(fields.invalid(path, entries, why))
        for position, address in enumerate(addresses):
            if address in addresses[:position]:
                out.append(fields.duplicate(f"{path}[{position}]", entries[position]))
