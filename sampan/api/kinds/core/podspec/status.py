"""Validation of a pod's status (ValidatePodStatusUpdate)."""

from __future__ import annotations

from collections.abc import Sequence

from .... import fields
from ....errors import Cause, Object
from ...formats import check_ip, check_subdomain, dual_stack
from .validate import check_conditions

STILL = "may not be transitioned to non-terminated state"
KNOWN_CONDITIONS = frozenset({
    "PodScheduled", "Ready", "Initialized", "ContainersReady", "PodReadyToStartContainers",
    "DisruptionTarget", "PodResizePending", "PodResizeInProgress",
})  # fmt: skip


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
    sidecars = {
        item["name"]
        for item in spec.get("initContainers") or ()
        if item.get("restartPolicy") == "Always"
    }
    for name, rule, free in (
        ("containerStatuses", policy, set()),
        ("initContainerStatuses", policy, sidecars),
        ("ephemeralContainerStatuses", "Never", set()),
    ):
        if rule != "Always" and before.get(name):
            _check_transitions(
                status.get(name) or (),
                before[name],
                name,
                out,
                on_failure=rule == "OnFailure",
                free=free,
            )
    for name in ("podIPs", "hostIPs"):
        if status.get(name) and status[name] != before.get(name):
            _check_addresses(status, name, out)


def _check_transitions(
    new: Sequence[Object], old: Sequence[Object], name: str, out: list[Cause], *, on_failure: bool,
    free: set[str],
) -> None:  # fmt: skip
    """A container that may not restart stays terminated. `on_failure`: failed ones may restart;
    `free`: sidecars, which always may."""
    states = {item.get("name"): item.get("state") or {} for item in new}
    for position, item in enumerate(old):
        ended = (item.get("state") or {}).get("terminated")
        if ended is None or item.get("name") in free:
            continue
        if ended.get("exitCode") and on_failure:
            continue
        state = states.get(item.get("name"))
        if state is not None and state.get("terminated") is None:
            out.append(fields.forbidden(f"status.{name}[{position}].state", STILL))


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
