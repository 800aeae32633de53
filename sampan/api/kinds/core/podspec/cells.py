"""The row of a pod in a table: readiness, the one-word status, restarts (printPod)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from ....descriptor import Column
from ....errors import Object
from ...printing import AGE, NAME, NONE, age, name, since

COLUMNS = (
    NAME,
    Column("Ready", "string", "The aggregate readiness state of this pod for accepting traffic."),
    Column("Status", "string", "The aggregate status of the containers in this pod."),
    Column(
        "Restarts",
        "string",
        "The number of times the containers in this pod have been restarted and when the last "
        "container in this pod has restarted.",
    ),
    AGE,
    Column("IP", "string", "The pod's address.", "", 1),
    Column("Node", "string", "The node the pod is assigned to.", "", 1),
    Column("Nominated Node", "string", "The node kept free for the pod.", "", 1),
    Column("Readiness Gates", "string", "Readiness gates that are true, of all.", "", 1),
)


class Tally(Struct):
    """What the containers' statuses add up to."""

    reason: str
    ready: int = 0
    restarts: int = 0
    last_restart: str = ""
    sidecar_restarts: int = 0
    sidecar_last_restart: str = ""
    initializing: bool = False
    running: bool = False


def pod_cells(pod: Object, now_s: float) -> list[Any]:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    tally = Tally(_first_reason(status))
    init: Sequence[Object] = spec.get("initContainers") or ()
    sidecars = {item["name"] for item in init if item.get("restartPolicy") == "Always"}
    if status.get("initContainerStatuses"):
        _tally_init(status["initContainerStatuses"], sidecars, len(init), tally)
    if not tally.initializing or _condition(status, "Initialized") == "True":
        _tally_regular(status, tally)
    reason = tally.reason
    if "deletionTimestamp" in pod["metadata"]:
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            reason = "Terminating"
    restarts = str(tally.restarts)
    if tally.restarts and tally.last_restart:
        restarts = f"{restarts} ({since(tally.last_restart, now_s)} ago)"
    total = len(spec.get("containers") or ()) + len(sidecars)
    addresses = status.get("podIPs")
    address = addresses[0].get("ip") if addresses else status.get("podIP")
    return [
        name(pod),
        f"{tally.ready}/{total}",
        reason,
        restarts,
        age(pod, now_s),
        address or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _gates(spec, status),
    ]


def _first_reason(status: Object) -> str:
    for item in status.get("conditions") or ():
        if item.get("type") == "PodScheduled" and item.get("reason") == "SchedulingGated":
            return "SchedulingGated"
    return status.get("reason") or status.get("phase") or ""


def _condition(status: Object, kind: str) -> str:
    for item in status.get("conditions") or ():
        if item.get("type") == kind:
            text: str = item.get("status", "")
            return text
    return ""


def _finished(item: Object) -> str:
    last = (item.get("lastState") or {}).get("terminated") or {}
    text: str = last.get("finishedAt") or ""
    return text


def _tally_init(statuses: Sequence[Object], sidecars: set[str], total: int, tally: Tally) -> None:
    """Counts until the first container that is not through with its work."""
    for position, item in enumerate(statuses):
        count = item.get("restartCount") or 0
        sidecar = item.get("name") in sidecars
        tally.restarts += count
        tally.last_restart = max(tally.last_restart, _finished(item))
        if sidecar:
            tally.sidecar_restarts += count
            tally.sidecar_last_restart = max(tally.sidecar_last_restart, _finished(item))
        state = item.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting") or {}
        if ended is not None and not ended.get("exitCode"):
            continue
        if sidecar and item.get("started"):
            tally.ready += bool(item.get("ready"))
            continue
        if ended is not None:
            tally.reason = f"Init:{_ended(ended)}"
        elif waiting.get("reason") not in (None, "", "PodInitializing"):
            tally.reason = f"Init:{waiting['reason']}"
        else:
            tally.reason = f"Init:{position}/{total}"
        tally.initializing = True
        return


def _ended(state: Object) -> str:
    if state.get("reason"):
        text: str = state["reason"]
        return text
    if state.get("signal"):
        return f"Signal:{state['signal']}"
    return f"ExitCode:{state.get('exitCode') or 0}"


def _tally_regular(status: Object, tally: Tally) -> None:
    tally.restarts, tally.last_restart = tally.sidecar_restarts, tally.sidecar_last_restart
    for item in reversed(status.get("containerStatuses") or ()):
        tally.restarts += item.get("restartCount") or 0
        tally.last_restart = max(tally.last_restart, _finished(item))
        state = item.get("state") or {}
        waiting = (state.get("waiting") or {}).get("reason")
        if waiting:
            tally.reason = waiting
        elif state.get("terminated") is not None:
            tally.reason = _ended(state["terminated"])
        elif item.get("ready") and state.get("running") is not None:
            tally.running = True
            tally.ready += 1
    if tally.reason == "Completed" and tally.running:
        ready = _condition(status, "Ready") == "True"
        tally.reason = "Running" if ready else "NotReady"


def _gates(spec: Object, status: Object) -> str:
    gates = spec.get("readinessGates")
    if not gates:
        return NONE
    true = sum(_condition(status, gate.get("conditionType", "")) == "True" for gate in gates)
    return f"{true}/{len(gates)}"
