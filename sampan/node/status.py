"""A pod's status as kubelet writes it: pure, from what the worker knows.

Phase and conditions follow pkg/kubelet getPhase and pkg/kubelet/status/generate.go; container
states follow convertToAPIContainerStatuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from msgspec import Struct

from sampan.api.errors import Object
from sampan.api.kinds.core.podspec.status import may_restart
from sampan.api.times import format_time

from .allocation import WHOLE_POD
from .machine import every_container, is_rewinding
from .quality import qos_class
from .state import (
    EXITED,
    RESTART_ALL,
    RUNNING,
    Attempt,
    PodState,
    any_regular_started,
    is_sidecar,
)
from .volumes.mounted import mount_statuses

RESIZE_PENDING, RESIZE_IN_PROGRESS = "PodResizePending", "PodResizeInProgress"
DISRUPTED, RESTARTING = "DisruptionTarget", "AllContainersRestarting"
DISRUPTIONS = {"Preempting": "Pod was preempted by Kubelet to accommodate a critical pod."}
"""What the condition says where that is not the status's own message, by reason."""
# kubelet's MaxPodTerminationMessageLogLength.
MESSAGES_MAX = 12 * 1024
UNKNOWN_EXIT = 137
UNKNOWN_REASON = "ContainerStatusUnknown"
UNKNOWN_MESSAGE = "The container could not be located when the pod was terminated"


def pod_status(state: PodState, now: float, host_ip: str, host_ips: Sequence[str] = ()) -> Object:
    """The status to send. Conditions keep the transition times of the pod's present ones."""
    old = state.known
    if state.refused:
        return _refused(state, now)
    init = [_container_status(state, item) for item in state.spec.get("initContainers") or ()]
    main = [_container_status(state, item) for item in state.spec["containers"]]
    phase = _phase(state, init, main)
    if old.get("phase") in ("Failed", "Succeeded"):
        # A pod never comes back from its end, whatever is seen of it now.
        phase = old["phase"]
    status: Object = {"phase": phase, "qosClass": old.get("qosClass") or qos_class(state.spec)}
    generation = state.pod["metadata"].get("generation")
    if generation:
        status["observedGeneration"] = generation
    if state.failure and not _may_run(state):
        status["phase"] = phase = "Failed"
        status["reason"], status["message"] = state.failure
    elif phase == old.get("phase"):
        status |= {key: old[key] for key in ("reason", "message") if old.get(key)}
    if host_ip:
        status["hostIP"] = host_ip
        status["hostIPs"] = [{"ip": item} for item in host_ips or (host_ip,)]
    ip = host_ip if state.spec.get("hostNetwork") else state.ip
    if ip:
        status["podIP"] = ip
        # A pod of the host's network has the host's addresses.
        ips = host_ips if state.spec.get("hostNetwork") else state.ips
        status["podIPs"] = [{"ip": item} for item in ips or (ip,)]
    if state.started_at:
        status["startTime"] = format_time(state.started_at)
    if WHOLE_POD in state.allocated:
        promised = state.allocated[WHOLE_POD]
        status["resources"] = state.actuated.get(WHOLE_POD, promised)
        if promised.get("requests"):
            status["allocatedResources"] = promised["requests"]
    if init:
        status["initContainerStatuses"] = init
    # Upstream's order: init containers as they run, the others by name.
    status["containerStatuses"] = sorted(main, key=itemgetter("name"))
    extra = [_container_status(state, item) for item in state.spec.get("ephemeralContainers") or ()]
    if extra:
        status["ephemeralContainerStatuses"] = extra
    _shorten_messages([*init, *main, *extra])
    status["conditions"] = _conditions(state, phase, (init, main), now)
    return status


def _refused(state: PodState, now: float) -> Object:
    """Of a pod the node did not take (rejectPod): why, and nothing of containers, so that lists
    show the reason."""
    reason, message = state.failure or ("", "")
    kept = [dict(item) for item in state.known.get("conditions") or ()]
    status: Object = {
        "phase": "Failed",
        "reason": reason,
        "message": message,
        "qosClass": state.known.get("qosClass") or qos_class(state.spec),
        "startTime": format_time(state.started_at or now),
        "conditions": kept,
    }
    generation = state.pod["metadata"].get("generation")
    if generation:
        status["observedGeneration"] = generation
    return status


def _may_run(state: PodState) -> bool:
    """What may still run keeps its pod from an end that others would take for its own: they start
    a successor, or give away what it holds (mergePodStatus in pkg/kubelet/status)."""
    return not state.stopped and any(
        runs and runs[-1].state != EXITED for runs in state.attempts.values()
    )


def _shorten_messages(statuses: Sequence[Object]) -> None:
    """The termination messages of a pod share a limit, in equal parts."""
    most = MESSAGES_MAX // len(statuses)
    for status in statuses:
        for field in ("state", "lastState"):
            ended = status[field].get("terminated")
            if ended and len(ended.get("message", "")) > most:
                ended["message"] = ended["message"][:most]


class _Tally(Struct):
    """How many containers are in which state, in the words of kubelet's getPhase."""

    pending: int = 0
    failed: int = 0
    running: int = 0
    waiting: int = 0
    stopped: int = 0
    succeeded: int = 0
    restartable: int = 0
    given_up: int = 0
    """Init containers that failed and are not tried again."""


def _phase(state: PodState, init: Sequence[Object], main: Sequence[Object]) -> str:
    """kubelet's getPhase: counts of waiting, running and stopped containers decide."""
    tally = _Tally()
    for container, status in zip(state.spec.get("initContainers") or (), init, strict=True):
        _count_init(tally, state, container, status)
    for container, status in zip(state.spec["containers"], main, strict=True):
        now = status["state"]
        if "running" in now or status["name"] in state.again:
            tally.running += 1
        elif "terminated" in now:
            tally.stopped += 1
            code = now["terminated"]["exitCode"]
            tally.succeeded += code == 0
            tally.restartable += may_restart(container, state.policy, code)
        elif status["lastState"].get("terminated"):
            tally.stopped += 1
            tally.restartable += 1
        else:
            tally.waiting += 1
    if tally.given_up:
        return "Failed"
    if (tally.pending or tally.failed) and not any_regular_started(state):
        return "Failed" if state.stopped and tally.failed else "Pending"
    if tally.waiting:
        return "Pending"
    if tally.running:
        return "Running"
    if tally.restartable and not state.stopped:
        return "Running"
    return "Succeeded" if tally.stopped == tally.succeeded else "Failed"


def _count_init(
    tally: _Tally, state: PodState, container: Mapping[str, Any], status: Object
) -> None:
    now = status["state"]
    ended = now.get("terminated")
    if ended is None and "waiting" in now:
        ended = status["lastState"].get("terminated")
    if is_sidecar(container):
        if "running" in now:
            tally.running += 1
            tally.pending += not status["started"]
        elif ended is None:
            tally.pending += 1
            tally.waiting += 1
    elif ended is None:
        tally.pending += 1
    elif ended["exitCode"] != 0:
        tally.failed += 1
        tally.given_up += not may_restart(container, state.policy, ended["exitCode"])


def _container_status(state: PodState, container: Mapping[str, Any]) -> Object:
    name = container["name"]
    runs = state.attempts.get(name) or ()
    last = runs[-1] if runs else None
    before = runs[-2] if len(runs) > 1 else None
    held = None if state.terminating else state.waiting.get(name)
    status: Object = {
        "name": name,
        "state": {},
        "lastState": {},
        "ready": False,
        "restartCount": last.restart_count if last else 0,
        "image": (last and (last.image_ref or last.image)) or container.get("image", ""),
        "imageID": last.image_id if last else "",
        "started": False,
    }
    if container.get("volumeMounts"):
        status["volumeMounts"] = mount_statuses(container)
    if last is not None and last.id:
        status["containerID"] = f"{last.runtime}://{last.id}"
    if last is not None and last.state == RUNNING and name not in state.hooking:
        health = state.health_of(name)
        status["state"] = {"running": {"startedAt": format_time(last.started_at)}}
        status["started"] = health.started
        status["ready"] = health.started and health.ready
    elif last is not None and last.state == EXITED and held is None:
        status["state"] = {"terminated": terminated(last)}
        status["ready"] = last.exit_code == 0 and _is_plain_init(state, name)
    elif state.stopped and last is None and _is_missing(state, name):
        status["state"] = {"terminated": _unlocated()}
    else:
        status["state"] = {"waiting": _waiting(state, held)}
        if last is not None and last.state == EXITED:
            before = last
    if before is not None:
        status["lastState"] = {"terminated": terminated(before)}
    promised = state.allocated.get(name, container.get("resources") or {})
    running = last is not None and last.state == RUNNING
    has = state.actuated.get(name, promised) if running else promised
    if has or running:
        status["resources"] = has
    if promised.get("requests"):
        status["allocatedResources"] = promised["requests"]
    if last is not None and last.user:
        uid, gid, *groups = last.user
        # The group itself is one of them, as the runtimes report it (KEP-3619).
        all_groups = sorted({gid, *groups})
        status["user"] = {"linux": {"uid": uid, "gid": gid, "supplementalGroups": all_groups}}
    return status


def _is_plain_init(state: PodState, name: str) -> bool:
    return any(
        item["name"] == name and not is_sidecar(item)
        for item in state.spec.get("initContainers") or ()
    )


def _is_missing(state: PodState, name: str) -> bool:
    """Whether a container that never started ought to have: once a pod is initialised all do. One
    that failed before shows them waiting, as upstream does (TerminatePod in pkg/kubelet/status)."""
    if not any(state.attempts.values()):
        return False
    inits = state.spec.get("initContainers") or ()
    runs = [state.last(item["name"]) for item in inits]
    done = [
        run is not None and (is_sidecar(item) or (run.state == EXITED and not run.exit_code))
        for item, run in zip(inits, runs, strict=True)
    ]
    if all(done):
        return True
    # Of the init containers only those before one that has run are missing.
    names = [item["name"] for item in inits]
    return name in names and any(run is not None for run in runs[names.index(name) + 1 :])


def _waiting(state: PodState, held: Any) -> Object:
    if held is None:
        plain = "PodInitializing" if state.spec.get("initContainers") else "ContainerCreating"
        return {"reason": plain}
    out = {"reason": held.reason}
    if held.message:
        out["message"] = held.message
    return out


def terminated(run: Attempt) -> Object:
    """ContainerStateTerminated of an attempt that has exited."""
    out: Object = {
        "exitCode": run.exit_code,
        "reason": run.reason or ("Completed" if run.exit_code == 0 else "Error"),
        # One that never started did so in 1970: what a runtime does not know is its time's zero.
        "startedAt": format_time(run.started_at) if run.started_at or run.id else None,
        "finishedAt": format_time(run.finished_at) if run.finished_at else None,
    }
    if run.message:
        out["message"] = run.message
    if run.id:
        out["containerID"] = f"{run.runtime}://{run.id}"
    return out


def _unlocated() -> Object:
    return {
        "exitCode": UNKNOWN_EXIT,
        "reason": UNKNOWN_REASON,
        "message": UNKNOWN_MESSAGE,
        "startedAt": None,
        "finishedAt": None,
    }


def _conditions(
    state: PodState, phase: str, statuses: tuple[Sequence[Object], Sequence[Object]], now: float
) -> list[Object]:
    init, main = statuses
    containers_ready = _containers_ready(state, phase, init, main)
    api = (state.pod.get("status") or {}).get("conditions") or ()
    found = {item["type"]: item for item in (*api, *(state.known.get("conditions") or ()))}
    verdicts = (
        ("PodReadyToStartContainers", (state.sandbox, "", "")),
        ("Initialized", _initialized(state, phase, init)),
        ("Ready", _ready(state, containers_ready, found)),
        ("ContainersReady", containers_ready),
        ("PodScheduled", (True, "", "")),
    )
    out = [_condition(state, kind, verdict, found.get(kind), now) for kind, verdict in verdicts]
    if any(_names_restart_all(item) for item in every_container(state)):
        told = _restarting_all(state, phase)
        out.append(_condition(state, RESTARTING, told, found.get(RESTARTING), now))
    if state.failure and state.disrupted:
        reason, message = state.failure
        verdict = (True, "TerminationByKubelet", DISRUPTIONS.get(reason, message))
        out.append(_condition(state, DISRUPTED, verdict, found.get(DISRUPTED), now))
    if phase in ("Succeeded", "Failed"):
        return out
    for kind, verdict, generation in _resize_verdicts(state):
        made = _condition(state, kind, verdict, found.get(kind), now)
        out.append(made | {"observedGeneration": generation} if generation else made)
    return out


def _names_restart_all(container: Mapping[str, Any]) -> bool:
    rules = container.get("restartPolicyRules") or ()
    return any(rule.get("action") == RESTART_ALL for rule in rules)


def _restarting_all(state: PodState, phase: str) -> Verdict:
    if phase in ("Succeeded", "Failed"):
        return False, f"Pod{'Completed' if phase == 'Succeeded' else 'Failed'}", ""
    if is_rewinding(state):
        message = "container exited with restart policy rule"
        return True, "RestartAllContainersStarted", message
    return False, "", ""


def _resize_verdicts(state: PodState) -> Iterator[tuple[str, Verdict, int]]:
    """KEP-1287: these two conditions are there only while they are true."""
    pending, under_way = state.resizing.pending, state.resizing.under_way
    if pending is not None:
        yield RESIZE_PENDING, (True, pending.reason, pending.message), pending.generation
    if under_way is not None:
        error = state.resizing.error
        yield RESIZE_IN_PROGRESS, (True, "Error" if error else "", error), under_way


Verdict = tuple[bool, str, str]


def _condition(
    state: PodState, kind: str, verdict: Verdict, old: Object | None, now: float
) -> Object:
    good, reason, message = verdict
    status = "True" if good else "False"
    same = old is not None and old.get("status") == status
    out: Object = {
        "type": kind,
        "status": status,
        "lastProbeTime": None,
        "lastTransitionTime": (
            old["lastTransitionTime"]
            if old is not None and same and old.get("lastTransitionTime")
            else format_time(now)
        ),
        "reason": reason,
        "message": message,
    }
    generation = state.pod["metadata"].get("generation")
    if generation:
        out["observedGeneration"] = generation
    return {key: value for key, value in out.items() if value != ""}


def _names(items: Sequence[str]) -> str:
    """A list the way Go's %s prints it."""
    return f"[{' '.join(items)}]"


def _containers_ready(
    state: PodState, phase: str, init: Sequence[Object], main: Sequence[Object]
) -> Verdict:
    if phase == "Succeeded":
        return False, "PodCompleted", ""
    if phase == "Failed":
        return False, "PodFailed", ""
    sidecars = {item["name"] for item in state.spec.get("initContainers") or () if is_sidecar(item)}
    unready = [
        status["name"]
        for status in (*(item for item in init if item["name"] in sidecars), *main)
        if not status["ready"]
    ]
    if unready:
        message = f"containers with unready status: {_names(unready)}"
        return False, "ContainersNotReady", message
    return True, "", ""


def _ready(state: PodState, containers: Verdict, found: Mapping[str, Object]) -> Verdict:
    if not containers[0]:
        return containers
    missing = []
    for gate in state.spec.get("readinessGates") or ():
        kind = gate["conditionType"]
        if kind not in found:
            missing.append(
                f'corresponding condition of pod readiness gate "{kind}" does not exist.'
            )
        elif found[kind].get("status") != "True":
            missing.append(
                f'the status of pod readiness gate "{kind}" is not "True", '
                f"but {found[kind].get('status')}"
            )
    if missing:
        return False, "ReadinessGatesNotReady", ", ".join(missing)
    return True, "", ""


def _initialized(state: PodState, phase: str, init: Sequence[Object]) -> Verdict:
    if phase == "Succeeded":
        return True, "PodCompleted", ""
    if any_regular_started(state):
        return True, "", ""
    specs = state.spec.get("initContainers") or ()
    incomplete = [
        status["name"]
        for container, status in zip(specs, init, strict=True)
        if not (status["started"] if is_sidecar(container) else status["ready"])
    ]
    if incomplete:
        message = f"containers with incomplete status: {_names(incomplete)}"
        return False, "ContainersNotInitialized", message
    return True, "", ""


def status_patch(old: Mapping[str, Any], new: Object, uid: str) -> Object:
    """The strategic-merge patch of /status that turns `old` into `new`.

    Conditions merge by type there, so what a condition no longer says is removed with null; a pod's
    addresses would merge too, so another address replaces the list. The uid guards the patch
    against a new pod of the same name.
    """
    status = dict(new)
    for key in ("reason", "message"):
        if old.get(key) and not new.get(key):
            status[key] = None
    before = {item["type"]: item for item in old.get("conditions") or ()}
    status["conditions"] = [
        item
        | {
            key: None
            for key in ("reason", "message")
            if key not in item and before.get(item["type"], {}).get(key)
        }
        for item in new["conditions"]
    ]
    said = {item["type"] for item in new["conditions"]}
    status["conditions"] += [
        {"type": kind, "$patch": "delete"}
        for kind in (RESIZE_PENDING, RESIZE_IN_PROGRESS)
        if kind in before and kind not in said
    ]
    if old.get("podIPs") and new.get("podIPs") and old["podIPs"] != new["podIPs"]:
        status["podIPs"] = [*new["podIPs"], {"$patch": "replace"}]
    return {"metadata": {"uid": uid}, "status": status}
