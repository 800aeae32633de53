"""Runs of containers: what the runtime reports, and what only the pod's status remembers."""

from __future__ import annotations

import calendar
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from sampan.api.errors import Object
from sampan.runtime.interface import Container, Image, Images, State

from .logs import tail_text
from .machine import is_finished
from .state import CREATED, EXITED, RUNNING, Attempt, Health, PodState
from .status import UNKNOWN_EXIT, UNKNOWN_MESSAGE, UNKNOWN_REASON
from .translate import CONTAINER_NAME, IMAGE_NAME, RESTART_COUNT, TERMINATION_FILE

STATUS_FIELDS = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
STATES = {State.CREATED: CREATED, State.RUNNING: RUNNING, State.EXITED: EXITED}
# Upstream's limits: pkg/kubelet/container MaxContainerTerminationMessageLength and its log kin.
MESSAGE_MAX = 4096
LOG_MESSAGE_MAX = 2048
LOG_MESSAGE_LINES = 80
# Killed by SIGKILL: the exit code with which an OOM kill shows.
KILLED = 137


def attempt_of(
    container: Container, spec: Mapping[str, Any] | None = None, image: Image | None = None
) -> Attempt:
    """A run as the runtime knows it; `spec` (the pod's container) tells how to get its message."""
    state = STATES[container.state]
    reason = message = ""
    if state == EXITED:
        reason = "Completed" if container.exit_code == 0 else "Error"
        if container.oom_killed and container.exit_code:
            reason = "OOMKilled"
        reason = container.reason or reason
        message = termination_message(container, spec or {})
    return Attempt(
        id=container.id,
        restart_count=int(container.annotations.get(RESTART_COUNT) or 0),
        state=state,
        image=container.annotations.get(IMAGE_NAME, ""),
        image_ref=image.tags[0] if image is not None and image.tags else "",
        image_id=image.digests[0] if image is not None and image.digests else container.image,
        started_at=container.started_at,
        finished_at=container.finished_at,
        exit_code=container.exit_code,
        reason=reason,
        message=message,
        user=tuple(container.user),
        runtime=container.runtime,
    )


def termination_message(container: Container, spec: Mapping[str, Any]) -> str:
    """What the container wrote to its termination file, or its last words if it asks for them."""
    path = container.annotations.get(TERMINATION_FILE, "")
    text = ""
    if path:
        try:
            with Path(path).open("rb") as file:
                # The end of what was written is what counts, as upstream.
                file.seek(max(0, file.seek(0, os.SEEK_END) - MESSAGE_MAX))
                text = file.read(MESSAGE_MAX).decode("utf-8", "replace")
        except OSError:
            text = ""
    wants_log = spec.get("terminationMessagePolicy") == "FallbackToLogsOnError"
    if not text and wants_log and container.exit_code != 0:
        text = tail_text(container.log_path, LOG_MESSAGE_LINES, LOG_MESSAGE_MAX)
    return text


def group_attempts(
    containers: Iterable[Container], specs: Mapping[str, Mapping[str, Any]], images: Images
) -> dict[str, list[Attempt]]:
    """By container name, oldest first."""
    out: dict[str, list[Attempt]] = {}
    for container in containers:
        name = container.annotations.get(CONTAINER_NAME, "")
        if not name:
            # It holds the pod's namespaces (pause.py).
            continue
        image = images.find(container.image)
        out.setdefault(name, []).append(attempt_of(container, specs.get(name), image))
    for runs in out.values():
        runs.sort(key=lambda run: (run.restart_count, run.started_at))
    return out


def remembered(status: Object) -> Attempt | None:
    """The last run a container status tells of, when the runtime has lost it (a reboot)."""
    now, last = status.get("state") or {}, status.get("lastState") or {}
    ended = now.get("terminated") or ("waiting" in now and last.get("terminated"))
    runtime, _, known = status.get("containerID", "").partition("://")
    if ended:
        return Attempt(
            id=ended.get("containerID", "").partition("://")[2] or known,
            runtime=runtime,
            restart_count=status.get("restartCount", 0),
            state=EXITED,
            image_ref=status.get("image", ""),
            image_id=status.get("imageID", ""),
            started_at=seconds_of(ended.get("startedAt")),
            finished_at=seconds_of(ended.get("finishedAt")),
            exit_code=ended.get("exitCode", 0),
            reason=ended.get("reason", ""),
            message=ended.get("message", ""),
        )
    if "running" not in now:
        return None
    return Attempt(
        id=known,
        runtime=runtime,
        restart_count=status.get("restartCount", 0),
        state=EXITED,
        image_ref=status.get("image", ""),
        image_id=status.get("imageID", ""),
        started_at=seconds_of(now["running"].get("startedAt")),
        exit_code=UNKNOWN_EXIT,
        reason=UNKNOWN_REASON,
        message=UNKNOWN_MESSAGE,
    )


def remember_lost(state: PodState) -> None:
    """Runs that only the pod's status tells of, and their ends: the machine was started anew."""
    for status in _statuses(state):
        name = status["name"]
        lost = None if state.attempts.get(name) else remembered(status)
        if lost is not None:
            state.attempts[name] = [lost]
    for name in [name for name, runs in state.attempts.items() if not runs]:
        del state.attempts[name]
    _believe_told(state)
    if state.rebooted:
        _begin_again(state)


def _believe_told(state: PodState) -> None:
    """Of a run that ended, what the API was told counts: nothing of it can have changed since, but
    the runtime may have forgotten how it ended (a reboot)."""
    told = {
        run.id: run
        for status in _statuses(state)
        for field in ("state", "lastState")
        if ((status.get(field) or {}).get("terminated") or {}).get("containerID")
        and (run := remembered({**status, "state": status[field], "lastState": {}}))
    }
    for runs in state.attempts.values():
        for index, run in enumerate(runs):
            known = told.get(run.id)
            if known is not None and run.state == EXITED:
                runs[index] = replace(
                    run,
                    started_at=known.started_at,
                    finished_at=known.finished_at,
                    exit_code=known.exit_code,
                    reason=known.reason,
                    message=known.message,
                )


def _begin_again(state: PodState) -> None:
    """The machine was started anew, and the pod with it: from its first init container, unless it
    is never restarted or has nothing left to do (computePodActions, of a pod without a sandbox)."""
    over = state.known.get("phase") in ("Succeeded", "Failed")
    if over or state.policy == "Never" or is_finished(state):
        return
    old = {name for name, runs in state.attempts.items() if runs[-1].id in state.rebooted}
    regular = {item["name"] for item in state.spec["containers"]}
    if (state.attempts.keys() & regular) - old:
        # An agent before us has brought it that far again.
        return
    state.fresh = old
    # Those added for debugging run once.
    state.again = old & {item["name"] for item in state.spec.get("initContainers") or ()}


def known_health(state: PodState, name: str, run: Attempt) -> Health | None:
    """What the API last said of a container that ran on without us."""
    for status in _statuses(state):
        if status["name"] == name and status.get("containerID", "").endswith(run.id):
            return Health(bool(status.get("started")), bool(status.get("ready")))
    return None


def _statuses(state: PodState) -> Iterator[Object]:
    """Of all containers, as the API has them."""
    for field in STATUS_FIELDS:
        yield from state.known.get(field) or ()


def seconds_of(text: str | None) -> float:
    """A metav1.Time as seconds since the epoch; 0 for none."""
    if not text:
        return 0
    return float(calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")))
